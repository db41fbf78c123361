//! What one tick brought to light about one worker. Data only.

use std::{collections::BTreeMap, time::Duration};

use conductor_client::QueueName;
use scaling::{Instant, RateLimit};

/// What one tick brought to light about one worker.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Round {
    /// When the readings were complete.
    pub at: Instant,
    /// The worker's queues.
    pub queues: BTreeMap<QueueName, QueueReading>,
    /// The limits by task type, where its definition was read.
    pub limits: BTreeMap<String, Limits>,
    /// Who polls the queues beside this operator's pods, where somebody was seen.
    pub pollers: BTreeMap<QueueName, Pollers>,
    /// The worker's pods by UID: their last readings, each with its own time.
    pub pods: BTreeMap<String, PodReading>,
    /// In how many rounds each of a large pool's pods is asked once; 0 or 1: in each.
    pub pods_rounds: u32,
    /// Growth of the pods' counters since the round before was taken.
    pub growth: BTreeMap<QueueName, Growth>,
}

/// What is known of a queue.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QueueReading {
    /// The last size that was read, and when.
    pub size: Option<(Instant, u64)>,
    /// Why it cannot be read now.
    pub failing: Option<Unavailable>,
    /// In how many rounds it is read once, where a server's requests do not suffice for each;
    /// 0 where it is not known yet.
    pub rounds: u32,
}

/// The limits of a task definition, over all workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// `concurrentExecLimit`: most tasks that run at once.
    pub at_once: Option<u32>,
    /// `rateLimitPerFrequency`: most tasks that start in a while.
    pub rate: Option<RateLimit>,
}

/// Who else polls a queue.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pollers {
    /// Their worker ids, sorted; an empty one for those who give none.
    pub names: Vec<String>,
    /// When one of them polled last, in milliseconds since the epoch, by the server's clock.
    pub last_poll: i64,
}

/// Why, and since when, something cannot be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Unavailable {
    /// Since when each try has failed.
    pub since: Instant,
    /// What kind of failure the last was.
    pub kind: Failure,
    /// What was said.
    pub message: String,
}

/// Why Conductor does not answer, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No answer, or one that asks to try again.
    Unreachable,
    /// 401.
    Unauthorized,
    /// 403.
    Forbidden,
    /// Anything else that will not get better by itself.
    Refused,
    /// A Secret that the connection refers to is not there, or not whole.
    SecretNotFound,
    /// A `ConfigMap` that the connection refers to is not there, or not whole.
    ConfigMapNotFound,
    /// What the connection refers to is there and cannot be used.
    ConnectionInvalid,
}

impl Failure {
    /// True where pods cannot start, or not work, until somebody has mended what the
    /// connection refers to.
    pub fn is_of_references(self) -> bool {
        matches!(
            self,
            Self::SecretNotFound | Self::ConfigMapNotFound | Self::ConnectionInvalid
        )
    }

    /// The reason in a condition, and the metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "ConductorUnreachable",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::Refused => "ConductorRefused",
            Self::SecretNotFound => "SecretNotFound",
            Self::ConfigMapNotFound => "ConfigMapNotFound",
            Self::ConnectionInvalid => "ConnectionInvalid",
        }
    }
}

/// What a sidecar said last.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PodReading {
    /// When.
    pub at: Instant,
    /// Tasks in work, all types together.
    pub in_flight: u32,
    /// It is shutting down.
    pub draining: bool,
    /// It is of an earlier round, since its turn did not come: it says roughly how much is done,
    /// and no longer who is idle.
    pub earlier: bool,
    /// It takes no more tasks for now.
    pub cordoned: bool,
    /// Polls in the air, which may still bring tasks.
    pub polls: u32,
    /// The task types.
    pub tasks: BTreeMap<QueueName, TaskReading>,
}

/// A task type's part of a [`PodReading`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TaskReading {
    /// Tasks in work.
    pub in_flight: u32,
    /// A slot is free and the last poll brought nothing.
    pub idle: bool,
    /// Its breaker is open: the handler fails nearly all of them; none where the sidecar says
    /// nothing of breakers.
    pub broken: Option<bool>,
    /// Tasks that the handler has done or answered 202 for, since the sidecar started.
    pub worked: u64,
    /// Tasks that have ended as failed, since then.
    pub failed: u64,
    /// How long the oldest of the tasks in work had been there.
    pub oldest: Option<Duration>,
    /// Within which 95 % of its recent calls ended; none where none has.
    pub p95: Option<Duration>,
}

/// How much counters grew, summed over pods.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Growth {
    /// Calls begun.
    pub started: u64,
    /// Tasks ended, in whatever way.
    pub ended: u64,
    /// Slot-seconds in which a slot was free and its last poll had brought nothing.
    pub idle_seconds: f64,
    /// The execution times of the tasks that ended, together.
    pub ended_seconds: f64,
    /// Slot-seconds in calls.
    pub executing_seconds: f64,
    /// Slot-seconds from poll to accepted report.
    pub occupied_seconds: f64,
    /// Polls, failed ones included.
    pub polls: u64,
    /// Failed polls.
    pub poll_errors: u64,
}

impl Growth {
    /// Adds another's.
    pub fn add(&mut self, other: &Self) {
        self.started = self.started.saturating_add(other.started);
        self.ended = self.ended.saturating_add(other.ended);
        self.idle_seconds += other.idle_seconds;
        self.ended_seconds += other.ended_seconds;
        self.executing_seconds += other.executing_seconds;
        self.occupied_seconds += other.occupied_seconds;
        self.polls = self.polls.saturating_add(other.polls);
        self.poll_errors = self.poll_errors.saturating_add(other.poll_errors);
    }

    /// The growth from `before` to here; what went back counts as none.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            started: self.started.saturating_sub(before.started),
            ended: self.ended.saturating_sub(before.ended),
            idle_seconds: (self.idle_seconds - before.idle_seconds).max(0.0),
            ended_seconds: (self.ended_seconds - before.ended_seconds).max(0.0),
            executing_seconds: (self.executing_seconds - before.executing_seconds).max(0.0),
            occupied_seconds: (self.occupied_seconds - before.occupied_seconds).max(0.0),
            polls: self.polls.saturating_sub(before.polls),
            poll_errors: self.poll_errors.saturating_sub(before.poll_errors),
        }
    }
}
