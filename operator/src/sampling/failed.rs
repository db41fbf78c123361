//! Why Conductor brought nothing, and what to do about it.

use std::time::Duration;

use conductor_client::{Error, Kind};

use super::Failure;
use crate::references::Unresolved;

/// How long a server that wants fewer requests is left alone, in seconds, where it does not say.
const PAUSE: f64 = 10.0;
const LONGEST_PAUSE: f64 = 60.0;

/// Why a call brought nothing.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Failed {
    kind: Failure,
    message: String,
    status: Option<u16>,
    /// Seconds that the server asks to wait.
    after: Option<f64>,
}

impl Failed {
    pub(super) fn of(error: &Error) -> Self {
        let kind = match error.kind() {
            Kind::Retryable { .. } => Failure::Unreachable,
            Kind::Unauthorized if error.status() == Some(403) => Failure::Forbidden,
            Kind::Unauthorized => Failure::Unauthorized,
            Kind::Rejected | Kind::Gone => Failure::Refused,
        };
        let after = match error.kind() {
            Kind::Retryable { after } => after.map(|after| after.as_secs_f64()),
            _ => None,
        };
        Self {
            kind,
            message: error.to_string(),
            status: error.status(),
            after,
        }
    }

    /// No client can be made.
    pub(super) fn invalid(message: String) -> Self {
        Self::without_answer(Failure::ConnectionInvalid, message)
    }

    /// No answer in time.
    pub(super) fn late(patience: Duration) -> Self {
        let message = format!("no answer within {} s", patience.as_secs());
        Self::without_answer(Failure::Unreachable, message)
    }

    fn without_answer(kind: Failure, message: String) -> Self {
        Self {
            kind,
            message,
            status: None,
            after: None,
        }
    }

    pub(super) fn kind(&self) -> Failure {
        self.kind
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// Whether other keys may do.
    pub(super) fn is_unauthorized(&self) -> bool {
        self.kind == Failure::Unauthorized
    }

    /// Whether another request may be granted: the server is there, and this one it did not
    /// like. (401 and 407 are about who asks, the others about when.)
    pub(super) fn is_of_what_was_asked(&self) -> bool {
        let status = self.status.unwrap_or_default();
        status == 501
            || (400..500).contains(&status) && !matches!(status, 401 | 407 | 408 | 425 | 429)
    }

    /// Whether a server answers so that has no such endpoint.
    pub(super) fn may_be_of_the_endpoint(&self) -> bool {
        matches!(self.status, Some(404 | 405 | 501))
    }

    /// For how many seconds the server wants to be left alone.
    pub(super) fn wants_a_pause(&self) -> f64 {
        match (self.after, self.status) {
            (Some(after), _) => after.clamp(1.0, LONGEST_PAUSE),
            (None, Some(429)) => PAUSE,
            _ => 0.0,
        }
    }
}

impl From<Unresolved> for Failed {
    fn from(unresolved: Unresolved) -> Self {
        let (kind, message) = match unresolved {
            Unresolved::Secret(why) => (Failure::SecretNotFound, why),
            Unresolved::ConfigMap(why) => (Failure::ConfigMapNotFound, why),
            Unresolved::Invalid(why) => (Failure::ConnectionInvalid, why),
            Unresolved::Forbidden(why) => (Failure::Forbidden, why),
            Unresolved::Unknown(why) => (Failure::Unreachable, why),
        };
        Self::without_answer(kind, message)
    }
}
