//! For how long Conductor heard nothing of an attempt, and when its lease may have ended for that.

use live::ledger::Execution;

use super::{Account, Attempt, SLACK};
use crate::kind::{Event, Kind, May};

/// How much later than a lease's end Conductor may notice it, in seconds. Measured on Redis: 0 to 2.
const DETECTION: f64 = 15.0;

/// How long after a server's end what it had just taken from a queue is there again, in seconds: on
/// Redis so long after it was taken and not acknowledged. Its sweeper takes workflows from one.
pub(super) const UNACKNOWLEDGED: f64 = 30.0;

/// How long a pod may need to be heard once Conductor can be reached, in seconds: what waits is sent
/// within about two, and a connection that is left from before costs one or two more.
const RETURN: f64 = 5.0;

/// How long a sidecar that was killed may be away, in seconds: the kubelet starts a container at
/// once the first time, and ten seconds later the second.
const RESTARTED: f64 = 12.0;

/// For how long a poll waits at Conductor for a task, in seconds.
const POLL: f64 = 5.0;

/// Why Conductor heard nothing. Of several the last of these is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    /// A sidecar was started again. What was done is on disk, and is sent in time.
    Start,
    /// Conductor could not be reached.
    Outage,
    /// Nobody was there any more to say anything.
    Death,
}

/// A time for which Conductor heard nothing.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Silence {
    /// Of what kind it was.
    pub(super) cause: Cause,
    /// Why.
    pub(super) name: &'static str,
    /// When it began.
    pub(super) from: f64,
    /// Until when a lease may have been extended all the same.
    pub(super) kept: f64,
    /// When it was over; infinite where nobody was there to say anything.
    pub(super) to: f64,
}

impl Silence {
    /// What began at a time and never was heard of.
    pub(super) fn of(name: &'static str, began: f64) -> Self {
        Self {
            cause: Cause::Death,
            name,
            from: began,
            kept: began,
            to: f64::INFINITY,
        }
    }
}

impl Account {
    /// Whether an attempt was in flight in what was killed, and not done. An event may have waited for
    /// somebody to hit: the kill is its end.
    pub(super) fn in_flight(&self, attempt: &Attempt, kill: &Event) -> bool {
        let pod = attempt.last_pod().map(String::as_str);
        let is_hit = kill.hits(pod);
        let Some(started) = attempt.started.filter(|_| is_hit) else {
            return false;
        };
        let given = |execution: &Execution| {
            if self.stood_still(pod, execution, kill) {
                started
            } else {
                execution.began
            }
        };
        // The next may begin soon after: the container is started again at once.
        let began_before = match attempt.executions.last() {
            Some(execution) if execution.ended.is_some() => given(execution) <= kill.to,
            Some(execution) => given(execution) <= kill.to + SLACK,
            // A poll in the air brings its task to nobody.
            None if kill.kind == Kind::SidecarKill => started <= kill.to + POLL + SLACK,
            None => started <= kill.to + SLACK,
        };
        let last = attempt.executions.last();
        let over = last.and_then(|e| e.ended.or(e.cut)).or(attempt.ended);
        began_before && over.is_none_or(|over| kill.to - SLACK <= over)
    }

    /// Whether a handler stood still when its sidecar was killed, and began only then what that had
    /// given to it.
    fn stood_still(&self, pod: Option<&str>, execution: &Execution, kill: &Event) -> bool {
        let last = kill.to.max(execution.began);
        kill.kind == Kind::SidecarKill
            && self.events.iter().any(|e| {
                e.kind == Kind::HandlerHang
                    && e.hits(pod)
                    && e.from <= kill.to
                    && last <= e.to + SLACK
            })
    }

    /// The times for which Conductor could not be reached.
    pub(super) fn outages(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(|e| e.kind.may() == May::Strand)
    }

    /// The times for which Conductor heard nothing of an attempt, or only for so short in between
    /// that its lease may not have been extended.
    pub(super) fn silences(&self, attempt: &Attempt) -> Vec<Silence> {
        let of = |cause, event: &Event, from: f64, to: f64| Silence {
            cause,
            name: event.kind.name(),
            from,
            kept: from,
            to,
        };
        let outages = self.outages().map(|e| of(Cause::Outage, e, e.from, e.to));
        let pod = attempt.last_pod().map(String::as_str);
        let kills = self.events.iter();
        let kills = kills.filter(|e| e.kind == Kind::SidecarKill && e.hits(pod));
        let kills = kills.map(|kill| {
            if self.in_flight(attempt, kill) {
                of(Cause::Death, kill, kill.to, f64::INFINITY)
            } else {
                of(Cause::Start, kill, kill.to, kill.to + RESTARTED)
            }
        });
        let mut all: Vec<Silence> = outages.chain(kills).collect();
        all.sort_by(|a, b| a.from.total_cmp(&b.from));
        let mut merged: Vec<Silence> = Vec::new();
        for next in all {
            let is_start = |silence: &Silence| silence.cause == Cause::Start;
            let join = |last: &Silence| {
                // What is on disk waits for no extension to be due.
                let unheard = if is_start(last) || is_start(&next) {
                    RETURN
                } else {
                    self.lease / 3.0 + SLACK
                };
                next.from <= last.to + unheard
            };
            match merged.last_mut() {
                Some(last) if join(last) => {
                    if next.cause > last.cause {
                        (last.cause, last.name) = (next.cause, next.name);
                        if next.cause == Cause::Death {
                            last.kept = next.kept;
                        }
                    }
                    last.to = last.to.max(next.to);
                }
                _ => merged.push(next),
            }
        }
        merged
    }

    /// Whether the lease of an attempt may have ended for a silence, and that may have been found
    /// at `at`.
    pub(super) fn may_end(&self, silence: &Silence, began: f64, at: f64) -> bool {
        // A lease is extended from a third of it on: so much may be gone when a silence begins.
        let heard = began.max(silence.from - self.lease / 3.0);
        let first = heard + self.lease;
        silence.cause != Cause::Start
            && first <= silence.to + RETURN
            && first - SLACK <= at
            && at <= self.found_by(self.last_end(silence, began))
    }

    fn last_end(&self, silence: &Silence, began: f64) -> f64 {
        let last = began.max(silence.kept) + self.lease;
        match silence.cause {
            Cause::Death => last,
            Cause::Start | Cause::Outage => last.max(silence.to),
        }
    }

    /// When Conductor has found at the latest that a lease ended at a time.
    pub(super) fn found_by(&self, mut end: f64) -> f64 {
        let mut stops: Vec<&Event> = self
            .outages()
            .filter(|e| e.kind.stops_conductor())
            .collect();
        stops.sort_by(|a, b| a.from.total_cmp(&b.from));
        for stop in stops {
            let back = stop.to.max(stop.from + UNACKNOWLEDGED);
            if (stop.from - DETECTION..=back).contains(&end) {
                end = back;
            }
        }
        end + DETECTION
    }

    /// When Conductor has been told at the latest of what an attempt's sidecar knew at a time.
    pub(super) fn told_by(&self, attempt: &Attempt, at: f64) -> f64 {
        let silences = self.silences(attempt).into_iter();
        let meets = |s: &Silence| s.from - RETURN <= at && at <= s.to && s.cause != Cause::Death;
        silences.filter(meets).map(|s| s.to).fold(at, f64::max) + RETURN
    }
}
