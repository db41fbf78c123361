//! What a scenario file asks of a run on a real cluster.

/// A task: when it arrives and how long it takes, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Job {
    /// After the beginning.
    pub at: f64,
    /// Its execution.
    pub seconds: f64,
}

/// A pool of workers and its work. Times are in seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// The scenario's name.
    pub name: String,
    /// What it is, in a sentence.
    pub about: String,
    /// A task should start within it.
    pub max_wait: f64,
    /// How long the run is.
    pub duration: f64,
    /// Tasks that a pod runs at once.
    pub slots: u32,
    /// Pods: at least, and at the beginning.
    pub min: u32,
    /// At most.
    pub max: u32,
    /// A lease; a task whose pod was killed is noticed after it.
    pub response_timeout: u64,
    /// From then to the next attempt.
    pub retry_delay: u64,
    /// By their arrival.
    pub jobs: Vec<Job>,
}
