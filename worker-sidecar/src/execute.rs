//! One HTTP call of the handler for one task.

use std::{future::Future, time::Duration};

use bytes::BytesMut;
use conductor_client::Task;
use jiff::Timestamp;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};

use crate::{
    config::{HandlerConfig, Payload, TaskConfig},
    outcome::{Answer, Ended},
    trace::{self, Trace},
};

/// Servers close connections that were idle for 2 s (gunicorn) to minutes. A request that
/// meets a closing connection is cut off and its task fails, so ours go first; a new
/// connection on loopback costs next to nothing.
const IDLE: Duration = Duration::from_secs(1);

/// Speaks to the handler.
#[derive(Debug)]
pub struct Executor {
    http: reqwest::Client,
    payload: Payload,
    limit: usize,
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
    pub fn new(config: &HandlerConfig, slots: usize) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true)
            .pool_max_idle_per_host(slots)
            .pool_idle_timeout(IDLE)
            .build()?;
        Ok(Self {
            http,
            payload: config.payload,
            limit: config.payload_limit,
        })
    }

    /// Calls the handler. `left` bounds the call; `stop` closes it and says what to make of
    /// that.
    pub async fn call(
        &self,
        url: &url::Url,
        task: &Task,
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
        let body = match self.payload {
            Payload::Task => task.json().to_owned(),
            Payload::Input => task.input_data().to_owned(),
        };
        let request = self
            .http
            .post(url.clone())
            .headers(headers(
                task,
                domain,
                &trace::of(task, fastrand::u64(..)),
                left.map(|left| deadline_text(Timestamp::now(), left)),
            ))
            .body(body);
        tokio::select! {
            ended = self.exchange(request) => ended,
            () = deadline => Ended::Deadline,
            ended = stop => ended,
        }
    }

    async fn exchange(&self, request: reqwest::RequestBuilder) -> Ended {
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_connect() => return Ended::Refused,
            Err(error) => return Ended::CutOff(causes(&error)),
        };
        let size = response.content_length();
        let too_large = Ended::TooLarge {
            size,
            limit: self.limit,
        };
        let limit = u64::try_from(self.limit).unwrap_or(u64::MAX);
        if size.is_some_and(|size| size > limit) {
            return too_large;
        }
        let status = response.status().as_u16();
        let content_type = text(response.headers(), &CONTENT_TYPE).unwrap_or_default();
        let retry_after = text(response.headers(), &RETRY_AFTER);
        let mut body = BytesMut::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > self.limit => return too_large,
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(error) => return Ended::CutOff(causes(&error)),
            }
        }
        Ended::Answered(Answer {
            status,
            content_type,
            retry_after,
            body: body.freeze(),
        })
    }
}

/// The handler's address for a task type. The path was checked with the configuration.
pub fn url(port: u16, task: &TaskConfig) -> Result<url::Url, url::ParseError> {
    url::Url::parse(&format!("http://127.0.0.1:{port}{}", task.path))
}

fn headers(
    task: &Task,
    domain: Option<&str>,
    trace: &Trace,
    deadline: Option<String>,
) -> HeaderMap {
    const JSON: HeaderValue = HeaderValue::from_static("application/json");
    let mut headers = HeaderMap::with_capacity(16);
    headers.insert(CONTENT_TYPE, JSON);
    let mut set = |name: &'static str, value: &str| {
        if !value.is_empty() {
            headers.insert(HeaderName::from_static(name), header_value(value));
        }
    };
    set("conductor-task-id", task.task_id());
    set("conductor-task-type", task.task_type());
    set("conductor-task-ref", task.reference_name());
    set("conductor-workflow-id", task.workflow_id());
    set("conductor-workflow-type", task.workflow_type());
    set("conductor-retry-count", &task.retry_count().to_string());
    set("conductor-poll-count", &task.poll_count().to_string());
    set(
        "conductor-domain",
        task.domain().or(domain).unwrap_or_default(),
    );
    set("conductor-deadline", &deadline.unwrap_or_default());
    set("traceparent", &trace.parent);
    set("tracestate", trace.state.as_deref().unwrap_or_default());
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
fn causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = cause.to_string();
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

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
        let task = Task::from_json(RawValue::from_string(json.to_owned()).unwrap()).unwrap();
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
