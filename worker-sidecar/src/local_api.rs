//! The local task API: the few calls of Conductor's own API that code in a handler needs, on
//! loopback, passed on with the sidecar's connection, so that no key is in the handler's
//! container and any of Conductor's SDK clients works unchanged.
//!
//! ```text
//! handler ──> mind: loopback? allowed? ──> held? ──> Client::forward ──> Conductor
//! ```
//!
//! What is passed on is decided by exact routes: Conductor has other calls of the same shape
//! (`/tasks/search`, `/tasks/queue/requeue/{type}`), which would bring back the power that the
//! handler shall not need.
//!
//! A task that this sidecar holds has one more rule. Its terminal update ends its lease, and the
//! answer to the call that still runs is ignored. `IN_PROGRESS` would put it back into its queue
//! while its call runs, so that is refused.

mod update;

use std::{borrow::Cow, fmt::Display, net::IpAddr, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::{MatchedPath, Path, Query, Request, State},
    http::{
        HeaderMap, HeaderValue, Method, StatusCode, Uri,
        header::{
            ACCEPT, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, ORIGIN, RETRY_AFTER,
        },
        uri::Authority,
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::{Bytes, BytesMut};
use conductor_client::{Forward, Forwarded, UpdateStatus};
use futures::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use tokio::{sync::Semaphore, time::timeout};

use self::update::{Update, ends, id_of, name_of, status_of};
use crate::{held::HeldTask, lease::report_patience, pipeline::Sidecar};

/// How long a request's body may take: it comes over loopback.
const PATIENCE: Duration = Duration::from_secs(30);

const ALLOWED: &str = "the worker's local task API takes GET /api/tasks/{id}, POST /api/tasks, \
    POST /api/tasks/{workflowId}/{ref}/{status}[/sync] with the statuses IN_PROGRESS, COMPLETED, \
    FAILED, FAILED_WITH_TERMINAL_ERROR and CANCELED, and POST and GET /api/tasks/{id}/log; for \
    anything else give the container Conductor's own address";

/// A call that is passed on: a bounded word for a metric's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    GetTask,
    UpdateTask,
    UpdateByReference,
    LogTask,
    TaskLogs,
}

impl Call {
    fn of(method: &Method, route: &str) -> Option<Self> {
        match (method.as_str(), route) {
            ("GET", "/api/tasks/{a}") => Some(Self::GetTask),
            ("POST", "/api/tasks") => Some(Self::UpdateTask),
            ("POST", "/api/tasks/{a}/{b}/{c}" | "/api/tasks/{a}/{b}/{c}/sync") => {
                Some(Self::UpdateByReference)
            }
            ("POST", "/api/tasks/{a}/log") => Some(Self::LogTask),
            ("GET", "/api/tasks/{a}/log") => Some(Self::TaskLogs),
            _ => None,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::GetTask => "get_task",
            Self::UpdateTask => "update_task",
            Self::UpdateByReference => "update_task_by_reference",
            Self::LogTask => "log_task",
            Self::TaskLogs => "task_logs",
        }
    }
}

/// A request that is not passed on, answered as Conductor answers.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    status: StatusCode,
    message: String,
    retryable: bool,
}

impl Refusal {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            retryable: false,
        }
    }

    fn not_allowed() -> Self {
        Self::new(StatusCode::FORBIDDEN, ALLOWED)
    }

    fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Said {
            status: u16,
            message: String,
            retryable: bool,
        }
        let said = Said {
            status: self.status.as_u16(),
            message: self.message,
            retryable: self.retryable,
        };
        (self.status, Json(said)).into_response()
    }
}

