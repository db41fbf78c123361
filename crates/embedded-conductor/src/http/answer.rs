//! Answers and bodies.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::state::Refused;

/// What Conductor answers when all went well.
#[derive(Debug)]
pub(super) enum Answer {
    /// 200 without a body.
    Empty,
    /// 204.
    Nothing,
    /// 200, plain text.
    Text(String),
    /// 200, JSON.
    Json(String),
}

/// What a handler gives.
pub(super) type Result<T = Answer> = std::result::Result<T, Refused>;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain;charset=UTF-8");

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        match self {
            Self::Empty => StatusCode::OK.into_response(),
            Self::Nothing => StatusCode::NO_CONTENT.into_response(),
            Self::Text(text) => respond(StatusCode::OK, TEXT, text),
            Self::Json(json) => respond(StatusCode::OK, JSON, json),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = respond(status, JSON, self.body());
        if self.unheard {
            response.extensions_mut().insert(Unheard);
        }
        response
    }
}

fn respond(status: StatusCode, kind: HeaderValue, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// A value as JSON.
pub(super) fn json<T: Serialize + ?Sized>(value: &T) -> Result {
    serde_json::to_string(value)
        .map(Answer::Json)
        .map_err(|e| Refused::mistake(e.to_string()))
}

/// The longest text that Conductor's JSON reader takes.
const TEXT_LIMIT: usize = 20_000_000;

/// How much of a request Tomcat still reads after the answer to it. If there is more it closes
/// the connection while the client sends, who never hears the answer.
const SWALLOWED: usize = 2 * 1024 * 1024;

/// Marks an answer that the client must not hear: the connection is to close instead.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unheard;

/// Reads a JSON body. What cannot be read is a 500, as in Conductor.
pub(super) fn read<T: DeserializeOwned>(headers: &HeaderMap, body: &Bytes) -> Result<T> {
    if body.is_empty() {
        return Err(Refused::mistake("Required request body is missing"));
    }
    let kind = headers
        .get(header::CONTENT_TYPE)
        .map_or("application/octet-stream", |v| v.to_str().unwrap_or("?"));
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") && !essence.ends_with("+json") {
        return Err(Refused::mistake(format!(
            "Content-Type '{kind}' is not supported"
        )));
    }
    if let Some(text) = longest_text(body).filter(|text| text.length > TEXT_LIMIT) {
        let mut refused = Refused::mistake(format!(
            "JSON parse error: String value length ({}) exceeds the maximum allowed ({TEXT_LIMIT})",
            text.length
        ));
        refused.unheard = body.len() > text.start + TEXT_LIMIT + SWALLOWED;
        return Err(refused);
    }
    serde_json::from_slice(body).map_err(|e| Refused::mistake(format!("JSON parse error: {e}")))
}

/// The same for what must be an object: our reader would take its fields as an array too.
pub(super) fn read_object<T: DeserializeOwned>(headers: &HeaderMap, body: &Bytes) -> Result<T> {
    if body.trim_ascii_start().starts_with(b"[") {
        return Err(Refused::mistake(
            "JSON parse error: Cannot deserialize from Array value (token `JsonToken.START_ARRAY`)",
        ));
    }
    read(headers, body)
}

/// A text within a body, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Text {
    start: usize,
    length: usize,
}

/// The longest text of a JSON body that is large enough to hold one that is too long.
fn longest_text(body: &[u8]) -> Option<Text> {
    if body.len() <= TEXT_LIMIT {
        return None;
    }
    let (mut longest, mut now) = (Text::default(), Text::default());
    let (mut inside, mut escaped) = (false, false);
    for (at, &byte) in body.iter().enumerate() {
        match (inside, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => {
                inside = !inside;
                now = Text {
                    start: at + 1,
                    length: 0,
                };
            }
            (true, _) => now.length += 1,
            (false, _) => {}
        }
        if now.length > longest.length {
            longest = now;
        }
    }
    Some(longest)
}
