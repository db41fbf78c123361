//! A handler, as users write them, that does what it is told and writes everything down.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde_json::Value;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

/// A call of the handler by a sidecar.
#[derive(Debug, Clone)]
pub struct Call {
    /// `Conductor-Task-Id`, or the body's `taskId`.
    pub task_id: String,
    /// The path it was sent to.
    pub path: String,
    /// All headers.
    pub headers: HeaderMap,
    /// The body: a task, or its input.
    pub body: Value,
    /// The task's input: the body, or its `inputData`.
    pub input: Value,
    /// How often this task was called before.
    pub before: usize,
}

/// What the handler does with a call.
#[derive(Debug, Clone)]
pub struct Reply {
    /// How long it takes.
    pub after: Duration,
    /// What comes then.
    pub then: Then,
}

/// How a call ends.
#[derive(Debug, Clone)]
pub enum Then {
    /// With this answer.
    Answer {
        /// The status.
        status: u16,
        /// The headers.
        headers: Vec<(&'static str, String)>,
        /// The body.
        body: String,
    },
    /// Not at all, until [`Handler::release`].
    Hang,
    /// The connection breaks.
    Break,
}

impl Reply {
    /// 200 and this JSON.
    #[expect(clippy::needless_pass_by_value, reason = "reads better in tests")]
    pub fn output(output: Value) -> Self {
        Self::answer(200, output.to_string())
    }

    /// This status and body; JSON unless a header says otherwise.
    pub fn answer(status: u16, body: impl Into<String>) -> Self {
        Self {
            after: Duration::ZERO,
            then: Then::Answer {
                status,
                headers: vec![("content-type", "application/json".to_owned())],
                body: body.into(),
            },
        }
    }

    /// No answer until [`Handler::release`].
    pub fn hang() -> Self {
        Self {
            after: Duration::ZERO,
            then: Then::Hang,
        }
    }

    /// The connection breaks without an answer.
    pub fn broken() -> Self {
        Self {
            after: Duration::ZERO,
            then: Then::Break,
        }
    }

    /// The same, this much later.
    #[must_use]
    pub fn after(mut self, after: Duration) -> Self {
        self.after = after;
        self
    }

    /// The same, with a header set.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        if let Then::Answer { headers, .. } = &mut self.then {
            headers.retain(|(n, _)| *n != name);
            headers.push((name, value.into()));
        }
        self
    }
}

/// An execution, as the ledger has it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The task.
    pub task_id: String,
    /// The path it was sent to.
    pub path: String,
    /// When the call came.
    pub started: Instant,
    /// When it was answered; none while it runs, and for ever if the caller went away.
    pub ended: Option<Instant>,
    /// True if the caller went away before the answer.
    pub abandoned: bool,
}

type Behaviour = Arc<dyn Fn(&Call) -> Reply + Send + Sync>;

/// A running handler on a port of its own. It ends when this is dropped.
#[derive(Debug)]
pub struct Handler {
    addr: SocketAddr,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

struct Shared {
    behaviour: Mutex<Behaviour>,
    ledger: Mutex<Ledger>,
    released: watch::Sender<u64>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Ledger {
    entries: Vec<Entry>,
    calls: HashMap<String, usize>,
    running: usize,
    most_running: usize,
}

impl Handler {
    /// Starts a handler on 127.0.0.1.
    pub async fn start(
        behaviour: impl Fn(&Call) -> Reply + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(Arc::new(behaviour)),
            ledger: Mutex::default(),
            released: watch::channel(0).0,
        });
        let router = Router::new().fallback(handle).with_state(shared.clone());
        let serving = tokio::spawn(async move {
            // Ends with an error only if it cannot accept at all; tests see that soon enough.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self {
            addr,
            shared,
            serving,
        })
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// Changes what it does from now on.
    pub fn set(&self, behaviour: impl Fn(&Call) -> Reply + Send + Sync + 'static) {
        *lock(&self.shared.behaviour) = Arc::new(behaviour);
    }

