//! Why a task was tried or executed again, where that may be.

use std::time::Duration;

use conductor_client::TaskStatus;
use live::ledger::Execution;

use super::{
    Account, Attempt, REPAIRED, SLACK,
    silence::{Cause, Silence, UNACKNOWLEDGED},
};
use crate::kind::{Event, May};

impl Account {
    /// Why an attempt was not the last.
    pub(super) fn why_retried(&self, attempt: &Attempt, ended: Option<f64>) -> Option<String> {
        let (from, to) = (attempt.started?, ended?);
        match attempt.status {
            TaskStatus::TimedOut => self.why_timed_out(attempt, from, to),
            TaskStatus::Failed => self.why_failed(attempt, from, to),
            // Its lease ended while Conductor was away, and its result came when Conductor was about
            // to find that out: a decision that had begun goes on from what it had read.
            TaskStatus::Completed if to - from > self.lease => {
                let silences = self.silences(attempt);
                let silence = silences.iter().find(|s| self.may_end(s, from, to));
                silence.map(|s| format!("{}, the end of the lease crossed the result", s.name))
            }
            _ => None,
        }
    }

    /// Nobody kept its lease, or Conductor did not hear of it.
    fn why_timed_out(&self, attempt: &Attempt, from: f64, to: f64) -> Option<String> {
        let silences = self.silences(attempt);
        let silence = silences.iter().find(|s| self.may_end(s, from, to));
        if let Some(killed) = silence.filter(|s| s.cause == Cause::Death) {
            return Some(killed.name.to_owned());
        }
        let lost = self.outages().find(|e| {
            e.kind.loses_answers()
                && attempt.executions.is_empty()
                && (e.from - SLACK..=e.to + SLACK).contains(&from)
                && self.may_end(&Silence::of(e.kind.name(), from), from, to)
        });
        let lost = lost.map(|e| format!("{}, a poll's answer lost", e.kind.name()));
        lost.or_else(|| silence.map(|s| s.name.to_owned()))
    }

    /// Its handler died, or was of a version that fails every task: that executes nothing.
    fn why_failed(&self, attempt: &Attempt, from: f64, to: f64) -> Option<String> {
        let pod = attempt.last_pod().map(String::as_str);
        let cause = self.events.iter().find(|e| {
            let killed = e.kind.ends_attempts() == Some(TaskStatus::Failed)
                && self.in_flight(attempt, e)
                && e.to - SLACK <= to;
            let broken = e.kind.may() == May::Fail
                && attempt.executions.is_empty()
                && e.hits(pod)
                && e.from - SLACK <= to
                && from <= e.to + SLACK;
            (killed || broken) && to <= self.told_by(attempt, e.to)
        });
        cause.map(|e| e.kind.name().to_owned())
    }

    /// Why the same attempt was executed again.
    pub(super) fn why_again(
        &self,
        attempt: &Attempt,
        first: &Execution,
        second: &Execution,
    ) -> Option<String> {
        // It was done, or went on when another began.
        let beside =
            first.ended.is_some() || first.cut.is_none_or(|cut| second.began < cut - SLACK);
        if !beside && self.is_handed_back(attempt, first) {
            return Some("handed back at the end of the grace period".to_owned());
        }
        if let Some(kill) = self.killed_at_its_end(first, second) {
            return Some(format!("{} as its pod ended", kill.kind.name()));
        }
        if self.repaired.contains(&attempt.task) {
            return Some(REPAIRED.to_owned());
        }
        // A server that was ended may have forgotten that it had given it out: it is in its queue,
        // or there again when nobody has acknowledged that it came.
        let forgotten = self.outages().find(|e| {
            let back = e.to.max(e.from + UNACKNOWLEDGED);
            e.kind.stops_conductor()
                && first.began <= e.to + SLACK
                && (e.from - SLACK..=self.found_by(back)).contains(&second.began)
        });
        forgotten.map(|e| format!("{}, delivered twice", e.kind.name()))
    }

    /// What killed the handler of an execution whose pod was told to end by then: what breaks after
    /// that is handed back, since a sidecar takes it for the handler's way to stop.
    fn killed_at_its_end(&self, first: &Execution, second: &Execution) -> Option<&Event> {
        let is_open = first.ended.is_none() && first.cut.is_none();
        self.events.iter().find(|e| {
            is_open
                && e.kind.ends_attempts() == Some(TaskStatus::Failed)
                && e.hits(Some(&first.pod))
                && self
                    .told_to_end(&first.pod)
                    .any(|told| told <= e.to + SLACK)
                && first.began <= e.to + SLACK
                && e.to - SLACK <= second.began
        })
    }

    /// Whether an execution was cut off as one that does not fit: its pod was leaving, and the time
    /// that tasks have of its grace period was used up.
    fn is_handed_back(&self, attempt: &Attempt, first: &Execution) -> bool {
        let Some(cut) = first.cut else {
            return false;
        };
        let grace = Duration::try_from_secs_f64(self.grace).unwrap_or_default();
        let drain = runtime::grace::drain(grace).as_secs_f64();
        self.hand_backs
            && attempt.status == TaskStatus::Completed
            && self
                .told_to_end(&first.pod)
                .any(|told| (told + drain - SLACK..=told + self.grace + SLACK).contains(&cut))
    }

    /// When a pod was told to end.
    fn told_to_end(&self, pod: &str) -> impl Iterator<Item = f64> {
        let seen = self.log.pods.iter().filter(move |seen| seen.name == pod);
        seen.filter_map(|seen| seen.leaving)
    }
}
