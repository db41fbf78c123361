//! `/token`, and who is let in.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde::Deserialize;

use super::answer::{self, Answer};
use crate::tokens::{self, Denied, Tokens};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Keys {
    key_id: String,
    key_secret: String,
}

pub(super) async fn give(
    State(tokens): State<Arc<Tokens>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let keys: Keys = match answer::read_object(&headers, &body) {
        Ok(keys) => keys,
        Err(refused) => return refused.into_response(),
    };
    match tokens.give(&keys.key_id, &keys.key_secret, tokens::now()) {
        Ok(token) => {
            Answer::Json(serde_json::json!({ "token": token }).to_string()).into_response()
        }
        Err(denied) => denied.into_response(),
    }
}

pub(super) async fn check(
    State(tokens): State<Arc<Tokens>>,
    request: Request,
    next: Next,
) -> Response {
    let token = request.headers().get("x-authorization");
    let token = token.and_then(|token| token.to_str().ok());
    match tokens.check(token, tokens::now()) {
        Ok(()) => next.run(request).await,
        Err(denied) => denied.into_response(),
    }
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::UNAUTHORIZED);
        let kind = [(header::CONTENT_TYPE, "application/json")];
        (status, kind, self.body()).into_response()
    }
}
