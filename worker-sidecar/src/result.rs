//! From an [`Outcome`] to the update that is sent. Pure.

use std::time::Duration;

use conductor_client::{Task, TaskLog, TaskResult, TaskStatus, UpdateStatus};
use serde::{Deserialize, Serialize};

use crate::{
    lease::Lease,
    outcome::{End, Fault, Outcome},
    reason::Reason,
};

/// The server keeps the first ten log lines of an update; the others are sent one by one.
const LOGS_PER_UPDATE: usize = 10;

/// Conductor keeps `callbackAfterSeconds` in 32 bits with a sign, and counts on with more.
const LONGEST_CALLBACK: u64 = (1 << 31) - 1;

/// Server and sidecar count whole seconds, and an update takes a moment to arrive.
const MARGIN: Duration = Duration::from_secs(1);

/// An update, the log lines that do not fit into it, and what is needed to deliver it later,
/// maybe from another process.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The task's type.
    pub task_type: String,
    /// The task's lease, in seconds; 0 for none. It is kept until the report is taken.
    pub lease_seconds: u64,
    /// How often the task had been delivered, this time included; 0 where that is not known.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub poll_count: u32,
    /// Of one that goes back: what bounds its time. None where nothing does, or where that is
    /// not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued: Option<Queued>,
    /// The update.
    pub update: TaskResult,
    /// To be sent one by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more_logs: Vec<String>,
}

/// How long a task may be on its way to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Queued {
    /// When it was scheduled, in epoch milliseconds of this machine's clock.
    pub since: i64,
    /// `pollTimeoutSeconds`.
    pub at_most: u64,
}

/// `now_ms`: for log lines without a time.
pub fn report(
    task: &Task,
    task_type: &str,
    worker_id: &str,
    outcome: Outcome,
    now_ms: i64,
) -> Report {
    let (status, callback) = match outcome.end {
        End::Completed => (UpdateStatus::Completed, 0),
        End::Failed(_) => (UpdateStatus::Failed, 0),
        End::Terminal(_) => (UpdateStatus::FailedWithTerminalError, 0),
        End::Canceled => (UpdateStatus::Canceled, 0),
        End::Deferred { after } | End::HandedBack { after, .. } => {
            (UpdateStatus::InProgress, after.min(LONGEST_CALLBACK))
        }
    };
    // An IN_PROGRESS update without an output would wipe what an earlier one stored.
    let stored = || {
        task.output_data()
            .filter(|_| status == UpdateStatus::InProgress)
    };
    let mut logs = outcome.logs;
    let more = logs.split_off(logs.len().min(LOGS_PER_UPDATE));
    for log in &mut logs {
        if log.created_time == 0 {
            log.created_time = now_ms;
        }
    }
    Report {
        task_type: task_type.to_owned(),
        lease_seconds: task.response_timeout_seconds(),
        poll_count: task.poll_count(),
        queued: None,
        update: TaskResult {
            workflow_instance_id: task.workflow_id().to_owned(),
            task_id: task.task_id().to_owned(),
            status,
            worker_id: worker_id.to_owned(),
            output_data: outcome.output.or_else(stored),
            reason_for_incompletion: outcome.reason,
            callback_after_seconds: callback,
            logs,
        },
        more_logs: more.into_iter().map(|TaskLog { log, .. }| log).collect(),
    }
}

impl Report {
    /// What is sent instead of a report that the server refuses again and again: without it
    /// the task would wait for its lease to end, and its next attempt would end the same way.
    #[must_use]
    pub fn instead(&self, why: &str) -> Self {
        let reason = Reason::new(&format!("Conductor did not take the task's result: {why}"));
        Self {
            task_type: self.task_type.clone(),
            lease_seconds: self.lease_seconds,
            poll_count: self.poll_count,
            queued: None,
            update: TaskResult {
                workflow_instance_id: self.update.workflow_instance_id.clone(),
                task_id: self.update.task_id.clone(),
                status: UpdateStatus::FailedWithTerminalError,
                worker_id: self.update.worker_id.clone(),
                output_data: None,
                reason_for_incompletion: Some(reason.text),
                callback_after_seconds: 0,
                logs: Vec::new(),
            },
            more_logs: Vec::new(),
        }
    }

