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
//!   slot. If types share the slots it is 100 ms, and between polls the slot is free.
//! - A batch leaves one slot to each other type whose queue is empty, and an equal share to
//!   each other type whose tasks flow. Types that wait for a slot get it in turn.

use std::time::Duration;

use conductor_client::{LONG_POLL_MAX, MAX_BATCH};

use crate::backoff::Backoff;

/// A waiting poll while other types could use the slot it holds.
const SHARED_WAIT: Duration = Duration::from_millis(100);

/// The first pause after an empty poll; doubles up to the type's `pollInterval`.
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

    /// How long to wait, without a slot, before the next poll.
    pub fn pause(self, polled: Polled, interval: Duration, random: f64) -> Duration {
        match polled {
            Polled::Tasks { got: 1.., .. } => Duration::ZERO,
            Polled::Tasks { .. } => {
                let idle = Backoff::new(FIRST_IDLE.min(interval), interval);
                idle.pause(self.empties, random)
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

/// The poll for `count` slots. `alone`: there is no other task type. A long poll never takes
/// more than a third of the grace period, since a shutdown waits for it.
pub fn ask(appetite: Appetite, count: usize, alone: bool, grace: Duration) -> Ask {
    if appetite == Appetite::Hungry {
        return Ask {
            count,
            wait: Duration::ZERO,
        };
    }
    let wait = if alone { LONG_POLL_MAX } else { SHARED_WAIT };
    Ask {
        count: 1,
        wait: wait.min(grace / 3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Appetite::{Dry, Hungry, InTheAir, Off};

    const INTERVAL: Duration = Duration::from_millis(100);
    const GRACE: Duration = Duration::from_secs(30);

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
        let rows = [
            (Hungry, 8, true, GRACE, 8, 0),
            (Hungry, 8, false, GRACE, 8, 0),
            (Dry, 8, true, GRACE, 1, 5000),
            (Dry, 8, false, GRACE, 1, 100),
            (Off, 8, true, GRACE, 1, 5000),
            (Dry, 8, true, Duration::from_secs(3), 1, 1000),
        ];
        for (appetite, slots, alone, grace, count, wait) in rows {
            assert_eq!(
                ask(appetite, slots, alone, grace),
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
        for _ in 0..7 {
            pace = pace.after(tasks(0, 1));
            seen.push(pace.pause(tasks(0, 1), INTERVAL, 1.0).as_millis());
        }
        assert_eq!(seen, [5, 10, 20, 40, 80, 100, 100]);
        assert_eq!(pace.pause(tasks(1, 1), INTERVAL, 1.0), Duration::ZERO);

        let mut seen = Vec::new();
        for _ in 0..7 {
            pace = pace.after(ERROR);
            seen.push(pace.pause(ERROR, INTERVAL, 1.0).as_secs());
        }
        assert_eq!(seen, [1, 2, 4, 8, 16, 30, 30]);
        let asked = |seconds| {
            let asked = Polled::Failed {
                unauthorized: false,
                after: Some(Duration::from_secs(seconds)),
            };
            pace.pause(asked, INTERVAL, 0.0).as_secs()
        };
        assert_eq!((asked(50), asked(100), asked(u64::MAX)), (50, 60, 60));
        let unauthorized = Polled::Failed {
            unauthorized: true,
            after: None,
        };
        assert_eq!(
            Pace::default()
                .after(unauthorized)
                .pause(unauthorized, INTERVAL, 1.0)
                .as_secs(),
            5
        );
    }

    #[test]
    fn no_lockstep() {
        let pace = Pace::default().after(tasks(0, 1));
        assert!(pace.pause(tasks(0, 1), INTERVAL, 0.0) < pace.pause(tasks(0, 1), INTERVAL, 0.9));
    }
}
