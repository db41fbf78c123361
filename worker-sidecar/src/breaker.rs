//! Stops taking tasks of a type whose handler fails nearly all of them: each task taken would
//! use up a retry. Pure: time is an argument.
//!
//! ```text
//! closed ── share of failures in the window ≥ ratio ──> open ── pause is over ──> half open
//!    ▲                                                   ▲                            │ one task
//!    └───────────────── it succeeds ─────────────────────┼────────────────────────────┤
//!                                                        └── it fails: twice as long ─┘
//! ```
//! What counts as a failure is the handler's (5xx, a crash, a hang, nonsense), not the task's
//! (a 4xx, the handler's own FAILED).

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// When it opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// The share of failures that opens it, above 0 to 1.
    pub ratio: f64,
    /// How many of the last outcomes are looked at; it does not open on fewer.
    pub window: usize,
    /// The first pause; doubles with each test that fails.
    pub pause: Duration,
    /// The longest pause.
    pub longest: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ratio: 0.9,
            window: 20,
            pause: Duration::from_secs(5),
            longest: Duration::from_secs(60),
        }
    }
}

/// One task type's breaker.
#[derive(Debug)]
pub struct Breaker {
    settings: Settings,
    state: State,
}

#[derive(Debug)]
enum State {
    Closed {
        /// The last outcomes: whether each failed.
        window: VecDeque<bool>,
    },
    Open {
        until: Instant,
        pause: Duration,
    },
    /// One task is let through, and the end of its trial awaited.
    HalfOpen {
        pause: Duration,
        on_trial: bool,
    },
}

/// What may be polled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admits {
    /// As many as there are slots.
    All,
    /// A single task, as a test.
    One,
    /// Nothing until then.
    After(Instant),
    /// Nothing until the test's task has ended.
    Verdict,
}

/// A change worth telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It opened, for so long.
    Opened(Duration),
    /// It closed.
    Closed,
}

impl Breaker {
    /// Closed.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            state: closed(),
        }
    }

    /// What may be polled for.
    pub fn admits(&self, now: Instant) -> Admits {
        match self.state {
            State::Closed { .. } => Admits::All,
            State::Open { until, .. } if now < until => Admits::After(until),
            State::Open { .. }
            | State::HalfOpen {
                on_trial: false, ..
            } => Admits::One,
            State::HalfOpen { on_trial: true, .. } => Admits::Verdict,
        }
    }

    /// A task is at hand: whether it is the test. If so, its end must be told by
    /// [`Breaker::trial_ended`], however it comes.
    pub fn begin_trial(&mut self, now: Instant) -> bool {
        let pause = match self.state {
            State::Open { until, pause } if now >= until => pause,
            State::HalfOpen {
                pause,
                on_trial: false,
            } => pause,
            _ => return false,
        };
        self.state = State::HalfOpen {
            pause,
            on_trial: true,
        };
        true
    }

    /// The test is over. `failed`: `None` when its end says nothing about the handler, so that
    /// another one is needed.
    pub fn trial_ended(&mut self, failed: Option<bool>, now: Instant) -> Option<Change> {
        let State::HalfOpen { pause, on_trial } = &mut self.state else {
            return None; // there was none
        };
        match failed {
            Some(true) => {
                let longer = pause.saturating_mul(2).min(self.settings.longest);
                Some(self.open(longer, now))
            }
            Some(false) => {
                self.state = closed();
                Some(Change::Closed)
            }
            None => {
                *on_trial = false;
                None
            }
        }
    }

    /// A task ended that was no test. `failed`: `None` when its end says nothing about the
    /// handler.
    pub fn ended(&mut self, failed: Option<bool>, now: Instant) -> Option<Change> {
        // Those that were in work when it opened say nothing new.
        let (State::Closed { window }, Some(failed)) = (&mut self.state, failed) else {
            return None;
        };
        window.push_back(failed);
        if window.len() > self.settings.window {
            window.pop_front();
        }
        let failures = window.iter().filter(|failed| **failed).count();
        let opens = window.len() == self.settings.window
            && share(failures, window.len()) >= self.settings.ratio;
        opens.then(|| self.open(self.settings.pause, now))
    }

    /// Whether it holds polls back.
    pub fn is_open(&self) -> bool {
        !matches!(self.state, State::Closed { .. })
    }

    fn open(&mut self, pause: Duration, now: Instant) -> Change {
        self.state = State::Open {
            until: now + pause,
            pause,
        };
        Change::Opened(pause)
    }
}

fn closed() -> State {
    State::Closed {
        window: VecDeque::new(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn share(part: usize, of: usize) -> f64 {
    part as f64 / of as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILED: Option<bool> = Some(true);
    const FINE: Option<bool> = Some(false);

    fn settings() -> Settings {
        Settings {
            window: 10,
            ..Settings::default()
        }
    }

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::new(settings());
        for _ in 0..9 {
            assert_eq!(breaker.ended(FAILED, now), None);
        }
        let change = breaker.ended(FAILED, now);
        assert_eq!(change, Some(Change::Opened(Duration::from_secs(5))));
        breaker
    }

    #[test]
    fn it_opens_at_the_ratio_over_a_whole_window() {
        let now = Instant::now();
        let mut breaker = Breaker::new(settings());
        for failed in [
            FINE, FINE, FAILED, FAILED, FAILED, FAILED, FAILED, FAILED, FAILED, FAILED,
        ] {
            assert_eq!(breaker.ended(failed, now), None);
        }
        assert_eq!(breaker.ended(None, now), None, "says nothing");
        assert_eq!(breaker.admits(now), Admits::All);
        // The first of the two good ones leaves the window.
        assert!(breaker.ended(FAILED, now).is_some());
        assert!(breaker.is_open());
    }

    #[test]
    fn it_admits_one_after_the_pause_and_waits_for_its_end() {
        let start = Instant::now();
        let mut breaker = opened(start);
        let until = start + Duration::from_secs(5);
        assert_eq!(breaker.admits(start), Admits::After(until));
        assert_eq!(breaker.ended(FINE, start), None, "was in work already");
        assert!(!breaker.begin_trial(start), "the pause is not over");
        assert_eq!(breaker.admits(until), Admits::One);
        assert!(breaker.begin_trial(until));
        assert_eq!(breaker.admits(until), Admits::Verdict);
        assert!(!breaker.begin_trial(until), "one at a time");
        for old in [FINE, FAILED, None] {
            assert_eq!(breaker.ended(old, until), None, "was in work already");
            assert_eq!(breaker.admits(until), Admits::Verdict);
        }
        assert_eq!(breaker.trial_ended(None, until), None);
        assert_eq!(breaker.admits(until), Admits::One, "it was handed back");
        assert_eq!(breaker.ended(FAILED, until), None, "was in work already");
        assert!(breaker.begin_trial(until));
        assert_eq!(breaker.trial_ended(FINE, until), Some(Change::Closed));
        assert_eq!(breaker.admits(until), Admits::All);
        assert!(!breaker.begin_trial(until), "none is needed");
        assert_eq!(breaker.trial_ended(FAILED, until), None);
    }

    #[test]
    fn each_failed_test_doubles_the_pause_up_to_the_longest() {
        let mut now = Instant::now();
        let mut breaker = opened(now);
        for seconds in [10, 20, 40, 60, 60] {
            now += Duration::from_secs(60);
            assert!(breaker.begin_trial(now));
            let pause = Duration::from_secs(seconds);
            let change = breaker.trial_ended(FAILED, now);
            assert_eq!(change, Some(Change::Opened(pause)));
        }
    }
}
