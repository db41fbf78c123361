//! What goes wrong between a sidecar and a Conductor, and with which requests.

use std::time::Duration;

/// What becomes of a request that meets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It is late by so much; the dice say how much exactly.
    Latency {
        /// At least.
        least: Duration,
        /// At most.
        most: Duration,
    },
    /// The server does it; the answer is late by so much, as that of a busy server.
    LateAnswer {
        /// At least.
        least: Duration,
        /// At most.
        most: Duration,
    },
    /// The connection is reset before any of it reaches the server.
    ResetBefore,
    /// The server gets half of it, then both connections are reset.
    ResetMidRequest,
    /// The server does it; the connection is reset in place of the answer.
    ResetAfter,
    /// It is swallowed, and the connection stays without ever saying anything again, as after
    /// a gateway that forgot about it.
    HalfOpen,
    /// The server does it; half of the answer comes, then the connection closes.
    Truncate,
    /// Somebody else answers; the server never hears of it.
    Answer {
        /// The status line's number.
        status: u16,
        /// Content type and other header lines.
        headers: &'static [(&'static str, &'static str)],
        /// The body.
        body: &'static str,
    },
    /// The server does it; the answer trickles, a byte at a time, until the fault ends.
    Drip {
        /// Between two bytes.
        pause: Duration,
    },
    /// The server does it; the answer is kept until the fault ends.
    Hold,
}

/// Which requests meet a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum On {
    /// All of them.
    Everything,
    /// Polls.
    Polls,
    /// Polls of one task type.
    PollsOf(String),
    /// Results, lease extensions, logs.
    Updates,
    /// Questions about queues: their sizes, and who polls them.
    Queues,
}

/// What a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A poll.
    Poll,
    /// A result, a lease extension, a log line.
    Update,
    /// Anything else.
    Other,
}

/// A fault that is on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Setting {
    pub(crate) fault: Fault,
    pub(crate) on: On,
    /// The part of those requests that meet it, 0 to 1.
    pub(crate) share: f64,
}

impl Class {
    /// Of a request.
    pub(crate) fn of(method: &str, path: &str) -> Self {
        let path = path.split('?').next().unwrap_or_default();
        if path.contains("/tasks/poll/") {
            Self::Poll
        } else if method == "POST" && path.contains("/tasks") {
            Self::Update
        } else {
            Self::Other
        }
    }
}

impl On {
    fn meets(&self, method: &str, path: &str) -> bool {
        let class = Class::of(method, path);
        match self {
            Self::Everything => true,
            Self::Polls => class == Class::Poll,
            Self::PollsOf(task_type) => {
                let path = path.split('?').next().unwrap_or_default();
                class == Class::Poll && path.rsplit('/').next() == Some(task_type)
            }
            Self::Updates => class == Class::Update,
            Self::Queues => path.contains("/tasks/queue/"),
        }
    }
}

impl Setting {
    /// The fault that a request meets; `random` is 0 to 1. Pure.
    pub(crate) fn meet(&self, method: &str, path: &str, random: f64) -> Option<Fault> {
        (self.on.meets(method, path) && random < self.share).then(|| self.fault.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_meet_the_faults_that_are_meant_for_them() {
        let poll = ("GET", "/api/tasks/poll/batch/greet?count=3");
        let update = ("POST", "/api/tasks");
        let next = ("POST", "/api/tasks/update-v2");
        let size = ("GET", "/api/tasks/queue/size?taskType=greet");
        let other_type = On::PollsOf("gree".to_owned());
        for (on, request, meets) in [
            (On::Everything, size, true),
            (On::Polls, poll, true),
            (On::Polls, update, false),
            (On::Updates, update, true),
            (On::Updates, next, true),
            (On::Updates, poll, false),
            (On::Updates, size, false),
            (On::Queues, size, true),
            (On::Queues, poll, false),
            (On::Queues, update, false),
            (On::PollsOf("greet".to_owned()), poll, true),
            (other_type, poll, false),
        ] {
            let setting = Setting {
                fault: Fault::Hold,
                on,
                share: 0.5,
            };
            let met = setting.meet(request.0, request.1, 0.49);
            assert_eq!(met.is_some(), meets, "{:?} {request:?}", setting.on);
            assert_eq!(setting.meet(request.0, request.1, 0.5), None);
        }
    }
}
