//! What a decision is made from.

use std::time::Duration;

/// A moment, counted from a start that the caller chooses; it never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Instant(Duration);

impl Instant {
    /// The moment `since_start` after the caller's start.
    pub fn at(since_start: Duration) -> Self {
        Self(since_start)
    }

    /// The moment `seconds` after this one.
    pub(crate) fn after(self, seconds: f64) -> Self {
        Self(
            self.0
                .saturating_add(Duration::try_from_secs_f64(seconds).unwrap_or_default()),
        )
    }

    /// Seconds from `earlier` to here; 0 where `earlier` is later.
    pub fn seconds_since(self, earlier: Self) -> f64 {
        self.0.saturating_sub(earlier.0).as_secs_f64()
    }
}

/// What the user asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// W: a task should start within this time after it became visible. Where only
    /// `drain_within` is stated, its 1/0.6-fold.
    pub max_wait: Duration,
    /// D: a backlog should be gone within this time; 0.6 W where it is not stated.
    pub drain_within: Option<Duration>,
    /// Fewest pods.
    pub min: u32,
    /// Most pods.
    pub max: u32,
    /// Slots in one pod, all task types together; at least 1.
    pub slots: u32,
    /// The worker's task types; samples list them in the same order.
    pub tasks: Vec<TaskPolicy>,
}

/// What is fixed about one task type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TaskPolicy {
    /// Most slots of one pod that this type may hold; absent: all.
    pub cap: Option<u32>,
    /// Conductor's `concurrentExecLimit` of the type, over all pods.
    pub exec_limit: Option<u32>,
    /// Conductor's `rateLimitPerFrequency` of the type, over all pods.
    pub rate_limit: Option<RateLimit>,
}

/// Most starts in a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Starts …
    pub count: u32,
    /// … within each such time.
    pub window: Duration,
}

/// What is seen now. Growth is counted from the sample before.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sample {
    /// Active pods that are asked for now: starting or ready, not leaving.
    pub current: u32,
    /// Pods that are ready and not about to leave.
    pub ready: u32,
    /// Pods that are there but were never ready.
    pub starting: u32,
    /// Ready pods with nothing in flight, by fresh statistics.
    pub idle: u32,
    /// How long the oldest of the starting pods has been starting.
    pub oldest_starting: Duration,
    /// From creation to ready, of the pods that got ready since the last sample.
    pub started_up: Vec<Duration>,
    /// Every ready pod's statistics are fresh. False holds the number, or raises it.
    pub stats_complete: bool,
    /// No pod's polls reach the server: nothing is known and nothing can be done.
    pub server_away: bool,
    /// The task types, in the policy's order.
    pub tasks: Vec<TaskSample>,
}

/// What is seen of one task type.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TaskSample {
    /// Waiting tasks as Conductor counts them: delayed and limited ones included, running
    /// ones not. `None`: unreadable, or too old.
    pub queue: Option<u64>,
    /// Running on pods that stay.
    pub running: u32,
    /// Running on pods that are leaving.
    pub leaving: u32,
    /// A slot that may take this type is free and its last poll brought nothing.
    pub idle_slot: bool,
    /// Growth of slot-seconds in which a slot that may take this type was free and its last
    /// poll had brought nothing.
    pub idle_seconds: f64,
    /// Growth of tasks started.
    pub started: u64,
    /// Growth of tasks ended, in whatever way.
    pub ended: u64,
    /// Growth of the sum of their execution times, in seconds.
    pub ended_seconds: f64,
    /// Growth of slot-seconds within the handler's calls, running ones included.
    pub executing_seconds: f64,
    /// Growth of slot-seconds from poll to report.
    pub occupied_seconds: f64,
}
