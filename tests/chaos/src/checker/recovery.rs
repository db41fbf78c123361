//! How soon it goes on after something was killed, or was away.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Account, Attempt, SLACK, Story, told};
use crate::kind::{Event, Kind};

/// Of tasks in flight in what was killed. Times are seconds, each the least and the most.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Recovery {
    /// How many they are.
    pub tasks: usize,
    /// From the kill to their attempts' ends.
    pub ended: [f64; 2],
    /// From their attempts' ends to their next executions; none where none was.
    pub next: Option<[f64; 2]>,
}

impl Recovery {
    fn add(&mut self, ended: f64, next: Option<f64>) {
        self.tasks += 1;
        self.ended = widened(self.ended, ended);
        self.next = next.map_or(self.next, |next| {
            Some(self.next.map_or([next; 2], |range| widened(range, next)))
        });
    }
}

fn widened([least, most]: [f64; 2], by: f64) -> [f64; 2] {
    [least.min(by), most.max(by)]
}

impl Account {
    /// Of all that were in flight in what was killed, by what that was and whether Conductor could
    /// be reached meanwhile; and a sentence for each that ended late.
    pub(super) fn recovery(&self) -> (BTreeMap<String, Recovery>, Vec<String>) {
        let (mut by_kind, mut late) = (BTreeMap::<String, Recovery>::new(), Vec::new());
        for story in &self.stories {
            for (n, attempt) in story.attempts.iter().enumerate() {
                let Some((kill, at)) = self.killed(attempt).zip(story.ended(n)) else {
                    continue;
                };
                let name = kill.kind.name();
                let ended = (at - kill.to).max(0.0);
                if at > self.due(attempt, kill) {
                    let told = told(story);
                    late.push(format!(
                        "{name}, and its attempt ended {ended:.1} s after that: {told}"
                    ));
                }
                let mut outages = self.outages();
                let name = if outages.any(|o| o.from <= at && kill.to <= o.to) {
                    format!("{name}, Conductor away meanwhile")
                } else {
                    name.to_owned()
                };
                let of_kind = by_kind.entry(name).or_insert(Recovery {
                    tasks: 0,
                    ended: [f64::INFINITY, 0.0],
                    next: None,
                });
                of_kind.add(ended, next(story, n).map(|next| (next - at).max(0.0)));
            }
        }
        (by_kind, late)
    }

    /// What an attempt was in flight in when it was killed, where it ended as it does for that.
    fn killed(&self, attempt: &Attempt) -> Option<&Event> {
        let is_end = |e: &&Event| {
            e.kind.ends_attempts() == Some(attempt.status) && self.in_flight(attempt, e)
        };
        self.events.iter().find(is_end)
    }

    /// When an attempt that was in flight has ended at the latest.
    fn due(&self, attempt: &Attempt, kill: &Event) -> f64 {
        if kill.kind == Kind::SidecarKill {
            let kept = attempt.started.map_or(kill.to, |from| from.max(kill.to));
            self.found_by(kept + self.lease)
        } else {
            self.told_by(attempt, kill.to)
        }
    }

    /// Of the results that were there while Conductor restarted, how late the last one was.
    pub(super) fn after_return(&self) -> Option<f64> {
        let restarts = |e: &&Event| e.kind == Kind::ConductorRestart;
        let restarts = self.events.iter().filter(restarts);
        let late = restarts.flat_map(|restart| {
            let attempts = self.stories.iter().flat_map(|s| &s.attempts);
            attempts.filter_map(move |attempt| {
                let done = attempt.executions.last()?.ended?;
                let taken = attempt.ended?;
                // What was done just before may have been taken before.
                let is_in = restart.from + SLACK <= done && done <= restart.to;
                let meets_another = self.outages().any(|o| {
                    o != restart && restart.from <= o.from && o.from <= taken && restart.to <= o.to
                });
                (is_in && !meets_another).then_some(taken - restart.to)
            })
        });
        late.max_by(f64::total_cmp)
    }
}

/// When the attempt after the `n`th began to be executed.
fn next(story: &Story, n: usize) -> Option<f64> {
    Some(story.attempts.get(n + 1)?.executions.first()?.began)
}
