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
    /// One task is let through, and its end awaited.
    HalfOpen {
        pause: Duration,
        taken: bool,
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
            State::Open { .. } | State::HalfOpen { taken: false, .. } => Admits::One,
            State::HalfOpen { taken: true, .. } => Admits::Verdict,
        }
    }

    /// A poll brought so many tasks.
    pub fn polled(&mut self, got: usize, now: Instant) {
        let pause = match self.state {
            State::Open { until, pause } if now >= until => pause,
            State::HalfOpen {
                pause,
                taken: false,
            } => pause,
            _ => return,
        };
        self.state = State::HalfOpen {
            pause,
            taken: got > 0,
        };
    }

    /// A task ended. `failed`: `None` when its end says nothing about the handler.
    pub fn ended(&mut self, failed: Option<bool>, now: Instant) -> Option<Change> {
        match (&mut self.state, failed) {
            (State::Closed { window }, Some(failed)) => {
                window.push_back(failed);
                if window.len() > self.settings.window {
                    window.pop_front();
                }
                let failures = window.iter().filter(|failed| **failed).count();
                let opens = window.len() == self.settings.window
                    && share(failures, window.len()) >= self.settings.ratio;
                opens.then(|| self.open(self.settings.pause, now))
            }
            // Those that were in work when it opened say nothing new.
            (State::Closed { .. }, None)
            | (State::Open { .. } | State::HalfOpen { taken: false, .. }, _) => None,
            (State::HalfOpen { pause, .. }, Some(true)) => {
                let longer = pause.saturating_mul(2).min(self.settings.longest);
                Some(self.open(longer, now))
            }
            (State::HalfOpen { .. }, Some(false)) => {
                self.state = closed();
                Some(Change::Closed)
            }
            (State::HalfOpen { taken, .. }, None) => {
                *taken = false;
                None
            }
        }
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
        assert_eq!(breaker.admits(until), Admits::One);
        breaker.polled(0, until);
        assert_eq!(breaker.admits(until), Admits::One, "nothing came");
        breaker.polled(1, until);
        assert_eq!(breaker.admits(until), Admits::Verdict);
        assert_eq!(breaker.ended(None, until), None);
        assert_eq!(breaker.admits(until), Admits::One, "it was handed back");
        breaker.polled(1, until);
        assert_eq!(breaker.ended(FINE, until), Some(Change::Closed));
        assert_eq!(breaker.admits(until), Admits::All);
    }

    #[test]
    fn each_failed_test_doubles_the_pause_up_to_the_longest() {
        let mut now = Instant::now();
        let mut breaker = opened(now);
        for seconds in [10, 20, 40, 60, 60] {
            now += Duration::from_secs(60);
            breaker.polled(1, now);
            let pause = Duration::from_secs(seconds);
            assert_eq!(breaker.ended(FAILED, now), Some(Change::Opened(pause)));
        }
    }
}
