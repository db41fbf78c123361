//! What a policy may know: nothing about the future or the true distributions.

/// The pool as it is seen at a moment. Counters grow from the start of the run.
#[derive(Debug, Clone, Default)]
pub struct Observation {
    /// Seconds since the start of the run.
    pub now: f64,
    /// Per task type.
    pub tasks: Vec<TaskObservation>,
    /// Active pods that are ready.
    pub ready: u32,
    /// Active pods that are not ready yet.
    pub starting: u32,
    /// Ready pods without a task.
    pub empty: u32,
    /// How long the oldest of the starting pods has been starting.
    pub oldest_starting: f64,
    /// Start-up durations of pods that got ready since the last look.
    pub started_up: Vec<f64>,
    /// Slots of ready pods whose last poll was empty.
    pub idle_slots: u32,
    /// Integral of these over time, in slot-seconds.
    pub idle_seconds: f64,
    /// Polls return nothing.
    pub server_away: bool,
    /// Every pod's statistics are fresh.
    pub stats_complete: bool,
}

/// What is seen of one task type.
#[derive(Debug, Clone, Copy, Default)]
pub struct TaskObservation {
    /// The queue size, perhaps an old one; `None` where it cannot be read.
    pub queue: Option<u64>,
    /// Running on active pods.
    pub running: u32,
    /// Running on leaving pods.
    pub leaving: u32,
    /// A slot that may take this type is idle.
    pub idle_slot: bool,
    /// Integral of the idle slots that may take this type, in slot-seconds; 0 where the type
    /// has a cap.
    pub idle_seconds: f64,
    /// Executions started.
    pub started: u64,
    /// Executions ended.
    pub ended: u64,
    /// Sum of the execution times of those that ended.
    pub ended_seconds: f64,
    /// Slot-seconds executing, those that run included.
    pub executing_seconds: f64,
    /// The same and the polls that brought a task.
    pub occupied_seconds: f64,
}

impl Observation {
    /// Active pods: starting and ready, not leaving.
    pub fn active(&self) -> u32 {
        self.ready + self.starting
    }

    /// Sum of the queue sizes; `None` if one cannot be read.
    pub fn queue(&self) -> Option<u64> {
        self.tasks.iter().map(|t| t.queue).sum()
    }

    /// Tasks that run on active pods.
    pub fn running(&self) -> u32 {
        self.tasks.iter().map(|t| t.running).sum()
    }
}
