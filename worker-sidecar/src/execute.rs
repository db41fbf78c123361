//! One HTTP call of the handler for one task.

use std::{future::Future, time::Duration};

use bytes::{Bytes, BytesMut};
use conductor_client::Task;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Uri,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use jiff::Timestamp;

use crate::{
    config::{HandlerConfig, Payload, TaskConfig},
    outcome::{Answer, Ended},
    trace::{self, Trace},
};

/// Servers close connections that were idle for 2 s (gunicorn) to minutes. A request that
/// meets a closing connection is cut off and its task fails, so ours go first; a new
/// connection on loopback costs next to nothing.
const IDLE: Duration = Duration::from_secs(1);

/// Each slot has a connection, and most answers are small: larger ones take a few reads more.
const READ_BUFFER: usize = 4096;

/// The way to the handler: plain HTTP/1.1 on loopback, without proxies, redirects or TLS. The
/// client for Conductor knows all of these, and costs a third more for each call.
pub(crate) type Loopback = legacy::Client<HttpConnector, Full<Bytes>>;

/// A client of the handler that keeps so many idle connections.
pub(crate) fn loopback(idle: usize) -> Loopback {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(idle)
        .http1_read_buf_exact_size(READ_BUFFER)
        .build(connector)
}

/// Speaks to the handler.
#[derive(Debug)]
pub struct Executor {
    http: Loopback,
    payload: Payload,
    limit: usize,
}

/// What the handler is sent of a task.
#[derive(Debug)]
pub struct Offer {
    body: Bytes,
    trace: Trace,
}

