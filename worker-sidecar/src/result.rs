//! From an [`Outcome`] to the update that is sent. Pure.

use std::time::Duration;

use conductor_client::{Task, TaskLog, TaskResult, UpdateStatus};

use crate::{
    outcome::{End, Fault, Outcome},
    reason::Reason,
};

/// The server keeps the first ten log lines of an update; the others are sent one by one.
const LOGS_PER_UPDATE: usize = 10;

/// The longest that a hand-back is delayed on account of `pollTimeoutSeconds`. A task which
/// would have to wait longer is failed instead, so that its retry starts soon.
const LONGEST_DETOUR: u64 = 60;

/// Conductor keeps `callbackAfterSeconds` in 32 bits with a sign, and counts on with more.
const LONGEST_CALLBACK: u64 = (1 << 31) - 1;

/// Server and sidecar count whole seconds, and an update takes a moment to arrive.
const MARGIN: Duration = Duration::from_secs(1);

/// An update, and the log lines that do not fit into it.
#[derive(Debug)]
pub struct Report {
    /// The update.
    pub update: TaskResult,
    /// To be sent one by one.
    pub more_logs: Vec<String>,
}

/// `waited`: how long ago the task was scheduled. `now_ms`: for log lines without a time.
pub fn report(task: &Task, worker_id: &str, outcome: Outcome, now_ms: i64) -> Report {
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

/// The rule of `pollTimeoutSeconds`: Conductor times a scheduled task out once
/// `now − scheduledTime ≥ pollTimeoutSeconds + callbackAfterSeconds`, and tests that on the
/// very update which hands a task back; `scheduledTime` is that of the first delivery. A
/// later callback avoids it, at most 60 s; else the task is failed.
///
/// `waited` is the time since `scheduledTime`.
#[must_use]
pub fn around_poll_timeout(
    outcome: Outcome,
    poll_timeout: Option<u64>,
    waited: Duration,
) -> Outcome {
    let (End::Deferred { after } | End::HandedBack { after, .. }) = outcome.end else {
        return outcome;
    };
    let Some(poll_timeout) = poll_timeout else {
        return outcome;
    };
    let over = (waited + MARGIN).saturating_sub(Duration::from_secs(poll_timeout));
    if over < Duration::from_secs(after) || over.is_zero() {
        return outcome;
    }
    let needed = over.as_secs() + 1;
    if needed > LONGEST_DETOUR.max(after) {
        return Outcome::failed(
            End::Failed(Fault::PollTimeout),
            Reason::new(&format!(
                "the task is not finished and cannot be put back into its queue: it was scheduled {} s ago, \
                 and its definition's pollTimeoutSeconds of {poll_timeout} would time it out",
                waited.as_secs()
            )),
        );
    }
    let end = match outcome.end {
        End::HandedBack { cause, .. } => End::HandedBack {
            cause,
            after: needed,
        },
        _ => End::Deferred { after: needed },
    };
    Outcome { end, ..outcome }
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
        Task::from_json(RawValue::from_string(json).unwrap()).unwrap()
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
            let update = report(&task(r#"{"ckpt":1}"#), "me", outcome(end, output), 5).update;
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
        let report = report(&task("{}"), "me", many, 77);
        assert_eq!(report.update.logs.len(), 10);
        assert_eq!(report.update.logs[0].created_time, 77);
        assert_eq!(report.update.logs[1].created_time, 1);
        assert_eq!(report.more_logs, ["10", "11"]);
    }

    #[test]
    fn the_rule_of_poll_timeout() {
        // (pollTimeoutSeconds, waited ms, wanted, what is sent; none: failed)
        let rows = [
            (None, 100_000, 0, Some(0)),
            (Some(5), 0, 0, Some(0)),
            (Some(5), 3_900, 0, Some(0)),
            (Some(5), 4_000, 0, Some(0)),
            (Some(5), 4_001, 0, Some(1)),
            (Some(2), 2_500, 0, Some(2)),
            (Some(2), 2_500, 30, Some(30)),
            (Some(2), 40_000, 30, Some(40)),
            (Some(2), 60_000, 0, Some(60)),
            (Some(2), 61_000, 0, None),
            (Some(2), 61_000, 300, Some(300)),
            (Some(2), 400_000, 300, None),
        ];
        for (poll_timeout, waited, after, sent) in rows {
            for end in [
                End::Deferred { after },
                End::HandedBack {
                    cause: Cause::Busy,
                    after,
                },
            ] {
                let waited = Duration::from_millis(waited);
                let end = around_poll_timeout(outcome(end, None), poll_timeout, waited).end;
                let after = match end {
                    End::Deferred { after } | End::HandedBack { after, .. } => Some(after),
                    _ => None,
                };
                assert_eq!(after, sent, "{poll_timeout:?} {waited:?} {end:?}");
                if let (Some(after), Some(poll_timeout)) = (after, poll_timeout) {
                    assert!(
                        waited < Duration::from_secs(poll_timeout + after),
                        "would time out"
                    );
                }
            }
        }
        let endless = End::Deferred { after: u64::MAX };
        for poll_timeout in [0, u64::MAX] {
            let end = around_poll_timeout(outcome(endless, None), Some(poll_timeout), MARGIN).end;
            assert_eq!(end, endless);
        }
        let failed = outcome(End::Failed(Fault::CutOff), None);
        assert_eq!(
            around_poll_timeout(failed, Some(1), MARGIN * 100).end,
            End::Failed(Fault::CutOff)
        );
    }
}
