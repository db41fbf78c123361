//! A gateway before Conductor that lets in who has keys, as Orkes does: the server itself asks
//! nobody who he is.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context as _, Result};
use axum::{
    Json, Router,
    body::Bytes,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{net::TcpListener, task::JoinHandle};

/// What a client proves who it is with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Keys {
    /// Which keys.
    pub key_id: String,
    /// Their secret.
    pub key_secret: String,
}

impl Keys {
    /// The keys of a number.
    pub fn numbered(n: u32) -> Self {
        Self {
            key_id: format!("key-{n}"),
            key_secret: format!("secret-{n}"),
        }
    }
}

/// Who may come in.
#[derive(Debug, Default)]
struct Guests {
    /// The tokens of keys that are valid.
    tokens: BTreeMap<Keys, Vec<String>>,
    given: u64,
}

impl Guests {
    fn token(&mut self, keys: &Keys) -> Option<String> {
        let tokens = self.tokens.get_mut(keys)?;
        self.given += 1;
        let token = format!("token-{}", self.given);
        tokens.push(token.clone());
        Some(token)
    }

    fn knows(&self, token: &str) -> bool {
        self.tokens.values().flatten().any(|known| known == token)
    }
}

struct Door {
    upstream: String,
    http: reqwest::Client,
    guests: Arc<Mutex<Guests>>,
}

/// A gateway, for as long as this lives.
#[derive(Debug)]
pub struct Gate {
    guests: Arc<Mutex<Guests>>,
    addr: SocketAddr,
    serving: JoinHandle<()>,
}

impl Gate {
    /// Starts one on an address of this machine before a Conductor with this API base.
    pub async fn start(address: IpAddr, base: &str) -> Result<Self> {
        let upstream = base
            .strip_suffix("/api")
            .with_context(|| format!("{base:?} does not end in /api"))?;
        let guests = Arc::<Mutex<Guests>>::default();
        let door = Arc::new(Door {
            upstream: upstream.to_owned(),
            http: reqwest::Client::builder().no_proxy().build()?,
            guests: guests.clone(),
        });
        let router = Router::new()
            .route("/api/token", post(give))
            .fallback(pass)
            .with_state(door);
        let listener = TcpListener::bind((address, 0)).await?;
        let addr = listener.local_addr()?;
        let serving = tokio::spawn(async move {
            // It ends by being aborted alone.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self {
            guests,
            addr,
            serving,
        })
    }

    /// The API's address through it.
    pub fn base(&self) -> String {
        format!("http://{}/api", self.addr)
    }

    /// Lets these in from now on.
    pub fn admit(&self, keys: Keys) {
        lock(&self.guests).tokens.entry(keys).or_default();
    }

    /// Lets these and their tokens in no more.
    pub fn revoke(&self, keys: &Keys) {
        lock(&self.guests).tokens.remove(keys);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn lock(guests: &Mutex<Guests>) -> MutexGuard<'_, Guests> {
    guests.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn give(State(door): State<Arc<Door>>, Json(keys): Json<Keys>) -> Response {
    match lock(&door.guests).token(&keys) {
        Some(token) => Json(json!({"token": token})).into_response(),
        None => refused("these keys are not valid"),
    }
}

fn refused(why: &str) -> Response {
    let body = json!({"status": 401, "error": "INVALID_TOKEN", "message": why});
    (StatusCode::UNAUTHORIZED, Json(body)).into_response()
}

async fn pass(State(door): State<Arc<Door>>, request: Request) -> Response {
    let token = request.headers().get("x-authorization");
    let token = token.and_then(|token| token.to_str().ok());
    if !token.is_some_and(|token| lock(&door.guests).knows(token)) {
        return refused("the token is not valid");
    }
    match door.pass(request).await {
        Ok((status, headers, body)) => (status, headers, body).into_response(),
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response(),
    }
}

impl Door {
    async fn pass(&self, request: Request) -> Result<(StatusCode, HeaderMap, Bytes)> {
        let (head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let body = axum::body::to_bytes(body, usize::MAX).await?;
        let mut call = self
            .http
            .request(head.method, format!("{}{path}", self.upstream))
            .body(body);
        for name in ["content-type", "accept"] {
            if let Some(value) = head.headers.get(name) {
                call = call.header(name, value);
            }
        }
        let answer = call.send().await?;
        let status = answer.status();
        let mut headers = HeaderMap::new();
        if let Some(kind) = answer.headers().get("content-type") {
            headers.insert("content-type", kind.clone());
        }
        Ok((status, headers, answer.bytes().await?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_end_with_their_keys() {
        let (old, new) = (Keys::numbered(1), Keys::numbered(2));
        let mut guests = Guests::default();
        assert_eq!(guests.token(&old), None, "nobody is known yet");
        guests.tokens.entry(old.clone()).or_default();
        guests.tokens.entry(new.clone()).or_default();
        let (first, second) = (guests.token(&old).unwrap(), guests.token(&new).unwrap());
        assert!(guests.knows(&first) && guests.knows(&second));
        guests.tokens.remove(&old);
        assert!(!guests.knows(&first) && guests.knows(&second));
        assert_eq!(guests.token(&old), None);
    }
}
