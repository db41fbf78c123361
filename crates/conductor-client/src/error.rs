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
    /// The server understood and will not do it (another 4xx with Conductor's own error body),
    /// or its answer made no sense.
    Rejected,
    /// What the call is about does not exist: a 404 with Conductor's own error body, which has
    /// both `message` and `retryable`. Another
    /// 404, of a gateway that has no server behind it for now, is retryable and doubtful, as
    /// are a gateway's redirects and other 4xx.
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

/// So much of a secret is recognised as a part of it.
const HEAD: usize = 12;
const HIDDEN: &str = "[hidden]";

/// A call that failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{call}: {message}")]
pub struct Error {
    call: &'static str,
    kind: Kind,
    status: Option<u16>,
    doubtful: bool,
    token_refused: bool,
    under_way: bool,
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

    /// True for a 500 that the server marks as not retryable, and for a 2xx, 3xx or 4xx that is
    /// not Conductor's. Conductor answers so for most mistakes of the client, but also for a busy
    /// `SQLite` file: repeat it, but not for ever.
    pub fn is_doubtful(&self) -> bool {
        self.doubtful
    }

    /// True if another token may do: a 401, a 403 that says so, or where there was none to send.
    pub fn is_token_refused(&self) -> bool {
        self.token_refused
    }

    /// Whether the server may still get the call, or be at it: nobody answered after a connection
    /// was made, or a gateway answered in its place (408, 502, 503, 504).
    pub fn may_be_under_way(&self) -> bool {
        self.under_way
    }

    /// The failure of what had to come before this call.
    pub(crate) fn before(self, call: &'static str) -> Self {
        let message = format!("no token: {}", self.message);
        Self {
            call,
            message,
            // Whatever it says, it is not about this call.
            doubtful: false,
            token_refused: true,
            under_way: false,
            ..self
        }
    }

    /// The same, for somebody to mend the credentials.
    pub(crate) fn unauthorized(self) -> Self {
        Self {
            kind: Kind::Unauthorized,
            ..self
        }
    }

    /// The same without this secret in its text, nor the beginning of it: what servers say is
    /// cut.
    pub(crate) fn without(mut self, secret: &str) -> Self {
        let head = secret.get(..HEAD).unwrap_or(secret);
        let mut from = 0;
        while !head.is_empty()
            && let Some(at) = self.message[from..].find(head)
        {
            let at = from + at;
            let quoted = self.message[at..].char_indices().zip(secret.chars());
            let same = quoted.take_while(|((_, said), own)| said == own);
            let length = same.map(|((i, c), _)| i + c.len_utf8()).last();
            let end = at + length.unwrap_or(head.len());
            self.message.replace_range(at..end, HIDDEN);
            from = at + HIDDEN.len();
        }
        self
    }

    /// What was asked for cannot be made.
    pub(crate) fn invalid(call: &'static str, message: String) -> Self {
        Self {
            call,
            kind: Kind::Rejected,
            status: None,
            doubtful: false,
            token_refused: false,
            under_way: false,
            message,
        }
    }

    /// Nobody is left who could get a token.
    pub(crate) fn lost(call: &'static str) -> Self {
        let message = "nobody gets one any more".to_owned();
        Self::invalid(call, message).unauthorized().before(call)
    }

    pub(crate) fn transport(call: &'static str, error: &reqwest::Error) -> Self {
        // reqwest's own text stops at "error sending request"; the reason is further down.
        let mut message = error.to_string();
        let mut hint = None;
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            hint = hint.or_else(|| tls_hint(cause));
            source = cause.source();
        }
        if let Some(hint) = hint {
            message.push_str("; ");
            message.push_str(hint);
        }
        Self {
            call,
            kind: Kind::Retryable { after: None },
            status: None,
            doubtful: false,
            token_refused: false,
            under_way: !error.is_connect(),
            message,
        }
    }

    pub(crate) fn nonsense(call: &'static str, why: impl std::fmt::Display) -> Self {
        Self::refused(call, format!("the server's answer cannot be read: {why}"))
    }

    /// A success that Conductor did not send.
    pub(crate) fn foreign(call: &'static str, status: StatusCode, body: &[u8]) -> Self {
        let start: String = String::from_utf8_lossy(body).chars().take(80).collect();
        Self {
            call,
            kind: Kind::Retryable { after: None },
            status: Some(status.as_u16()),
            doubtful: true,
            token_refused: false,
            under_way: false,
            message: format!(
                "answered {}, but not by Conductor: {start:?}",
                status.as_u16()
            ),
        }
    }

    pub(crate) fn refused(call: &'static str, message: String) -> Self {
        Self {
            status: Some(200),
            ..Self::invalid(call, message)
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
            408 | 425 | 429 | 500..=599 => Kind::Retryable {
                after: retry_after(headers),
            },
            _ if said.by_conductor => Kind::Rejected,
            // Of a gateway, which may think otherwise in a minute.
            _ => Kind::Retryable { after: None },
        };
        Self {
            call,
            kind,
            status: Some(status.as_u16()),
            doubtful: match status.as_u16() {
                500 => said.retryable != Some(true),
                300..=499 => !matches!(kind, Kind::Unauthorized) && !said.by_conductor,
                _ => false,
            },
            token_refused: match status.as_u16() {
                401 => true,
                403 => matches!(
                    said.error.as_deref(),
                    Some("EXPIRED_TOKEN" | "INVALID_TOKEN")
                ),
                _ => false,
            },
            under_way: matches!(status.as_u16(), 408 | 502..=504),
            message: format!("{status}: {}", said.message),
        }
    }
}

