//! What a decision is.

use std::fmt;

/// How many replicas to ask for, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The number to ask for.
    pub replicas: u32,
    /// What decided.
    pub reason: Reason,
    /// What it was computed from.
    pub terms: Terms,
}

/// What decided the number of replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Enough and not too many.
    Steady,
    /// More are needed.
    ScaledUp,
    /// Fewer are needed, and have been for long enough.
    ScaledDown,
    /// Fewer are needed, but not for long enough yet.
    HeldByWindow,
    /// Fewer are needed, but the others are busy. Never decided here: said by who takes pods away.
    HeldByBusyPods,
    /// A queue size or a pod's statistics are missing or old: not lowered.
    StaleMetrics,
    /// Queue sizes have been missing for long and every slot is busy (or there is none): raised.
    RaisedBlind,
    /// The server cannot be reached by the pods: held.
    ServerAway,
    /// More are needed than `maxReplicas` allows.
    CappedByMaxReplicas,
    /// More wait than the task definition's `concurrentExecLimit` lets run.
    CappedByTaskLimit,
    /// More wait than the task definition's rate limit lets start.
    CappedByRateLimit,
    /// More pods would get no more done: what the handlers wait for is saturated.
    DownstreamSaturated,
    /// Fewer are needed than `minReplicas` allows.
    AtMinReplicas,
}

impl Reason {
    /// Every reason, for those who count them.
    pub const ALL: [Self; 13] = [
        Self::Steady,
        Self::ScaledUp,
        Self::ScaledDown,
        Self::HeldByWindow,
        Self::HeldByBusyPods,
        Self::StaleMetrics,
        Self::RaisedBlind,
        Self::ServerAway,
        Self::CappedByMaxReplicas,
        Self::CappedByTaskLimit,
        Self::CappedByRateLimit,
        Self::DownstreamSaturated,
        Self::AtMinReplicas,
    ];

    /// The word for conditions, events and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Steady => "Steady",
            Self::ScaledUp => "ScaledUp",
            Self::ScaledDown => "ScaledDown",
            Self::HeldByWindow => "HeldByWindow",
            Self::HeldByBusyPods => "HeldByBusyPods",
            Self::StaleMetrics => "StaleMetrics",
            Self::RaisedBlind => "RaisedBlind",
            Self::ServerAway => "ServerAway",
            Self::CappedByMaxReplicas => "CappedByMaxReplicas",
            Self::CappedByTaskLimit => "CappedByTaskLimit",
            Self::CappedByRateLimit => "CappedByRateLimit",
            Self::DownstreamSaturated => "DownstreamSaturated",
            Self::AtMinReplicas => "AtMinReplicas",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The numbers behind a decision. Slots and tasks are sums over the task types.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Terms {
    /// Replicas asked for before this decision.
    pub current: u32,
    /// Waiting tasks as the server counts them; unreadable queues left out.
    pub queue: u64,
    /// Of these, tasks that a free slot could take.
    pub backlog: f64,
    /// Running tasks.
    pub running: u32,
    /// Slots that keep the backlog from growing.
    pub load: f64,
    /// Slots that empty the backlog in time.
    pub drain: f64,
    /// Slots needed in all.
    pub need: f64,
    /// Pods needed, before windows and bounds.
    pub want: f64,
    /// Seconds within which a backlog is to be gone (D).
    pub drain_seconds: f64,
    /// Seconds a new pod needs to be ready (T).
    pub start_up_seconds: f64,
    /// The task types, in the policy's order.
    pub tasks: Vec<TaskTerms>,
}

/// The numbers of one task type.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TaskTerms {
    /// Mean seconds a task holds the handler (S).
    pub execution_seconds: f64,
    /// Workable backlog (B).
    pub backlog: f64,
    /// As in [`Terms`].
    pub load: f64,
    /// As in [`Terms`].
    pub drain: f64,
    /// Slots needed.
    pub need: f64,
}
