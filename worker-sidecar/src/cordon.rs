//! Taking no more work for a while, by the operator's word: `PUT /cordon?ttl=30s` with a token
//! that [`runtime::cordon`] describes, and `DELETE /cordon` to undo it.
//!
//! A cordoned sidecar polls no more; a poll in the air is awaited and what it brings is executed,
//! and tasks in work go on. It ends by itself after its ttl, so that an operator that has died
//! leaves no pod cordoned. Cordoned and idle, the pod is not ready: Kubernetes removes such pods
//! before others.
//!
//! Operator and sidecars differ in their versions during an upgrade: path, methods, `ttl`, the
//! `Authorization` header and the statuses must stay as they are for two versions.

use std::{path::PathBuf, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Query, State, rejection::QueryRejection},
    http::{
        HeaderMap, StatusCode,
        header::{AUTHORIZATION, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
    routing::put,
};
use runtime::cordon::{Action, InvalidKey, PublicKeys};
use serde::Deserialize;
use tokio::{sync::watch, time::Instant};

use crate::{config::parse_duration, pipeline::Sidecar, stats};

/// How long a cordon may last without being renewed. A token can be replayed for a minute: this
/// bounds what that may do.
const LONGEST: Duration = Duration::from_secs(120);
const SHORTEST: Duration = Duration::from_secs(1);

/// Whether polls may begin, and how many are in the air. Clones are one.
#[derive(Debug, Clone, Default)]
pub struct Cordon(watch::Sender<Intake>);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Intake {
    until: Option<Instant>,
    polls: usize,
}

impl Intake {
    fn is_cordoned(self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

/// A poll in the air, until dropped.
#[derive(Debug)]
pub struct InTheAir(Cordon);

impl Cordon {
    /// No polls from `now` on, for `ttl`. Whether that is new.
    pub fn put(&self, now: Instant, ttl: Duration) -> bool {
        let mut is_new = false;
        self.0.send_modify(|intake| {
            is_new = !intake.is_cordoned(now);
            intake.until = Some(now + ttl);
        });
        is_new
    }

    /// Polls may begin again. Whether that is new.
    pub fn lift(&self, now: Instant) -> bool {
        let mut is_new = false;
        self.0.send_modify(|intake| {
            is_new = intake.is_cordoned(now);
            intake.until = None;
        });
        is_new
    }

    /// Whether no poll may begin.
    pub fn is_on(&self, now: Instant) -> bool {
        self.0.borrow().is_cordoned(now)
    }

    /// How many polls are in the air.
    pub fn polls(&self) -> usize {
        self.0.borrow().polls
    }

    /// A poll begins, unless it must not.
    pub fn poll(&self, now: Instant) -> Option<InTheAir> {
        // In one step with the look at the cordon: once it is on, none is added.
        let begins = self.0.send_if_modified(|intake| {
            let begins = !intake.is_cordoned(now);
            intake.polls += usize::from(begins);
            begins
        });
        begins.then(|| InTheAir(self.clone()))
    }

    /// Ends when polls may begin.
    pub async fn lifted(&self) {
        let mut intake = self.0.subscribe();
        loop {
            let until = match intake.borrow_and_update().until {
                Some(until) if Instant::now() < until => until,
                _ => return,
            };
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                // The sender lives in `self`, so the channel cannot close meanwhile.
                _ = intake.changed() => {}
            }
        }
    }
}

impl Drop for InTheAir {
    fn drop(&mut self) {
        self.0.0.send_modify(|intake| intake.polls -= 1);
    }
}

// === by whom ===

/// Who may cordon this pod.
#[derive(Debug, Clone)]
pub struct Access {
    /// The operator's public key.
    pub keys: Keys,
    /// How its tokens name this pod.
    pub audience: String,
}

/// Where the operator's public key is.
#[derive(Debug, Clone)]
pub enum Keys {
    /// Nowhere: nobody may cordon.
    None,
    /// Here.
    Given(PublicKeys),
    /// In a file, which is read for each request: it may change, and be empty at first.
    File(PathBuf),
}

/// `/cordon`.
pub fn router(sidecar: Arc<Sidecar>, access: Access) -> Router {
    let control = Arc::new(Control { sidecar, access });
    Router::new()
        .route("/cordon", put(cordon).delete(uncordon))
        .with_state(control)
}

struct Control {
    sidecar: Arc<Sidecar>,
    access: Access,
}

/// A refusal, with its reason.
type Refusal = (StatusCode, String);

#[derive(Deserialize)]
struct Ttl {
    ttl: Option<String>,
}

async fn cordon(
    State(control): State<Arc<Control>>,
    headers: HeaderMap,
    query: Result<Query<Ttl>, QueryRejection>,
) -> Response {
    let allowed = control.allow(&headers, Action::Cordon).await;
    let ttl = allowed.and_then(|()| {
        let given = query.map_err(|e| bad_ttl(&e.body_text()))?;
        ttl(given.ttl.as_deref())
    });
    match ttl {
        Ok(ttl) => {
            if control.sidecar.cordon().put(Instant::now(), ttl) {
                let in_flight = control.sidecar.in_flight();
                tracing::info!(?ttl, in_flight, "cordoned: no more polls");
            }
            Json(control.sidecar.stats()).into_response()
        }
        Err(refusal) => refused(refusal),
    }
}

async fn uncordon(State(control): State<Arc<Control>>, headers: HeaderMap) -> Response {
    match control.allow(&headers, Action::Uncordon).await {
        Ok(()) => {
            if control.sidecar.cordon().lift(Instant::now()) {
                tracing::info!("no longer cordoned");
            }
            Json(control.sidecar.stats()).into_response()
        }
        Err(refusal) => refused(refusal),
    }
}

impl Control {
    async fn allow(&self, headers: &HeaderMap, action: Action) -> Result<(), Refusal> {
        let keys = match &self.access.keys {
            Keys::Given(keys) => keys.clone(),
            Keys::File(path) => read(path)
                .await
                .map_err(|why| {
                    tracing::error!(why, "nobody can cordon this pod");
                    (StatusCode::INTERNAL_SERVER_ERROR, why)
                })?
                .ok_or_else(|| {
                    let says = format!("there is no key yet in {}; try again", path.display());
                    (StatusCode::SERVICE_UNAVAILABLE, says)
                })?,
            Keys::None => {
                return Err((
                    StatusCode::NOT_IMPLEMENTED,
                    "this sidecar has no key to check tokens with; set CORDON_PUBLIC_KEY or CORDON_PUBLIC_KEY_FILE to the operator's public key".to_owned(),
                ));
            }
        };
        let unauthorized = |why: String| (StatusCode::UNAUTHORIZED, why);
        let token = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
            .ok_or_else(|| {
                unauthorized("no token; send Authorization: Bearer <token>".to_owned())
            })?;
        let now = u64::try_from(stats::now_ms() / 1000).unwrap_or(0);
        let checked = keys.check(token.trim(), &self.access.audience, action, now);
        checked.map_err(|why| unauthorized(why.to_string()))
    }
}

/// Reads public keys from a file; none where it is empty.
async fn read(path: &PathBuf) -> Result<Option<PublicKeys>, String> {
    let text = tokio::fs::read_to_string(path).await;
    let text = text.map_err(|e| format!("{}: {e}", path.display()))?;
    parse(&text).map_err(|e| format!("{}: {e}", path.display()))
}

/// What a file of keys says. An empty one has none yet: Kubernetes makes the file with the pod,
/// and the operator gives the key when it has something to say.
pub(crate) fn parse(text: &str) -> Result<Option<PublicKeys>, InvalidKey> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    text.parse().map(Some)
}

fn ttl(given: Option<&str>) -> Result<Duration, Refusal> {
    let given = given.ok_or_else(|| bad_ttl("ttl is missing"))?;
    match parse_duration(given) {
        Ok(ttl) if (SHORTEST..=LONGEST).contains(&ttl) => Ok(ttl),
        Ok(_) => Err(bad_ttl(&format!("{given:?} is out of bounds"))),
        Err(why) => Err(bad_ttl(&why.to_string())),
    }
}

fn bad_ttl(why: &str) -> Refusal {
    let says = format!("{why}; write PUT /cordon?ttl=30s, from 1s to 2m");
    (StatusCode::BAD_REQUEST, says)
}

fn refused((status, why): Refusal) -> Response {
    let mut response = (status, format!("{why}\n")).into_response();
    if status == StatusCode::UNAUTHORIZED {
        let scheme = axum::http::HeaderValue::from_static("Bearer");
        response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
    }
    response
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    const TTL: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn no_poll_begins_until_the_ttl_is_over() {
        let cordon = Cordon::default();
        let start = Instant::now();
        let before = cordon.poll(start).unwrap();
        assert!(cordon.put(start, TTL));
        assert!(cordon.is_on(start) && cordon.poll(start).is_none());
        assert_eq!(cordon.polls(), 1, "one was in the air");
        drop(before);
        assert_eq!(cordon.polls(), 0);

        // Renewed after 20 s, it ends 30 s after that.
        tokio::time::advance(Duration::from_secs(20)).await;
        assert!(!cordon.put(Instant::now(), TTL), "not new");
        cordon.lifted().await;
        assert_eq!(start.elapsed(), Duration::from_secs(50));
        assert!(!cordon.is_on(Instant::now()) && cordon.poll(Instant::now()).is_some());
        assert!(cordon.lifted().now_or_never().is_some());
        assert!(!cordon.lift(Instant::now()), "over already");
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_undone_and_shortened() {
        let cordon = Cordon::default();
        let start = Instant::now();
        cordon.put(start, TTL);
        let lifted = tokio::spawn({
            let cordon = cordon.clone();
            async move { cordon.lifted().await }
        });
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!lifted.is_finished() && cordon.lift(Instant::now()));
        lifted.await.unwrap();
        assert_eq!(start.elapsed(), Duration::from_secs(1));
        cordon.put(Instant::now(), TTL);
        cordon.put(Instant::now(), SHORTEST);
        cordon.lifted().await;
        assert_eq!(start.elapsed(), Duration::from_secs(2));
    }

    #[test]
    fn ttls() {
        for (given, millis) in [
            (Some("1s"), Some(1000)),
            (Some("30s"), Some(30_000)),
            (Some("2m"), Some(120_000)),
            (Some("2m1s"), None),
            (Some("999ms"), None),
            (Some("0s"), None),
            (Some("30"), None),
            (Some("-1s"), None),
            (Some(""), None),
            (None, None),
        ] {
            match ttl(given) {
                Ok(ttl) => assert_eq!(Some(ttl.as_millis()), millis, "{given:?}"),
                Err((status, says)) => {
                    assert_eq!((status.as_u16(), millis), (400, None), "{given:?}");
                    assert!(says.contains("write PUT /cordon?ttl=30s"), "{says}");
                }
            }
        }
    }
}
