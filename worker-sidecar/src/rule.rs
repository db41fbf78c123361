//! What the next poll asks for, and when. Pure.
//!
//! Two facts about Conductor's servers shape the rule. A batch that is not full is held back
//! by SQL servers until the poll's wait is over. And the slots of a poll in the air can be
//! used by nobody else. So:
//!
//! - While tasks flow, a poll asks for many and waits for none (`wait` 0): what is there
//!   comes at once, from every kind of server.
//! - Once a poll came back with less than it asked for, the queue is empty: the next asks
//!   for a single task and lets the server wait for it, which delivers it the moment it
//!   arrives. If there is one task type, the wait is a long poll, for nobody else could use the
//!   slot. If types share the slots, the waits begin with 100 ms and double while nothing
//!   comes, as long as there is a slot for each type; with fewer slots they stay at 100 ms, and
//!   between polls the slot is free.
//! - A batch leaves one slot to each other type whose queue is empty, and an equal share to
//!   each other type whose tasks flow. Types that wait for a slot get it in turn.

use std::time::Duration;

use conductor_client::{LONG_POLL_MAX, MAX_BATCH};

use crate::backoff::Backoff;

/// The first waiting poll while other types could use the slot it holds.
const SHARED_WAIT: Duration = Duration::from_millis(100);

/// The first distance between empty polls; doubles up to the type's `pollInterval`.
const FIRST_IDLE: Duration = Duration::from_millis(5);

/// What a type wants of the shared slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appetite {
    /// Its last poll came back full: there may be more.
    Hungry,
    /// Its queue was empty: one slot at a time.
    Dry,
    /// It has a poll in the air, which has its slots already.
    InTheAir,
    /// It is not polled for now (errors, a busy handler, its own cap): it needs none.
    Off,
}

/// What a poll asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// How many tasks, at least 1.
    pub count: usize,
    /// How long the server may wait for them.
    pub wait: Duration,
}

/// How one type's polls have gone lately.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pace {
    empties: u32,
    errors: u32,
    dry: bool,
}

/// How a poll ended, as far as the pace goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Polled {
    /// It brought `got` of the `asked` tasks.
    Tasks {
        /// How many came.
        got: usize,
        /// How many were asked for.
        asked: usize,
    },
    /// It failed.
    Failed {
        /// The credentials were refused.
        unauthorized: bool,
        /// The server's `Retry-After`.
        after: Option<Duration>,
    },
}

impl Pace {
    /// Whether the next poll may ask for more than one task.
    pub fn appetite(self) -> Appetite {
        match self {
            Self { errors: 1.., .. } => Appetite::Off,
            Self { dry: true, .. } => Appetite::Dry,
            _ => Appetite::Hungry,
        }
    }

    /// The pace after a poll.
    #[must_use]
    pub fn after(self, polled: Polled) -> Self {
        match polled {
            Polled::Tasks { got, asked } => Self {
                empties: if got == 0 {
                    self.empties.saturating_add(1)
                } else {
                    0
                },
                errors: 0,
                dry: got < asked,
            },
            Polled::Failed { .. } => Self {
                errors: self.errors.saturating_add(1),
                // After an outage, look with a single slot first.
                dry: true,
                ..self
            },
        }
    }

    /// How long to wait, without a slot, before the next poll. `took`: how long this one was
    /// in the air; a server that waited for tasks has done the waiting already. The poll after
    /// the first empty one follows at once, for that one did not wait.
    pub fn pause(
        self,
        polled: Polled,
        interval: Duration,
        took: Duration,
        random: f64,
    ) -> Duration {
        match polled {
            Polled::Tasks { got: 1.., .. } => Duration::ZERO,
            Polled::Tasks { .. } if self.empties <= 1 => Duration::ZERO,
            Polled::Tasks { .. } => {
                let idle = Backoff::new(FIRST_IDLE.min(interval), interval);
                idle.pause(self.empties - 1, random).saturating_sub(took)
            }
            Polled::Failed {
                unauthorized,
                after,
            } => {
                let backoff = if unauthorized {
                    Backoff::UNAUTHORIZED
                } else {
                    Backoff::POLL
                };
                backoff.pause_or_later(self.errors, after, random)
            }
        }
    }
}

/// How many tasks a hungry type may ask for, of `free` slots (its own first one included)
/// and the room under its own cap. `others` are the other types' appetites.
pub fn share(free: usize, room: usize, others: impl Iterator<Item = Appetite>) -> usize {
    let (mut dry, mut hungry) = (0, 0);
    for appetite in others {
        match appetite {
            Appetite::Dry => dry += 1,
            Appetite::Hungry => hungry += 1,
            Appetite::InTheAir | Appetite::Off => {}
        }
    }
    free.saturating_sub(dry)
        .div_ceil(hungry + 1)
        .min(room)
        .clamp(1, MAX_BATCH)
}

/// How many task types share how many slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sharers {
    /// The types.
    pub types: usize,
    /// The slots.
    pub slots: usize,
}

/// The poll for `count` slots. A long poll never takes more than a third of the grace period,
/// since a shutdown waits for it.
pub fn ask(pace: Pace, count: usize, sharers: Sharers, grace: Duration) -> Ask {
    if pace.appetite() == Appetite::Hungry {
        return Ask {
            count,
            wait: Duration::ZERO,
        };
    }
    Ask {
        count: 1,
        wait: pace.wait(sharers).min(grace / 3),
    }
}