    /// How long its lease lasts.
    pub fn lease_length(&self) -> Duration {
        Duration::from_secs(self.lease_seconds)
    }

    /// About how large it is, by what may be large.
    pub fn bytes(&self) -> usize {
        let output = self.update.output_data.as_ref();
        let logs = self.update.logs.iter().map(|line| line.log.len());
        output.map_or(0, |json| json.get().len()) + logs.sum::<usize>()
    }

    /// Whether it puts the task back into its queue. Terminal updates the server takes once and
    /// ignores from then on; this one would take the task from whoever polled it meanwhile.
    pub fn goes_back(&self) -> bool {
        self.update.status == UpdateStatus::InProgress
    }

    /// Whether the task, as the server has it, is still held by the delivery that this report
    /// ends. What is not known is not compared.
    pub fn is_open(&self, task: &Task) -> bool {
        let deliveries = [self.poll_count, task.poll_count()];
        let (holder, me) = (task.worker_id(), self.update.worker_id.as_str());
        task.status() == TaskStatus::InProgress
            && holder.is_none_or(|holder| holder == me)
            && (deliveries.contains(&0) || deliveries[0] == deliveries[1])
    }

    /// Remembers until when it may go back: `waited` is the time since `scheduledTime`.
    #[must_use]
    pub fn queued(self, poll_timeout: Option<u64>, waited: Duration, now_ms: i64) -> Self {
        let waited = i64::try_from(waited.as_millis()).unwrap_or(i64::MAX);
        let queued = poll_timeout.filter(|_| self.goes_back());
        let queued = queued.map(|at_most| Queued {
            since: now_ms.saturating_sub(waited),
            at_most,
        });
        Self { queued, ..self }
    }

    /// Makes a failure of one that may not go back any more, by the rule of
    /// `pollTimeoutSeconds`: it may have waited for the server. Whether it did.
    pub fn fail_if_late(&mut self, now_ms: i64) -> bool {
        let too_late = self.queued.and_then(|queued| {
            let waited = u64::try_from(now_ms.saturating_sub(queued.since)).unwrap_or(0);
            too_late(queued.at_most, Duration::from_millis(waited))
        });
        let Some(reason) = too_late else {
            return false;
        };
        self.queued = None;
        self.update.status = UpdateStatus::Failed;
        self.update.output_data = None;
        self.update.reason_for_incompletion = Some(reason.text);
        self.update.callback_after_seconds = 0;
        true
    }