/// The API of a sidecar. Serve it on loopback alone.
pub fn router(sidecar: Arc<Sidecar>) -> Router {
    let local = Arc::new(Local {
        room: Semaphore::new(sidecar.config().slots.max(4)),
        sidecar,
    });
    Router::new()
        // Routes of the same depth name their parameters alike, as the router wants it.
        .route("/api/tasks", post(update))
        .route("/api/tasks/{a}", get(get_task))
        .route("/api/tasks/{a}/log", get(task_logs).post(log_task))
        .route("/api/tasks/{a}/{b}/{c}", post(update_by_reference))
        .route(
            "/api/tasks/{a}/{b}/{c}/sync",
            post(update_by_reference_sync),
        )
        .fallback(async || Refusal::not_allowed())
        .method_not_allowed_fallback(async || Refusal::not_allowed())
        .layer(middleware::from_fn_with_state(local.clone(), mind))
        .with_state(local)
}

struct Local {
    sidecar: Arc<Sidecar>,
    /// As many bodies are in memory at once.
    room: Semaphore,
}

type Answer = Result<Response, Refusal>;

/// Refuses what does not come from this pod or is not allowed, and counts all of it.
async fn mind(
    State(local): State<Arc<Local>>,
    route: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let call = route.and_then(|route| Call::of(request.method(), route.as_str()));
    let checked = from_this_pod(request.uri(), request.headers());
    let response = match (checked, call) {
        (Err(refusal), _) => refusal.into_response(),
        (Ok(()), None) => Refusal::not_allowed().into_response(),
        (Ok(()), Some(_)) => next.run(request).await,
    };
    let word = call.map_or("other", Call::as_str);
    let status = response.status().as_u16();
    local.sidecar.metrics().local_request(word, status);
    response
}

/// A page in a browser could reach loopback by a name of its own (DNS rebinding) or with a
/// request of another origin; a client in the pod sends neither.
fn from_this_pod(uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    let forbidden = |why: &str| Err(Refusal::new(StatusCode::FORBIDDEN, why));
    if headers.contains_key(ORIGIN) {
        return forbidden(
            "a request with an Origin header comes from a browser, which this API is not for",
        );
    }
    let hosts = headers.get_all(HOST).into_iter().map(HeaderValue::as_bytes);
    let named = uri.authority().map(|a| a.as_str().as_bytes());
    let mut hosts = hosts.chain(named).peekable();
    if hosts.peek().is_none() || !hosts.all(is_loopback) {
        return forbidden(
            "the Host header does not name loopback; call this API as http://127.0.0.1 or http://localhost",
        );
    }
    Ok(())
}

