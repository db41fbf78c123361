//! The scenario files: their keys and what they may hold. `scenarios/FORMAT.md` says what they mean.

mod check;

use serde::Deserialize;

pub use check::Unusable;

/// Most values in one file.
const MOST_NODES: usize = 20_000_000;

/// A load on one worker's pool, and what is asked of its autoscaler. Times are in seconds.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scenario {
    /// Identifies it in results.
    pub name: String,
    /// What it is about, in one sentence.
    #[serde(default)]
    pub about: String,
    /// Seed of all random streams.
    #[serde(default = "one")]
    pub seed: u64,
    /// The run covers [0, duration).
    pub duration: f64,
    /// What is asked for.
    pub target: Target,
    /// The pool.
    pub pods: Pods,
    /// How free slots poll.
    #[serde(default)]
    pub poll: Poll,
    /// What the server does about a lost task.
    #[serde(default)]
    pub server: Server,
    /// The task types, all served by the pool.
    pub types: Vec<TaskType>,
    /// What the handlers wait for, where it is limited.
    pub downstream: Option<Downstream>,
    /// Queue sizes are seen this much late.
    #[serde(default)]
    pub metric_lag: f64,
    /// When queue sizes cannot be read.
    #[serde(default)]
    pub outages: Vec<Outage>,
    /// When the autoscaler is down.
    #[serde(default)]
    pub restarts: Vec<Restart>,
}

/// The service goal.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Target {
    /// W: a task should start within this time of becoming visible.
    pub max_wait: f64,
}

/// The pool of pods.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pods {
    /// Fewest active pods.
    #[serde(default)]
    pub min: u32,
    /// Most active pods.
    pub max: u32,
    /// Pods ready at time 0.
    #[serde(default)]
    pub initial: u32,
    /// c: tasks that one pod runs at once.
    pub slots: u32,
    /// From creation to ready.
    pub start: Distribution,
    /// Factor on it, by the time of creation.
    #[serde(default)]
    pub start_scale: Points,
    /// How long a pod removed blindly may go on with its tasks.
    #[serde(default = "grace")]
    pub grace: f64,
}

/// A free slot polls after a delay uniform in [min, max].
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Poll {
    /// Shortest delay.
    #[serde(default)]
    pub min: f64,
    /// Longest delay.
    #[serde(default = "poll_max")]
    pub max: f64,
}

/// The server's clocks for a task whose pod was killed.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Server {
    /// A killed task is noticed after this.
    #[serde(default = "response_timeout")]
    pub response_timeout: f64,
    /// Delay of the retry that follows.
    #[serde(default = "retry_delay")]
    pub retry_delay: f64,
}

/// One task type, with a FIFO queue of its own.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TaskType {
    /// Its name.
    pub name: String,
    /// Execution time, drawn per task.
    pub service: Distribution,
    /// Factor on it, by the time of the start.
    #[serde(default)]
    pub service_scale: Points,
    /// How tasks in one pod slow each other down.
    pub slowdown: Option<Slowdown>,
    /// Most tasks of this type in one pod.
    pub slot_cap: Option<u32>,
    /// Most tasks of this type in progress over all pods.
    pub concurrent_exec_limit: Option<u32>,
    /// Most starts in a window.
    pub rate_limit: Option<RateLimit>,
    /// Tasks that fail.
    pub fail: Option<Fail>,
    /// Added up.
    pub arrivals: Vec<Arrivals>,
}

/// Times alpha + beta·k, k being the tasks in the pod just after the start.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slowdown {
    /// The part that does not depend on the others.
    pub alpha: f64,
    /// What each task in the pod adds.
    pub beta: f64,
}

/// At most `count` starts in each window [k·window, (k+1)·window).
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Starts in a window.
    pub count: u32,
    /// Length of a window.
    pub window: f64,
}

/// This share of the tasks fails in all its attempts.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fail {
    /// Share of the tasks, 0 to 1.
    pub share: f64,
    /// Length of an attempt that fails.
    pub service: Distribution,
    /// Attempts after the first.
    pub retries: u32,
    /// Wait before each of these.
    pub retry_delay: f64,
}

/// What is behind the handlers.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Downstream {
    /// X: as many tasks run at full speed.
    pub capacity: f64,
}

/// A time in which the server tells nothing.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outage {
    /// Its begin.
    pub from: f64,
    /// Its end.
    pub to: f64,
    /// What is away.
    pub kind: OutageKind,
}

/// What an outage concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutageKind {
    /// Queue sizes cannot be read.
    Queue,
    /// Nor do polls return anything.
    Server,
}

/// No decision in [at, at + down).
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// Its begin.
    pub at: f64,
    /// How long it lasts.
    pub down: f64,
}

/// Pairs of time and value: linear between them, constant outside, a step where two have one time.
pub(crate) type Points = Vec<(f64, f64)>;