impl Pace {
    fn wait(self, sharers: Sharers) -> Duration {
        match sharers {
            Sharers { types: 0 | 1, .. } => LONG_POLL_MAX,
            // Each type can hold one slot: the longer nothing comes, the longer it may.
            Sharers { types, slots } if slots >= types => {
                runtime::backoff::pause(SHARED_WAIT, LONG_POLL_MAX, self.empties, 1.0)
            }
            Sharers { .. } => SHARED_WAIT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Appetite::{Dry, Hungry, InTheAir, Off};

    const INTERVAL: Duration = Duration::from_millis(100);
    const GRACE: Duration = Duration::from_secs(30);
    const NO_TIME: Duration = Duration::ZERO;

    fn tasks(got: usize, asked: usize) -> Polled {
        Polled::Tasks { got, asked }
    }

    const ERROR: Polled = Polled::Failed {
        unauthorized: false,
        after: None,
    };

    #[test]
    fn a_share_leaves_the_others_theirs() {
        let rows: &[(usize, usize, &[Appetite], usize)] = &[
            (8, 8, &[], 8),
            (8, 3, &[], 3),
            (8, 8, &[Dry], 7),
            (8, 8, &[Hungry], 4),
            (7, 8, &[Hungry], 4),
            (8, 8, &[Hungry, Dry, Dry], 3),
            (8, 8, &[InTheAir, Off], 8),
            (1, 8, &[Dry, Dry], 1),
            (1, 8, &[Hungry; 5], 1),
            (500, 500, &[], 100),
        ];
        for &(free, room, others, expected) in rows {
            assert_eq!(
                share(free, room, others.iter().copied()),
                expected,
                "{free} {room} {others:?}"
            );
        }
    }

    #[test]
    fn batches_do_not_wait_and_waits_hold_one_slot() {
        let pace = |empties, dry| Pace {
            empties,
            errors: 0,
            dry,
        };
        let off = pace(0, true).after(ERROR);
        let rows = [
            (pace(0, false), 1, GRACE, 8, 0),
            (pace(0, false), 2, GRACE, 8, 0),
            (pace(0, true), 1, GRACE, 1, 5000),
            (pace(1, true), 2, GRACE, 1, 100),
            (pace(3, true), 2, GRACE, 1, 400),
            (pace(99, true), 8, GRACE, 1, 5000),
            (pace(99, true), 9, GRACE, 1, 100),
            (off, 1, GRACE, 1, 5000),
            (pace(0, true), 1, Duration::from_secs(3), 1, 1000),
        ];
        for (pace, types, grace, count, wait) in rows {
            assert_eq!(
                ask(pace, 8, Sharers { types, slots: 8 }, grace),
                Ask {
                    count,
                    wait: Duration::from_millis(wait)
                }
            );
        }
    }

    #[test]
    fn a_partial_batch_dries_and_a_full_one_makes_hungry() {
        let start = Pace::default();
        assert_eq!(start.appetite(), Hungry);
        assert_eq!(start.after(tasks(3, 8)).appetite(), Dry);
        assert_eq!(start.after(tasks(0, 8)).appetite(), Dry);
        assert_eq!(
            start.after(tasks(0, 1)).after(tasks(1, 1)).appetite(),
            Hungry
        );
        assert_eq!(start.after(ERROR).appetite(), Off);
        assert_eq!(start.after(ERROR).after(tasks(0, 1)).appetite(), Dry);
    }

    #[test]
    fn pauses_grow_separately_for_idleness_and_errors() {
        let mut pace = Pace::default();
        let mut seen = Vec::new();
        for _ in 0..8 {
            pace = pace.after(tasks(0, 1));
            seen.push(pace.pause(tasks(0, 1), INTERVAL, NO_TIME, 1.0).as_millis());
        }
        assert_eq!(seen, [0, 5, 10, 20, 40, 80, 100, 100]);
        assert_eq!(pace.pause(tasks(1, 1), INTERVAL, NO_TIME, 1.0), NO_TIME);
        for (took, left) in [(30, 70), (100, 0), (5000, 0)] {
            let took = Duration::from_millis(took);
            let pause = pace.pause(tasks(0, 1), INTERVAL, took, 1.0);
            assert_eq!(
                pause,
                Duration::from_millis(left),
                "the server waited {took:?}"
            );
        }

        let mut seen = Vec::new();
        for _ in 0..7 {
            pace = pace.after(ERROR);
            seen.push(pace.pause(ERROR, INTERVAL, NO_TIME, 1.0).as_millis());
        }
        assert_eq!(seen, [250, 500, 1000, 2000, 4000, 4000, 4000]);
        let asked = |seconds| {
            let asked = Polled::Failed {
                unauthorized: false,
                after: Some(Duration::from_secs(seconds)),
            };
            pace.pause(asked, INTERVAL, NO_TIME, 0.0).as_secs()
        };
        assert_eq!((asked(50), asked(100), asked(u64::MAX)), (50, 60, 60));
        let unauthorized = Polled::Failed {
            unauthorized: true,
            after: None,
        };
        assert_eq!(
            Pace::default()
                .after(unauthorized)
                .pause(unauthorized, INTERVAL, NO_TIME, 1.0)
                .as_secs(),
            1
        );
    }

    #[test]
    fn no_lockstep() {
        let pace = Pace::default().after(tasks(0, 1)).after(tasks(0, 1));
        let pause = |random| pace.pause(tasks(0, 1), INTERVAL, NO_TIME, random);
        assert!(pause(0.0) < pause(0.9));
    }
}