fn is_loopback(authority: &[u8]) -> bool {
    let Ok(authority) = Authority::try_from(authority) else {
        return false;
    };
    let host = authority.host();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

// === the calls ===

async fn get_task(
    State(local): State<Arc<Local>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let path = ["tasks", id_of(&id)?];
    let forward = request(Method::GET, &path, &headers);
    local.pass(forward, Some(&id)).await
}

async fn task_logs(
    State(local): State<Arc<Local>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let path = ["tasks", id_of(&id)?, "log"];
    let forward = request(Method::GET, &path, &headers);
    local.pass(forward, Some(&id)).await
}

async fn log_task(
    State(local): State<Arc<Local>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let path = ["tasks", id_of(&id)?, "log"];
    let about = |_: &[u8]| {
        Ok(About {
            task_id: Some(id.clone()),
            held: None,
        })
    };
    local.with_body(&path, &[], &headers, body, about).await
}

async fn update(State(local): State<Arc<Local>>, headers: HeaderMap, body: Body) -> Answer {
    let about = |body: &[u8]| {
        let update = Update::read(body)?;
        let held = match local.sidecar.held().by_id(&update.task_id) {
            Some(held) => {
                let ends = update.of_held(&held)?;
                Some((held, ends))
            }
            None => None,
        };
        Ok(About {
            task_id: Some(update.task_id.into_owned()),
            held,
        })
    };
    local
        .with_body(&["tasks"], &[], &headers, body, about)
        .await
}

/// `{workflowId}/{ref}/{status}`.
type ByReference = Path<(String, String, String)>;

async fn update_by_reference(
    State(local): State<Arc<Local>>,
    Path(reference): ByReference,
    Query(query): Query<Worker>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    local
        .by_reference(&reference, &query, &[], &headers, body)
        .await
}

async fn update_by_reference_sync(
    State(local): State<Arc<Local>>,
    Path(reference): ByReference,
    Query(query): Query<Worker>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    local
        .by_reference(&reference, &query, &["sync"], &headers, body)
        .await
}

/// The one parameter of an update by reference name.
#[derive(Deserialize)]
struct Worker {
    workerid: Option<String>,
}

/// What a request with a body is about.
struct About {
    /// The task's id, where it is known.
    task_id: Option<String>,
    /// The task, where it is held, and the status that ends it, if it does.
    held: Option<(Arc<HeldTask>, Option<UpdateStatus>)>,
}

impl Local {
    async fn by_reference(
        &self,
        (workflow_id, reference, status): &(String, String, String),
        query: &Worker,
        sync: &[&str],
        headers: &HeaderMap,
        body: Body,
    ) -> Answer {
        let Some(update) = status_of(status) else {
            return Err(Refusal::not_allowed());
        };
        let path = ["tasks", id_of(workflow_id)?, name_of(reference)?, status];
        let path: Vec<&str> = path.into_iter().chain(sync.iter().copied()).collect();
        let query: Vec<(&str, &str)> = match &query.workerid {
            Some(id) => vec![("workerid", id)],
            None => Vec::new(),
        };
        let about = |_: &[u8]| {
            let held = match self.sidecar.held().by_reference(workflow_id, reference) {
                Some(held) => Some((held, ends(update)?)),
                None => None,
            };
            Ok(About {
                task_id: held.as_ref().map(|(held, _)| held.task_id.clone()),
                held,
            })
        };
        self.with_body(&path, &query, headers, body, about).await
    }

    /// Passes a request on that has a body. `about` looks at the body, and says which task it
    /// is about.
    async fn with_body(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        headers: &HeaderMap,
        body: Body,
        about: impl FnOnce(&[u8]) -> Result<About, Refusal>,
    ) -> Answer {
        // An error: a closed semaphore, and this one never is.
        let _room = self.room.acquire().await;
        let body = self.read(headers, body).await?;
        let About { task_id, held } = about(&body)?;
        let task_id = task_id.as_deref();
        let forward = Forward {
            query,
            content_type: headers.get(CONTENT_TYPE).cloned(),
            body,
            ..request(Method::POST, path, headers)
        };
        let Some((task, ends)) = held else {
            return self.pass(forward, task_id).await;
        };
        // Its lease is not extended meanwhile.
        let patience = report_patience(task.lease);
        let answer = timeout(patience, self.of_held(&task, ends, forward)).await;
        answer.unwrap_or_else(|_| {
            task.air.gave_up();
            Err(no_answer(&format_args!("not within {patience:?}"), task_id))
        })
    }

    /// Passes an update of a held task on, in its turn.
    async fn of_held(
        &self,
        task: &HeldTask,
        ends: Option<UpdateStatus>,
        forward: Forward<'_>,
    ) -> Answer {
        let turn = task.air.for_report().await;
        let forwarded = self.forward(forward, Some(&task.task_id)).await?;
        let Some(status) = ends else {
            return Ok(answer(forwarded));
        };
        let response = head(&forwarded);
        let body = whole(forwarded, self.payload_limit(), task).await?;
        if response.status().is_success() && confirms(&body, task) {
            let id = &task.task_id;
            tracing::debug!(task = id, ?status, "ended by its handler's own update");
            task.settle(status);
        }
        drop(turn);
        Ok(response.map(|()| Body::from(body)))
    }

    async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Bytes, Refusal> {
        if headers.contains_key(CONTENT_ENCODING) {
            return Err(Refusal::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Conductor takes no Content-Encoding; send the body as it is",
            ));
        }
        let limit = self.payload_limit();
        match timeout(PATIENCE, read(body, limit)).await {
            Ok(read) => read,
            Err(_) => Err(Refusal::new(
                StatusCode::REQUEST_TIMEOUT,
                format!("the body was not complete within {} s", PATIENCE.as_secs()),
            )),
        }
    }

    fn payload_limit(&self) -> usize {
        self.sidecar.config().handler.payload_limit
    }

    async fn pass(&self, forward: Forward<'_>, task: Option<&str>) -> Answer {
        self.forward(forward, task).await.map(answer)
    }

    /// `task`: its id, where it is known.
    async fn forward(
        &self,
        forward: Forward<'_>,
        task: Option<&str>,
    ) -> Result<Forwarded, Refusal> {
        let forwarded = self.sidecar.conductor().forward(forward).await;
        forwarded.map_err(|error| no_answer(&error, task))
    }
}