/// Conductor's error body, or the start of whatever came instead.
struct Said {
    message: String,
    retryable: Option<bool>,
    by_conductor: bool,
    /// Orkes' word for what is wrong with a token.
    error: Option<String>,
}

/// What to do about a certificate that is not taken.
fn tls_hint(cause: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    use rustls::{AlertDescription as Alert, CertificateError, Error as Tls};
    // An io::Error's source is its inner error's source, not the inner error; and one may
    // hold another.
    let mut inner = cause;
    while let Some(io) = inner.downcast_ref::<std::io::Error>() {
        inner = io.get_ref()?;
    }
    match inner.downcast_ref::<Tls>()? {
        Tls::InvalidCertificate(CertificateError::UnknownIssuer) => Some(
            "no authority that is trusted here has signed the server's certificate: give its CA certificate to trust",
        ),
        Tls::AlertReceived(
            Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::UnknownCA
            | Alert::CertificateUnknown,
        ) => Some("the server wants a client certificate that it trusts: give one with its key"),
        _ => None,
    }
}

impl Said {
    fn read(body: &[u8]) -> Self {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Body {
            error: Option<String>,
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
                error: None,
            };
        };
        // Gateways have a `message` too: what only Conductor says is whether to try again.
        let by_conductor = body.message.is_some() && body.retryable.is_some();
        let mut message = match (&body.error, body.message) {
            (Some(error), None) => error.clone(),
            (_, message) => message.unwrap_or_default(),
        };
        for v in body.validation_errors {
            use std::fmt::Write as _;
            let (path, text) = (v.path.unwrap_or_default(), v.message.unwrap_or_default());
            let _ = write!(message, " [{path}: {text}]");
        }
        Self {
            message,
            retryable: body.retryable,
            by_conductor,
            error: body.error,
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
        let again = Kind::Retryable { after: None };
        let own = r#"{"message":"no","retryable":false}"#;
        for (status, body, kind) in [
            (400, own, Kind::Rejected),
            (400, "", again),
            (401, "", Kind::Unauthorized),
            (403, own, Kind::Unauthorized),
            (404, own, Kind::Gone),
            (404, "", again),
            (405, own, Kind::Rejected),
            (409, own, Kind::Rejected),
            (400, r#"{"message":"no"}"#, again),
            (413, "<html>", again),
            (429, own, again),
            (500, own, again),
            (503, "", again),
            (302, "", again),
        ] {
            let error = answered(status, body);
            assert_eq!(error.kind(), kind, "{status} {body}");
            let foreign = body != own && status < 500 && status != 401;
            assert_eq!(
                error.is_doubtful(),
                foreign || status == 500,
                "{status} {body}"
            );
        }
    }

    #[test]
    fn what_a_gateway_answers_may_be_under_way() {
        for status in [408, 502, 503, 504] {
            assert!(answered(status, "").may_be_under_way(), "{status}");
        }
        let own = r#"{"message":"no","retryable":false}"#;
        for status in [400, 401, 404, 429, 500] {
            assert!(!answered(status, own).may_be_under_way(), "{status}");
        }
        let token = answered(504, "").before("update_task");
        assert!(!token.may_be_under_way(), "it was never sent");
    }

    #[tokio::test]
    async fn only_what_had_a_connection_may_be_under_way() {
        runtime::install_tls_provider();
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", nobody.local_addr().unwrap());
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let call = async || {
            let call = http.get(&url).timeout(Duration::from_millis(200));
            Error::transport("update_task", &call.send().await.unwrap_err())
        };
        // It takes connections, and answers nothing.
        assert!(call().await.may_be_under_way());
        drop(nobody);
        assert!(!call().await.may_be_under_way());
    }

    #[test]
    fn a_500_is_doubtful_unless_marked_retryable() {
        assert!(answered(500, r#"{"message":"JSON parse error","retryable":false}"#).is_doubtful());
        assert!(!answered(500, r#"{"message":"queue","retryable":true}"#).is_doubtful());
        assert!(!answered(503, "").is_doubtful());
    }

    #[test]
    fn only_conductor_itself_knows_what_is_gone() {
        let said = |message: &str| {
            format!(r#"{{"status":404,"message":"{message}","instance":"vm","retryable":false}}"#)
        };
        for message in [
            "No such task found by id: x",
            "No such workflow found by id: x",
            "Task not found for taskId: x",
            "No static resource api/tasks/update-v2.",
        ] {
            let own = answered(404, &said(message));
            assert_eq!(own.kind(), Kind::Gone, "{message}");
            assert!(!own.is_doubtful(), "{message}");
        }
        for body in [
            "",
            "default backend - 404",
            "{}",
            "<html>",
            // Kong, AWS, Azure, Spring.
            r#"{"message":"no Route matched with those values"}"#,
            r#"{"message":"no Route matched with those values","request_id":"5d1f"}"#,
            r#"{"message":"Not Found"}"#,
            r#"{"statusCode":404,"message":"Resource not found"}"#,
            r#"{"timestamp":1,"status":404,"error":"Not Found","message":"","path":"/api/tasks"}"#,
        ] {
            let foreign = answered(404, body);
            assert_eq!(foreign.kind(), Kind::Retryable { after: None }, "{body}");
            assert!(foreign.is_doubtful(), "{body}");
        }
    }

    #[test]
    fn a_refusal_by_validation_is_conductors() {
        let own = answered(
            400,
            r#"{"status":400,"message":"Validation failed, check below errors for detail.","retryable":false,"validationErrors":[{"path":"updateTask.arg0.taskId","message":"Task ID cannot be null or empty"}]}"#,
        );
        assert_eq!(own.kind(), Kind::Rejected);
        assert!(!own.is_doubtful());
    }

    #[test]
    fn why_there_is_no_token_does_not_speak_of_the_call() {
        let error = answered(400, "<html>").before("update_task");
        assert_eq!(error.kind(), Kind::Retryable { after: None });
        assert!(!error.is_doubtful());
    }

    #[test]
    fn only_some_refusals_are_the_tokens_fault() {
        for (status, body, refused) in [
            (401, "", true),
            (
                401,
                r#"{"error":"EXPIRED_TOKEN","message":"Token expired"}"#,
                true,
            ),
            (403, r#"{"error":"EXPIRED_TOKEN"}"#, true),
            (403, r#"{"error":"INVALID_TOKEN"}"#, true),
            (403, r#"{"error":"FORBIDDEN","message":"no"}"#, false),
            (403, "", false),
            (400, r#"{"error":"EXPIRED_TOKEN"}"#, false),
        ] {
            let error = answered(status, body);
            assert_eq!(error.is_token_refused(), refused, "{status} {body}");
        }
        let failed = answered(403, "no").before("poll");
        assert!(failed.is_token_refused(), "{failed}");
        let bare = answered(401, r#"{"error":"INVALID_TOKEN"}"#).to_string();
        assert!(bare.ends_with("INVALID_TOKEN"), "{bare}");
    }

    #[test]
    fn secrets_are_hidden_wherever_they_are_quoted_or_cut() {
        for (said, secret, shown) in [
            (
                "token abc is bad; got abc",
                "abc",
                "token [hidden] is bad; got [hidden]",
            ),
            (
                "got a-long-secret-th",
                "a-long-secret-that-goes-on",
                "got [hidden]",
            ),
            (
                "got a-long-secret-thief",
                "a-long-secret-that-goes-on",
                "got [hidden]ief",
            ),
            (
                "got a-long-secre",
                "a-long-secret-that-goes-on",
                "got [hidden]",
            ),
            (
                "nothing of it",
                "a-long-secret-that-goes-on",
                "nothing of it",
            ),
            ("ä-länger als das", "ä-länger als dasselbe", "[hidden]"),
            ("got [hidden]", "[hidden]", "got [hidden]"),
            ("anything", "", "anything"),
        ] {
            let error = answered(401, &format!(r#"{{"message":"{said}"}}"#)).without(secret);
            let expected = format!("update_task: 401 Unauthorized: {shown}");
            assert_eq!(error.to_string(), expected);
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
