//! What is remembered between decisions.

use crate::{Instant, decide::LONGEST_START_UP, saturation::Saturation, window::Window};

/// What is remembered between decisions. Opaque; it starts with [`State::restarted`].
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// When this memory began: nothing is lowered before a window has been seen.
    pub(crate) since: Instant,
    /// The decision before.
    pub(crate) last: Option<Instant>,
    /// Mean start-up, in seconds (T).
    pub(crate) start_up: f64,
    /// Pods wanted, as they were computed.
    pub(crate) wants: Window<f64>,
    /// When something last waited or ran, as far as is known; it starts with `since`.
    pub(crate) worked: Instant,
    pub(crate) tasks: Vec<TaskState>,
    /// Since when a queue size has been missing.
    pub(crate) blind_since: Option<Instant>,
    /// When the number was last raised for that.
    pub(crate) blind_raise: Option<Instant>,
}

/// What is remembered of one task type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TaskState {
    /// Decayed slot-seconds executing, and decayed count of tasks: their ratio is S.
    pub(crate) executed: f64,
    pub(crate) count: f64,
    /// The part of the queue that free slots were seen not to take (U).
    pub(crate) unworkable: f64,
    /// The same as it was when it was last proven.
    pub(crate) proven: f64,
    /// When it was last known why no slot is free, or one was.
    pub(crate) explained: Option<Instant>,
    /// Queue sizes.
    pub(crate) queues: Window<f64>,
    pub(crate) flows: Window<Flow>,
    pub(crate) saturation: Saturation,
}

/// What is worth keeping when the operator restarts. Small; the windows are not part of it.
#[derive(Debug, Clone, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "camelCase"))]
pub struct Memory {
    /// Mean start-up, in seconds (T).
    pub start_up_seconds: f64,
    /// The task types, in the policy's order.
    pub tasks: Vec<TaskMemory>,
}

/// What is kept of one task type.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "camelCase"))]
pub struct TaskMemory {
    /// Mean seconds a task holds the handler (S).
    pub execution_seconds: f64,
    /// From how many tasks it is known.
    pub count: f64,
}

/// Slot-seconds between two samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Flow {
    pub(crate) executing: f64,
    pub(crate) occupied: f64,
    pub(crate) started: f64,
    pub(crate) seconds: f64,
}

impl Default for TaskState {
    fn default() -> Self {
        // A first guess of one task of 1 s: it errs low and is outweighed within a few tasks.
        Self {
            executed: 1.0,
            count: 1.0,
            unworkable: 0.0,
            proven: 0.0,
            explained: None,
            queues: Window::default(),
            flows: Window::default(),
            saturation: Saturation::default(),
        }
    }
}

/// The first guess of a pod's start-up, in seconds: an image that is there, a slow handler.
const START_UP: f64 = 30.0;

impl State {
    /// Nothing is remembered. Also what a restarted operator begins with: it does not lower
    /// anything before one window has been seen.
    pub fn restarted(now: Instant) -> Self {
        Self {
            since: now,
            last: None,
            start_up: START_UP,
            wants: Window::default(),
            worked: now,
            tasks: Vec::new(),
            blind_since: None,
            blind_raise: None,
        }
    }

    /// What a restarted operator begins with where the one before left its memory. Numbers that
    /// make no sense are left out.
    pub fn restored(memory: &Memory, now: Instant) -> Self {
        let sane = |x: f64| x.is_finite() && x > 0.0;
        let mut state = Self::restarted(now);
        if sane(memory.start_up_seconds) {
            state.start_up = memory.start_up_seconds.min(LONGEST_START_UP);
        }
        state.tasks = memory
            .tasks
            .iter()
            .map(|task| {
                let mut kept = TaskState::default();
                if sane(task.execution_seconds) && sane(task.count) {
                    kept.count = task.count;
                    kept.executed = task.execution_seconds * task.count;
                }
                kept
            })
            .collect();
        state
    }

    /// What to keep for [`State::restored`].
    pub fn memory(&self) -> Memory {
        Memory {
            start_up_seconds: self.start_up,
            tasks: self
                .tasks
                .iter()
                .map(|task| TaskMemory {
                    execution_seconds: task.execution_seconds(),
                    count: task.count,
                })
                .collect(),
        }
    }
}

impl TaskState {
    /// S: mean seconds a task holds the handler.
    pub(crate) fn execution_seconds(&self) -> f64 {
        (self.executed / self.count.max(1e-9)).max(1e-4)
    }
}