    /// The lease to keep until it is taken.
    pub fn lease(&self) -> Lease {
        Lease {
            workflow_id: self.update.workflow_instance_id.clone(),
            task_id: self.update.task_id.clone(),
            length: self.lease_length(),
        }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// The rule of `pollTimeoutSeconds`: Conductor times a scheduled task out, and with it as a
/// rule its workflow, once `now − scheduledTime ≥ pollTimeoutSeconds + callbackAfterSeconds`;
/// `scheduledTime` is that of the first delivery. It looks when the task is handed back, and on
/// Redis at that very moment. A later callback does not help: the task comes back
/// `callbackAfterSeconds` after the hand-back, which is past the moment by as much as the
/// hand-back was late (tests/conformance shows it). So a task that has waited and run for longer
/// is failed instead, and retried.
///
/// `waited` is the time since `scheduledTime`.
#[must_use]
pub fn around_poll_timeout(
    outcome: Outcome,
    poll_timeout: Option<u64>,
    waited: Duration,
) -> Outcome {
    let goes_back = matches!(outcome.end, End::Deferred { .. } | End::HandedBack { .. });
    let limit = poll_timeout.filter(|_| goes_back);
    match limit.and_then(|limit| too_late(limit, waited)) {
        Some(reason) => Outcome::failed(End::Failed(Fault::PollTimeout), reason),
        None => outcome,
    }
}

fn too_late(poll_timeout: u64, waited: Duration) -> Option<Reason> {
    let late = poll_timeout > 0 && waited + MARGIN >= Duration::from_secs(poll_timeout);
    late.then(|| {
        Reason::new(&format!(
            "the task is not finished and cannot be put back into its queue: it was scheduled {} s ago, \
             and its definition's pollTimeoutSeconds of {poll_timeout} would time it out",
            waited.as_secs()
        ))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;
    use crate::outcome::Cause;

    fn task(output: &str) -> Task {
        let json = format!(
            r#"{{"taskId":"t","workflowInstanceId":"w","status":"IN_PROGRESS","outputData":{output}}}"#
        );
        Task::from_json(&json).unwrap()
    }

    fn outcome(end: End, output: Option<&str>) -> Outcome {
        Outcome {
            end,
            output: output.map(|o| RawValue::from_string(o.to_owned()).unwrap()),
            reason: None,
            logs: Vec::new(),
        }
    }

    const BACK: End = End::HandedBack {
        cause: Cause::Busy,
        after: 3,
    };

    #[test]
    fn in_progress_keeps_the_stored_output() {
        let rows = [
            (
                End::Completed,
                Some(r#"{"a":1}"#),
                UpdateStatus::Completed,
                Some(r#"{"a":1}"#),
                0,
            ),
            (
                End::Failed(Fault::CutOff),
                None,
                UpdateStatus::Failed,
                None,
                0,
            ),
            (
                End::Terminal(Fault::NotJson),
                None,
                UpdateStatus::FailedWithTerminalError,
                None,
                0,
            ),
            (End::Canceled, None, UpdateStatus::Canceled, None, 0),
            (
                BACK,
                None,
                UpdateStatus::InProgress,
                Some(r#"{"ckpt":1}"#),
                3,
            ),
            (
                End::Deferred { after: 9 },
                None,
                UpdateStatus::InProgress,
                Some(r#"{"ckpt":1}"#),
                9,
            ),
            (
                End::Deferred { after: u64::MAX },
                None,
                UpdateStatus::InProgress,
                Some(r#"{"ckpt":1}"#),
                2_147_483_647,
            ),
            (
                End::Deferred { after: 9 },
                Some(r#"{"ckpt":2}"#),
                UpdateStatus::InProgress,
                Some(r#"{"ckpt":2}"#),
                9,
            ),
        ];
        for (end, output, status, sent, callback) in rows {
            let update = report(
                &task(r#"{"ckpt":1}"#),
                "type",
                "me",
                outcome(end, output),
                5,
            )
            .update;
            assert_eq!(update.status, status, "{end:?}");
            assert_eq!(
                update.output_data.as_deref().map(RawValue::get),
                sent,
                "{end:?}"
            );
            assert_eq!(update.callback_after_seconds, callback, "{end:?}");
            assert_eq!(
                (
                    update.task_id.as_str(),
                    update.workflow_instance_id.as_str(),
                    update.worker_id.as_str()
                ),
                ("t", "w", "me")
            );
        }
    }

    #[test]
    fn more_than_ten_logs_are_sent_one_by_one() {
        let mut many = outcome(End::Completed, None);
        many.logs = (0..12)
            .map(|i| TaskLog {
                log: i.to_string(),
                created_time: i,
            })
            .collect();
        let report = report(&task("{}"), "type", "me", many, 77);
        assert_eq!(report.update.logs.len(), 10);
        assert_eq!(report.update.logs[0].created_time, 77);
        assert_eq!(report.update.logs[1].created_time, 1);
        assert_eq!(report.more_logs, ["10", "11"]);
    }

    #[test]
    fn a_report_is_open_while_its_delivery_holds_the_task() {
        let polled = r#"{"taskId":"t","workflowInstanceId":"w","pollCount":2}"#;
        let polled = Task::from_json(polled).unwrap();
        let known = report(&polled, "type", "me", outcome(BACK, None), 5);
        let old = Report {
            poll_count: 0,
            ..known.clone()
        };
        // (the task as it is, whether the report is open, the same of one without a count)
        let rows = [
            (r#""IN_PROGRESS","workerId":"me","pollCount":2"#, true, true),
            (
                r#""IN_PROGRESS","workerId":"me","pollCount":3"#,
                false,
                true,
            ),
            (
                r#""IN_PROGRESS","workerId":"other","pollCount":3"#,
                false,
                false,
            ),
            (
                r#""IN_PROGRESS","workerId":"other","pollCount":2"#,
                false,
                false,
            ),
            (r#""IN_PROGRESS""#, true, true),
            (r#""SCHEDULED","workerId":"me","pollCount":2"#, false, false),
            (r#""TIMED_OUT","workerId":"me","pollCount":2"#, false, false),
            (r#""ANOTHER","workerId":"me","pollCount":2"#, false, false),
        ];
        for (now, open, without_count) in rows {
            let json = format!(r#"{{"taskId":"t","workflowInstanceId":"w","status":{now}}}"#);
            let task = Task::from_json(&json).unwrap();
            assert_eq!(
                (known.is_open(&task), old.is_open(&task)),
                (open, without_count),
                "{now}"
            );
        }
    }

    #[test]
    fn the_rule_of_poll_timeout() {
        // (pollTimeoutSeconds, waited ms, whether it goes back)
        let rows = [
            (None, 100_000, true),
            (Some(0), 100_000, true),
            (Some(5), 0, true),
            (Some(5), 3_999, true),
            (Some(5), 4_000, false),
            (Some(2), 2_500, false),
            (Some(u64::MAX), 2_500, true),
        ];
        for (poll_timeout, waited, back) in rows {
            for end in [
                End::Deferred { after: 30 },
                End::HandedBack {
                    cause: Cause::Busy,
                    after: 0,
                },
            ] {
                let waited = Duration::from_millis(waited);
                let became = around_poll_timeout(outcome(end, None), poll_timeout, waited).end;
                let expected = if back {
                    end
                } else {
                    End::Failed(Fault::PollTimeout)
                };
                assert_eq!(became, expected, "{poll_timeout:?} {waited:?}");
            }
        }
        let failed = outcome(End::Failed(Fault::CutOff), None);
        assert_eq!(
            around_poll_timeout(failed, Some(1), MARGIN * 100).end,
            End::Failed(Fault::CutOff)
        );
    }

    #[test]
    fn the_rule_of_poll_timeout_when_a_hand_back_is_sent() {
        let waited = Duration::from_secs(10);
        let sent = |end, poll_timeout, later: i64| {
            let polled = task(r#"{"ckpt":1}"#);
            let now = 1_000_000;
            let report = report(&polled, "type", "me", outcome(end, None), now);
            let mut report = report.queued(poll_timeout, waited, now);
            let failed = report.fail_if_late(now + later);
            (failed, report.update)
        };
        // (pollTimeoutSeconds, ms after it was judged, whether it goes back)
        let rows = [
            (None, i64::MAX / 2, true),
            (Some(60), 0, true),
            (Some(60), 48_999, true),
            (Some(60), 49_000, false),
            (Some(60), 90_000, false),
            (Some(60), -90_000, true),
        ];
        for (poll_timeout, later, back) in rows {
            let (failed, update) = sent(BACK, poll_timeout, later);
            assert_eq!(failed, !back, "{poll_timeout:?} {later}");
            if back {
                assert_eq!(update.status, UpdateStatus::InProgress);
                assert_eq!(update.callback_after_seconds, 3);
            } else {
                assert_eq!(update.status, UpdateStatus::Failed);
                let waited = format!("scheduled {} s ago", (10_000 + later) / 1000);
                let reason = update.reason_for_incompletion.unwrap();
                assert!(reason.contains(&waited), "{reason}");
                assert!(update.output_data.is_none() && update.callback_after_seconds == 0);
            }
        }
        let (failed, update) = sent(End::Completed, Some(60), 90_000);
        assert!(!failed && update.status == UpdateStatus::Completed);
    }
}