/// When a call must have ended. Pure.
///
/// `setting`: the worker's own time-out. `definition`: `timeoutSeconds`, 0 for none, which
/// counts from the task's first start, `elapsed` ago.
pub fn time_left(
    setting: Option<Duration>,
    definition: u64,
    elapsed: Duration,
) -> Option<Duration> {
    let definition =
        (definition > 0).then(|| Duration::from_secs(definition).saturating_sub(elapsed));
    match (setting, definition) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

impl Executor {
    /// For a sidecar with so many slots.
    pub fn new(config: &HandlerConfig, slots: usize) -> Self {
        Self {
            http: loopback(slots),
            payload: config.payload,
            limit: config.payload_limit,
        }
    }

    /// What the handler is sent of a task. The task keeps nothing of it: what is in the air is
    /// enough of a payload in memory.
    pub fn offer(&self, task: &mut Task) -> Offer {
        let trace = trace::of(task, fastrand::u64(..));
        let body = match self.payload {
            Payload::Task => task.take_json(),
            Payload::Input => {
                let input = Bytes::copy_from_slice(task.input_data().as_bytes());
                task.take_json();
                input
            }
        };
        Offer { body, trace }
    }

    /// Calls the handler. `left` bounds the call; `stop` closes it and says what to make of
    /// that.
    pub async fn call(
        &self,
        uri: &Uri,
        task: &Task,
        offer: Offer,
        domain: Option<&str>,
        left: Option<Duration>,
        stop: impl Future<Output = Ended>,
    ) -> Ended {
        let deadline = async {
            match left {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        };
        let Offer { body, trace } = offer;
        let mut request = Request::post(uri.clone()).body(Full::new(body));
        if let Ok(request) = &mut request {
            let deadline = left.map(|left| deadline_text(Timestamp::now(), left));
            *request.headers_mut() = headers(task, domain, &trace, deadline);
        }
        let exchange = async {
            match request {
                Ok(request) => self.exchange(request).await,
                // The address was one when the configuration was read.
                Err(error) => Ended::CutOff(error.to_string()),
            }
        };
        tokio::select! {
            ended = exchange => ended,
            () = deadline => Ended::Deadline,
            ended = stop => ended,
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Ended {
        let response = match self.http.request(request).await {
            Ok(response) => response,
            Err(error) if error.is_connect() => return Ended::Refused,
            Err(error) => return Ended::CutOff(causes(&error)),
        };
        let (head, body) = response.into_parts();
        let body = match read(body, self.limit).await {
            Ok(body) => body,
            Err(ended) => return ended,
        };
        Ended::Answered(Answer {
            status: head.status.as_u16(),
            content_type: text(&head.headers, &CONTENT_TYPE).unwrap_or_default(),
            retry_after: text(&head.headers, &RETRY_AFTER),
            body,
        })
    }
}

/// A whole body of at most `limit` bytes.
async fn read(mut body: Incoming, limit: usize) -> Result<Bytes, Ended> {
    let size = body.size_hint().exact();
    let too_large = || Ended::TooLarge { size, limit };
    if size.is_some_and(|size| size > u64::try_from(limit).unwrap_or(u64::MAX)) {
        return Err(too_large());
    }
    // Mostly it comes in one piece, which need not be copied.
    let (mut whole, mut pieces) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Ended::CutOff(causes(&error)))?;
        let Ok(piece) = frame.into_data() else {
            continue; // trailers
        };
        if whole.len() + pieces.len() + piece.len() > limit {
            return Err(too_large());
        }
        if whole.is_empty() && pieces.is_empty() {
            whole = piece;
        } else {
            pieces.extend_from_slice(&std::mem::take(&mut whole));
            pieces.extend_from_slice(&piece);
        }
    }
    Ok(if whole.is_empty() {
        pieces.freeze()
    } else {
        whole
    })
}

/// The handler's address for a task type. The path was checked with the configuration.
pub fn uri(port: u16, task: &TaskConfig) -> Result<Uri, http::Error> {
    // As a URL first: it escapes what a request's line cannot hold.
    let address = format!("http://127.0.0.1:{port}{}", task.path);
    let escaped = url::Url::parse(&address).map_or(address, String::from);
    Ok(escaped.parse::<Uri>()?)
}

const TASK_ID: HeaderName = HeaderName::from_static("conductor-task-id");
const TASK_TYPE: HeaderName = HeaderName::from_static("conductor-task-type");
const TASK_REF: HeaderName = HeaderName::from_static("conductor-task-ref");
const WORKFLOW_ID: HeaderName = HeaderName::from_static("conductor-workflow-id");
const WORKFLOW_TYPE: HeaderName = HeaderName::from_static("conductor-workflow-type");
const RETRY_COUNT: HeaderName = HeaderName::from_static("conductor-retry-count");
const POLL_COUNT: HeaderName = HeaderName::from_static("conductor-poll-count");
const DOMAIN: HeaderName = HeaderName::from_static("conductor-domain");
const DEADLINE: HeaderName = HeaderName::from_static("conductor-deadline");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

fn headers(
    task: &Task,
    domain: Option<&str>,
    trace: &Trace,
    deadline: Option<String>,
) -> HeaderMap {
    const JSON: HeaderValue = HeaderValue::from_static("application/json");
    let mut headers = HeaderMap::with_capacity(16);
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(RETRY_COUNT, task.retry_count().into());
    headers.insert(POLL_COUNT, task.poll_count().into());
    let mut set = |name: HeaderName, value: &str| {
        if !value.is_empty() {
            headers.insert(name, header_value(value));
        }
    };
    set(TASK_ID, task.task_id());
    set(TASK_TYPE, task.task_type());
    set(TASK_REF, task.reference_name());
    set(WORKFLOW_ID, task.workflow_id());
    set(WORKFLOW_TYPE, task.workflow_type());
    set(DOMAIN, task.domain().or(domain).unwrap_or_default());
    set(DEADLINE, &deadline.unwrap_or_default());
    set(TRACEPARENT, &trace.parent);
    set(TRACESTATE, trace.state.as_deref().unwrap_or_default());
    headers
}

/// Names are UTF-8 and go as they are; control characters, which no header may hold, as `?`.
fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_bytes(text.as_bytes()).unwrap_or_else(|_| {
        let clean: String = text
            .chars()
            .map(|c| if c.is_control() { '?' } else { c })
            .collect();
        HeaderValue::from_bytes(clean.as_bytes()).unwrap_or(HeaderValue::from_static("?"))
    })
}

/// RFC 3339, in whole milliseconds.
fn deadline_text(now: Timestamp, left: Duration) -> String {
    let at = now.checked_add(left).unwrap_or(Timestamp::MAX);
    format!("{at:.3}")
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

/// The innermost cause says what happened; the outer ones repeat the address.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = cause.to_string();
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearer_deadline_counts() {
        let s = Duration::from_secs;
        for (setting, definition, elapsed, left) in [
            (None, 0, 5, None),
            (Some(60), 0, 5, Some(60)),
            (None, 90, 20, Some(70)),
            (None, 90, 200, Some(0)),
            (Some(60), 90, 20, Some(60)),
            (Some(60), 90, 40, Some(50)),
        ] {
            assert_eq!(
                time_left(setting.map(s), definition, s(elapsed)),
                left.map(s),
                "{setting:?} {definition} {elapsed}"
            );
        }
    }

    #[test]
    fn headers_of_the_contract() {
        let json = r#"{"taskId":"t","workflowInstanceId":"w","taskType":"größe","status":"IN_PROGRESS",
            "referenceTaskName":"r\n1","workflowType":"wf","retryCount":2,"pollCount":3}"#;
        let task = Task::from_json(json).unwrap();
        let now: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let deadline = deadline_text(now, Duration::from_millis(1500));
        let trace = Trace {
            parent: "00-1-2-01".to_owned(),
            state: None,
        };
        let headers = headers(&task, Some("gpu"), &trace, Some(deadline));
        for (name, value) in [
            ("content-type", "application/json"),
            ("conductor-task-id", "t"),
            ("conductor-task-type", "größe"),
            ("conductor-task-ref", "r?1"),
            ("conductor-workflow-id", "w"),
            ("conductor-workflow-type", "wf"),
            ("conductor-retry-count", "2"),
            ("conductor-poll-count", "3"),
            ("conductor-domain", "gpu"),
            ("conductor-deadline", "2026-11-24T12:00:01.500Z"),
            ("traceparent", "00-1-2-01"),
        ] {
            assert_eq!(headers[name].as_bytes(), value.as_bytes(), "{name}");
        }
        assert_eq!(headers.len(), 11);
        let headers = super::headers(&task, None, &trace, None);
        assert!(
            !headers.contains_key("conductor-domain")
                && !headers.contains_key("conductor-deadline")
        );
    }
}