/// A distribution of times.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "dist", rename_all = "lowercase", deny_unknown_fields)]
pub enum Distribution {
    /// Always the same.
    Const { value: f64 },
    /// Uniform in [min, max].
    Uniform { min: f64, max: f64 },
    /// Exponential.
    Exp { mean: f64 },
    /// Log-normal; cv is standard deviation / mean of the value itself.
    LogNormal { mean: f64, cv: f64 },
    /// Bounded Pareto: density ∝ x^(−alpha−1) on [min, cap].
    Pareto { min: f64, alpha: f64, cap: f64 },
    /// One of several, by weight.
    Mix { parts: Vec<Part> },
    /// These in turn, over and over.
    List { values: Vec<f64> },
}

/// A part of a mix.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Its weight beside the others'.
    pub weight: f64,
    /// What is drawn where it is chosen.
    pub of: Distribution,
}

/// A process of arrivals. With a `delay` the task counts in the queue size at once and becomes
/// visible after it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Arrivals {
    /// `count` tasks, uniform over [at, at + spread].
    Burst {
        at: f64,
        count: u32,
        #[serde(default)]
        spread: f64,
        delay: Option<Distribution>,
    },
    /// At a constant rate.
    Poisson {
        from: f64,
        to: f64,
        rate: f64,
        delay: Option<Distribution>,
    },
    /// One in each interval.
    Regular {
        from: f64,
        to: f64,
        interval: f64,
        delay: Option<Distribution>,
    },
    /// Rate max(0, mean + amplitude·sin(2π(t − from)/period + phase)).
    Sine {
        from: f64,
        to: f64,
        mean: f64,
        amplitude: f64,
        period: f64,
        #[serde(default)]
        phase: f64,
        delay: Option<Distribution>,
    },
    /// The rate rises linearly from low to high in each period, then drops.
    Sawtooth {
        from: f64,
        to: f64,
        low: f64,
        high: f64,
        period: f64,
        delay: Option<Distribution>,
    },
    /// High for a share `duty` of each period, then low.
    Square {
        from: f64,
        to: f64,
        low: f64,
        high: f64,
        period: f64,
        duty: f64,
        delay: Option<Distribution>,
    },
    /// Rate linear between points; none before the first or after the last.
    Piecewise {
        points: Points,
        delay: Option<Distribution>,
    },
    /// A rate for each state; exponential holds; the next state is any of the others.
    Mmpp {
        from: f64,
        to: f64,
        rates: Vec<f64>,
        holds: Vec<f64>,
        delay: Option<Distribution>,
    },
    /// At these times.
    Trace {
        times: Vec<f64>,
        delay: Option<Distribution>,
    },
}

impl Arrivals {
    /// From the arrival until the task is visible.
    pub fn delay(&self) -> Option<&Distribution> {
        match self {
            Self::Burst { delay, .. }
            | Self::Poisson { delay, .. }
            | Self::Regular { delay, .. }
            | Self::Sine { delay, .. }
            | Self::Sawtooth { delay, .. }
            | Self::Square { delay, .. }
            | Self::Piecewise { delay, .. }
            | Self::Mmpp { delay, .. }
            | Self::Trace { delay, .. } => delay.as_ref(),
        }
    }
}

impl Scenario {
    /// Reads a file's text.
    pub fn read(text: &str) -> Result<Self, Unusable> {
        // A trace may hold a great many times, in a file of the user's own.
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! {
                max_nodes: MOST_NODES,
                max_events: 2 * MOST_NODES,
                max_total_scalar_bytes: 20 * MOST_NODES,
            },
        };
        let scenario: Self = serde_saphyr::from_str_with_options(text, options)
            .map_err(|e| Unusable::Unreadable(e.to_string()))?;
        scenario.check()?;
        Ok(scenario)
    }

    /// True while queue sizes cannot be read.
    pub(crate) fn is_blind(&self, t: f64) -> bool {
        self.outages.iter().any(|o| o.from <= t && t < o.to)
    }

    /// True while polls return nothing.
    pub(crate) fn is_server_away(&self, t: f64) -> bool {
        self.outages
            .iter()
            .any(|o| o.kind == OutageKind::Server && o.from <= t && t < o.to)
    }

    /// True while nobody decides.
    pub(crate) fn is_down(&self, t: f64) -> bool {
        self.restarts.iter().any(|r| r.at <= t && t < r.at + r.down)
    }
}

impl Default for Poll {
    fn default() -> Self {
        Self {
            min: 0.0,
            max: poll_max(),
        }
    }
}

impl Default for Server {
    fn default() -> Self {
        Self {
            response_timeout: response_timeout(),
            retry_delay: retry_delay(),
        }
    }
}

fn one() -> u64 {
    1
}

fn grace() -> f64 {
    30.0
}

fn poll_max() -> f64 {
    0.1
}

fn response_timeout() -> f64 {
    600.0
}

fn retry_delay() -> f64 {
    60.0
}