    /// Lets all calls that hang answer 200 with `{}`.
    pub fn release(&self) {
        self.shared.released.send_modify(|n| *n += 1);
    }

    /// Every execution so far, in order of their starts.
    pub fn ledger(&self) -> Vec<Entry> {
        lock(&self.shared.ledger).entries.clone()
    }

    /// How often each task was executed.
    pub fn executions(&self) -> BTreeMap<String, usize> {
        let ledger = lock(&self.shared.ledger);
        ledger
            .calls
            .iter()
            .map(|(id, n)| (id.clone(), *n))
            .collect()
    }

    /// Calls that run now.
    pub fn running(&self) -> usize {
        lock(&self.shared.ledger).running
    }

    /// The most that ran at once.
    pub fn most_running(&self) -> usize {
        lock(&self.shared.ledger).most_running
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts a call as running until it is dropped, answered or not.
struct Running {
    shared: Arc<Shared>,
    index: usize,
    answered: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut ledger = lock(&self.shared.ledger);
        ledger.running -= 1;
        let entry = &mut ledger.entries[self.index];
        if self.answered {
            entry.ended = Some(Instant::now());
        } else {
            entry.abandoned = true;
        }
    }
}

async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    // A readiness probe.
    if request.method() == "GET" {
        return Response::new(Body::empty());
    }
    let (parts, body) = request.into_parts();
    let body = match axum::body::to_bytes(body, usize::MAX).await {
        Ok(body) => serde_json::from_slice(&body).unwrap_or(Value::Null),
        Err(_) => Value::Null,
    };
    let header = parts.headers.get("conductor-task-id");
    let task_id = match header.and_then(|id| id.to_str().ok()) {
        Some(id) => id.to_owned(),
        None => body["taskId"].as_str().unwrap_or_default().to_owned(),
    };
    // Before the call is seen by anyone: who sees it may release it at once.
    let mut released = shared.released.subscribe();
    let (mut running, before) = note(&shared, &task_id, parts.uri.path());
    let call = Call {
        task_id,
        path: parts.uri.path().to_owned(),
        headers: parts.headers,
        input: body.get("inputData").unwrap_or(&body).clone(),
        body,
        before,
    };
    let behaviour = lock(&shared.behaviour).clone();
    let reply = behaviour(&call);
    tokio::time::sleep(reply.after).await;
    let response = match reply.then {
        Then::Answer {
            status,
            headers,
            body,
        } => respond(status, &headers, body),
        Then::Hang => {
            let _ = released.changed().await;
            respond(
                200,
                &[("content-type", "application/json".to_owned())],
                "{}".to_owned(),
            )
        }
        Then::Break => {
            // A body that fails after the head: the connection breaks in the answer.
            let broken = futures::stream::once(async {
                Err::<bytes::Bytes, _>(std::io::Error::other("broken as told"))
            });
            let mut response = Response::new(Body::from_stream(broken));
            response.headers_mut().insert("content-length", 2.into());
            response
        }
    };
    running.answered = true;
    response
}

fn note(shared: &Arc<Shared>, task_id: &str, path: &str) -> (Running, usize) {
    let mut ledger = lock(&shared.ledger);
    let index = ledger.entries.len();
    ledger.entries.push(Entry {
        task_id: task_id.to_owned(),
        path: path.to_owned(),
        started: Instant::now(),
        ended: None,
        abandoned: false,
    });
    ledger.running += 1;
    ledger.most_running = ledger.most_running.max(ledger.running);
    let calls = ledger.calls.entry(task_id.to_owned()).or_default();
    let before = *calls;
    *calls += 1;
    let running = Running {
        shared: shared.clone(),
        index,
        answered: false,
    };
    (running, before)
}

fn respond(status: u16, headers: &[(&'static str, String)], body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::IM_A_TEAPOT);
    for (name, value) in headers {
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(*name, value);
        }
    }
    response
}