fn no_answer(error: &dyn Display, task: Option<&str>) -> Refusal {
    tracing::warn!(task, %error, "a request to the local task API could not be passed on");
    Refusal {
        status: StatusCode::SERVICE_UNAVAILABLE,
        message: "Conductor does not answer; try again later".to_owned(),
        retryable: true,
    }
}

fn head(forwarded: &Forwarded) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = forwarded.status();
    for name in [CONTENT_TYPE, CONTENT_LENGTH, RETRY_AFTER] {
        if let Some(value) = forwarded.headers().get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

/// What Conductor answered, passed back piece by piece.
fn answer(forwarded: Forwarded) -> Response {
    let head = head(&forwarded);
    let chunks = stream::try_unfold(forwarded, async |mut forwarded| {
        let chunk = forwarded.chunk().await?;
        Ok::<_, conductor_client::Error>(chunk.map(|chunk| (chunk, forwarded)))
    });
    head.map(|()| Body::from_stream(chunks))
}

/// An answer that is looked at. Most are an id; a `/sync` brings the workflow with all its tasks.
async fn whole(mut forwarded: Forwarded, limit: usize, task: &HeldTask) -> Result<Bytes, Refusal> {
    let lost = |error: conductor_client::Error| no_answer(&error, Some(&task.task_id));
    let mut whole = BytesMut::new();
    while let Some(chunk) = forwarded.chunk().await.map_err(lost)? {
        if whole.len() + chunk.len() > limit {
            return Err(Refusal::new(
                StatusCode::BAD_GATEWAY,
                format!(
                    "Conductor answered {}, but with more than the worker's payload limit of \
                     {limit} bytes; look at the task, and leave /sync out the next time",
                    forwarded.status().as_u16()
                ),
            ));
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

/// Whether a 200 says that the task was updated: its id, or its workflow where that was asked
/// for. A gateway has other pages; and Conductor says nothing of a task that it does not find.
fn confirms(body: &[u8], task: &HeldTask) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Workflow<'a> {
        #[serde(borrow)]
        workflow_id: Cow<'a, str>,
    }
    let text = body.trim_ascii();
    let bare = text.strip_prefix(b"\"").unwrap_or(text);
    let bare = bare.strip_suffix(b"\"").unwrap_or(bare);
    bare == task.task_id.as_bytes()
        || serde_json::from_slice(text)
            .is_ok_and(|workflow: Workflow<'_>| workflow.workflow_id == task.workflow_id)
}

fn request<'a>(method: Method, path: &'a [&'a str], headers: &HeaderMap) -> Forward<'a> {
    Forward {
        method,
        path,
        query: &[],
        content_type: None,
        accept: headers.get(ACCEPT).cloned(),
        body: Bytes::new(),
    }
}

async fn read(body: Body, limit: usize) -> Result<Bytes, Refusal> {
    let mut chunks = body.into_data_stream();
    let mut whole = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|e| Refusal::bad(format!("the body was cut off: {e}")))?;
        if whole.len() + chunk.len() > limit {
            return Err(Refusal::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body is larger than the worker's payload limit of {limit} bytes"),
            ));
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

#[cfg(test)]
#[path = "local_api_tests.rs"]
mod tests;
