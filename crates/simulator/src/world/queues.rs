//! The queues of the task types, and what the server lets start.

use std::collections::VecDeque;

use crate::scenario::TaskType;

/// One task type's queue and counters.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Attempts that can be taken.
    pub(super) visible: VecDeque<u32>,
    /// Counted, but not to be taken yet.
    pub(super) delayed: u64,
    pub(super) running: u32,
    exec_limit: Option<u32>,
    /// Starts in a window, and its length.
    rate: Option<(u32, f64)>,
    /// The window of the last start, and the starts in it.
    window: (f64, u32),
    pub(super) started: u64,
    pub(super) ended: u64,
    pub(super) ended_seconds: f64,
    executing: f64,
    /// Seconds of the polls that brought a task.
    pub(super) polling: f64,
    since: f64,
}

impl Queue {
    pub(super) fn new(of: &TaskType) -> Self {
        Self {
            exec_limit: of.concurrent_exec_limit,
            rate: of.rate_limit.map(|r| (r.count, r.window)),
            ..Self::default()
        }
    }

    /// The size as the server reports it.
    pub(super) fn size(&self) -> u64 {
        self.visible.len() as u64 + self.delayed
    }

    pub(super) fn is_limited(&self) -> bool {
        self.exec_limit.is_some()
    }

    /// A poll now would get a task of this type, were there a slot for it.
    pub(super) fn would_give(&self, now: f64) -> bool {
        !self.visible.is_empty()
            && self.exec_limit.is_none_or(|limit| self.running < limit)
            && self.starts_left(now) > 0
    }

    /// Starts that the rate limit leaves in the window of `now`.
    pub(super) fn starts_left(&self, now: f64) -> u32 {
        match self.rate {
            None => u32::MAX,
            Some((count, window)) if number(now, window) > self.window.0 => count,
            Some((count, _)) => count.saturating_sub(self.window.1),
        }
    }

    /// Length of the rate limit's windows.
    pub(super) fn window(&self) -> Option<f64> {
        self.rate.map(|(_, window)| window)
    }

    /// The head starts.
    pub(super) fn start(&mut self, now: f64) {
        self.advance(now);
        self.running += 1;
        self.started += 1;
        if let Some((_, window)) = self.rate {
            let number = number(now, window);
            if number > self.window.0 {
                self.window = (number, 0);
            }
            self.window.1 += 1;
        }
    }

    /// One that runs ends or is killed.
    pub(super) fn stop(&mut self, now: f64) {
        self.advance(now);
        self.running -= 1;
    }

    /// Slot-seconds executing until `now`.
    pub(super) fn executing_seconds(&self, now: f64) -> f64 {
        self.executing + f64::from(self.running) * (now - self.since)
    }

    fn advance(&mut self, now: f64) {
        self.executing = self.executing_seconds(now);
        self.since = now;
    }
}

/// The number of the window that holds `now`; rounding errors do not put a window's begin into
/// the one before.
fn number(now: f64, window: f64) -> f64 {
    (now / window + 1e-9).floor()
}
