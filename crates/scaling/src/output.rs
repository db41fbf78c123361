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

impl Decision {
    /// The decision in one sentence.
    pub fn message(&self) -> String {
        let t = &self.terms;
        let (from, to) = (t.current, self.replicas);
        let noun = if to == 1 { "pod" } else { "pods" };
        let step = if from == to {
            format!("{to} {noun}")
        } else {
            format!("{from} → {to} {noun}")
        };
        let waiting = match t.queue {
            1 => "1 task waits".to_owned(),
            n => format!("{n} tasks wait"),
        };
        let seen = format!("{waiting}, {} run", t.running);
        let why = match self.reason {
            Reason::Steady if t.queue == 0 && t.running == 0 => "no work".to_owned(),
            Reason::ScaledUp if t.drain > t.load => format!(
                "{seen}, each takes {:.1} s, the backlog is to be gone in {:.0} s; a new pod needs {:.0} s",
                self.execution_seconds(),
                t.drain_seconds,
                t.start_up_seconds
            ),
            Reason::Steady | Reason::ScaledUp => {
                format!("{seen}, the load needs {:.1} slots", t.need)
            }
            Reason::ScaledDown => format!("{seen}, {:.1} pods are enough", t.want),
            Reason::HeldByWindow => {
                format!(
                    "{seen}, {:.1} pods would be enough now but were not a moment ago",
                    t.want
                )
            }
            Reason::HeldByBusyPods => {
                format!(
                    "{seen}, {:.1} pods would be enough but the others are busy",
                    t.want
                )
            }
            Reason::StaleMetrics => {
                "not lowered: queue sizes or pod statistics are missing".to_owned()
            }
            Reason::RaisedBlind => "queue sizes are missing and no slot is free".to_owned(),
            Reason::ServerAway => "held: the pods cannot reach Conductor".to_owned(),
            Reason::CappedByMaxReplicas => {
                format!(
                    "{seen}, {:.1} pods are needed but maxReplicas is reached",
                    t.want
                )
            }
            Reason::CappedByTaskLimit => {
                format!("{seen}, but concurrentExecLimit lets no more run at once")
            }
            Reason::CappedByRateLimit => {
                format!("{seen}, but the task definition's rate limit lets no more start")
            }
            Reason::DownstreamSaturated => {
                format!("{seen}, but more pods would get no more done")
            }
            Reason::AtMinReplicas => format!("{seen}, minReplicas keeps them"),
        };
        format!("{step}: {why}")
    }

    /// Mean over the task types, weighted by their backlog.
    fn execution_seconds(&self) -> f64 {
        let tasks = &self.terms.tasks;
        let weight: f64 = tasks.iter().map(|t| t.backlog).sum();
        if weight > 0.0 {
            tasks
                .iter()
                .map(|t| t.backlog * t.execution_seconds)
                .sum::<f64>()
                / weight
        } else {
            0.0
        }
    }
}
