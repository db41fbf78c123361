//! What can go wrong with a call, sorted by what to do about it.

use std::time::Duration;

use reqwest::{StatusCode, header::HeaderMap};
use serde::Deserialize;

/// What a failed call means to its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The same call may succeed later: no connection, a time-out, 408, 425, 429 or any
    /// 5xx. `after` is the server's own `Retry-After`, where it sent one.
    Retryable {
        /// How long the server asks to wait.
        after: Option<Duration>,
    },
    /// The server understood and will not do it (other 4xx), or its answer made no sense.
    Rejected,
    /// What the call is about does not exist: a 404 with Conductor's own error body. Another
    /// 404, of a gateway that has no server behind it for now, is retryable and doubtful.
    Gone,
    /// No or wrong credentials (401), or not allowed (403).
    Unauthorized,
}

impl Kind {
    /// A bounded word for logs and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retryable { .. } => "retryable",
            Self::Rejected => "rejected",
            Self::Gone => "gone",
            Self::Unauthorized => "unauthorized",
        }
    }
}

/// A call that failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{call}: {message}")]
pub struct Error {
    call: &'static str,
    kind: Kind,
    status: Option<u16>,
    doubtful: bool,
    message: String,
}

impl Error {
    /// What to do about it.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Which call failed: a method's name.
    pub fn call(&self) -> &'static str {
        self.call
    }

    /// The HTTP status, absent where no answer came.
    pub fn status(&self) -> Option<u16> {
        self.status
    }

    /// True for a 500 that the server marks as not retryable, and for a 404 or a 200 that is not
    /// Conductor's. Conductor answers so for most mistakes of the client, but also for a busy
    /// `SQLite` file: repeat it, but not for ever.
    pub fn is_doubtful(&self) -> bool {
        self.doubtful
    }

    pub(crate) fn transport(call: &'static str, error: &reqwest::Error) -> Self {
        // reqwest's own text stops at "error sending request"; the reason is further down.
        let mut message = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            source = cause.source();
        }
        Self {
            call,
            kind: Kind::Retryable { after: None },
            status: None,
            doubtful: false,
            message,
        }
    }

    pub(crate) fn nonsense(call: &'static str, why: impl std::fmt::Display) -> Self {
        Self::refused(call, format!("the server's answer cannot be read: {why}"))
    }

    /// A success that Conductor did not send.
    pub(crate) fn foreign(call: &'static str, body: &[u8]) -> Self {
        let start: String = String::from_utf8_lossy(body).chars().take(80).collect();
        Self {
            call,
            kind: Kind::Retryable { after: None },
            status: Some(200),
            doubtful: true,
            message: format!("answered 200, but not by Conductor: {start:?}"),
        }
    }

    pub(crate) fn refused(call: &'static str, message: String) -> Self {
        Self {
            call,
            kind: Kind::Rejected,
            status: Some(200),
            doubtful: false,
            message,
        }
    }

    pub(crate) fn answered(
        call: &'static str,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Self {
        let said = Said::read(body);
        let kind = match status.as_u16() {
            401 | 403 => Kind::Unauthorized,
            404 | 410 if said.by_conductor => Kind::Gone,
            404 | 410 => Kind::Retryable { after: None },
            408 | 425 | 429 | 500..=599 => Kind::Retryable {
                after: retry_after(headers),
            },
            _ => Kind::Rejected,
        };
        Self {
            call,
            kind,
            status: Some(status.as_u16()),
            doubtful: match status.as_u16() {
                500 => said.retryable != Some(true),
                404 | 410 => !said.by_conductor,
                _ => false,
            },
            message: format!("{status}: {}", said.message),
        }
    }
}

/// Conductor's error body, or the start of whatever came instead.
struct Said {
    message: String,
    retryable: Option<bool>,
    by_conductor: bool,
}

impl Said {
    fn read(body: &[u8]) -> Self {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Body {
            message: Option<String>,
            retryable: Option<bool>,
            #[serde(default)]
            validation_errors: Vec<Violation>,
        }
        #[derive(Deserialize)]
        struct Violation {
            path: Option<String>,
            message: Option<String>,
        }
        let Ok(body) = serde_json::from_slice::<Body>(body) else {
            let text = String::from_utf8_lossy(body);
            return Self {
                message: text.chars().take(200).collect(),
                retryable: None,
                by_conductor: false,
            };
        };
        let by_conductor = body.message.is_some();
        let mut message = body.message.unwrap_or_default();
        for v in body.validation_errors {
            use std::fmt::Write as _;
            let (path, text) = (v.path.unwrap_or_default(), v.message.unwrap_or_default());
            let _ = write!(message, " [{path}: {text}]");
        }
        Self {
            message,
            retryable: body.retryable,
            by_conductor,
        }
    }
}

/// `Retry-After` in seconds; its date form is not sent by Conductor nor by the gateways
/// before it, and needs a clock.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers
        .get("retry-after")?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, body: &str) -> Error {
        let status = StatusCode::from_u16(status).unwrap();
        Error::answered("update_task", status, &HeaderMap::new(), body.as_bytes())
    }

    #[test]
    fn every_status_has_a_kind() {
        for (status, kind) in [
            (400, Kind::Rejected),
            (401, Kind::Unauthorized),
            (403, Kind::Unauthorized),
            (404, Kind::Retryable { after: None }),
            (409, Kind::Rejected),
            (413, Kind::Rejected),
            (429, Kind::Retryable { after: None }),
            (500, Kind::Retryable { after: None }),
            (503, Kind::Retryable { after: None }),
            (302, Kind::Rejected),
        ] {
            assert_eq!(answered(status, "").kind(), kind, "{status}");
        }
    }

    #[test]
    fn a_500_is_doubtful_unless_marked_retryable() {
        assert!(answered(500, r#"{"message":"JSON parse error","retryable":false}"#).is_doubtful());
        assert!(!answered(500, r#"{"message":"queue","retryable":true}"#).is_doubtful());
        assert!(!answered(503, "").is_doubtful());
    }

    #[test]
    fn only_conductor_itself_knows_what_is_gone() {
        let own = answered(
            404,
            r#"{"status":404,"message":"No such task found by id: x"}"#,
        );
        assert_eq!(own.kind(), Kind::Gone);
        assert!(!own.is_doubtful());
        for body in ["", "default backend - 404", "{}", "<html>"] {
            let foreign = answered(404, body);
            assert_eq!(foreign.kind(), Kind::Retryable { after: None }, "{body}");
            assert!(foreign.is_doubtful(), "{body}");
        }
    }

    #[test]
    fn what_the_server_said_is_kept() {
        let e = answered(
            400,
            r#"{"message":"Validation failed","validationErrors":[{"path":"a.b","message":"must be 1"}]}"#,
        );
        assert_eq!(
            e.to_string(),
            "update_task: 400 Bad Request: Validation failed [a.b: must be 1]"
        );
        assert!(
            answered(502, "<html>bad gateway</html>")
                .to_string()
                .contains("bad gateway")
        );
    }

    #[test]
    fn retry_after_is_read() {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", "7".parse().unwrap());
        let e = Error::answered("x", StatusCode::TOO_MANY_REQUESTS, &headers, b"");
        assert_eq!(
            e.kind(),
            Kind::Retryable {
                after: Some(Duration::from_secs(7))
            }
        );
    }
}
