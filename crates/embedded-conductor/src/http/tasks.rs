//! `/tasks`.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Path, State},
    http::{HeaderMap, header},
};
use bytes::Bytes;

use super::{
    AppState,
    answer::{Answer, Result, json, read, read_object},
    query::Query,
};
use crate::{
    shared::Shared,
    state::{ByReference, Poll, Refused, TaskResult},
};

/// How long Conductor lets a single poll wait.
const SINGLE_POLL: Duration = Duration::from_millis(100);
/// What clients send that say nothing of the kind of their body.
const FORM: &[u8] = b"application/x-www-form-urlencoded";
/// The longest that a batch poll may wait, in milliseconds.
const LONGEST_POLL: i64 = 5000;

fn poll_of(task_type: String, query: &Query) -> Poll {
    let owned = |name| query.get(name).map(str::to_owned);
    Poll {
        task_type,
        domain: owned("domain"),
        worker_id: owned("workerid"),
    }
}

async fn poll_one(shared: &Arc<Shared>, poll: Poll) -> Result {
    match shared.poll(poll, 1, SINGLE_POLL).await.first() {
        Some(task) => json(task),
        None => Ok(Answer::Nothing),
    }
}

pub(super) async fn poll(
    State(shared): AppState,
    Path(task_type): Path<String>,
    query: Query,
) -> Result {
    poll_one(&shared, poll_of(task_type, &query)).await
}

pub(super) async fn batch_poll(
    State(shared): AppState,
    Path(task_type): Path<String>,
    query: Query,
) -> Result {
    let count = query.int("count")?.unwrap_or(1);
    let timeout = query.int("timeout")?.unwrap_or(100);
    if timeout > LONGEST_POLL {
        return Err(Refused::bad(
            "Long Poll Timeout value cannot be more than 5 seconds",
        ));
    }
    let wait = Duration::from_millis(u64::try_from(timeout).unwrap_or_default());
    let tasks = shared.poll(poll_of(task_type, &query), count, wait).await;
    json(&tasks)
}

pub(super) async fn update(State(shared): AppState, headers: HeaderMap, body: Bytes) -> Result {
    let result: TaskResult = read_object(&headers, &body)?;
    shared
        .call(|state, now| state.update(result, now))
        .map(Answer::Text)
}

pub(super) async fn update_v2(State(shared): AppState, headers: HeaderMap, body: Bytes) -> Result {
    let result: TaskResult = read_object(&headers, &body)?;
    if !result.violations().is_empty() {
        return Err(Refused::mistake(
            "Validation failed for argument [0] in public \
             org.springframework.http.ResponseEntity updateTaskV2: Task ID or Workflow Id cannot \
             be null or empty",
        ));
    }
    let (polls, worker_id) = (result.ends(), result.worker_id.clone());
    let next = shared.call(|state, now| {
        let id = state.update(result, now)?;
        Ok(state.queue_of(&id))
    })?;
    match next.filter(|_| polls) {
        Some((task_type, domain)) => {
            let poll = Poll {
                task_type,
                domain,
                worker_id,
            };
            poll_one(&shared, poll).await
        }
        None => Ok(Answer::Nothing),
    }
}

/// `POST` to the path of a batch poll is taken for an update by reference.
pub(super) async fn update_of_a_batch(Path(status): Path<String>) -> Result {
    Err(Refused::no_status(&status))
}

/// `/tasks/{workflow}/{reference}/{status}`.
type Reference = Path<(String, String, String)>;

pub(super) async fn update_by_reference(
    State(shared): AppState,
    Path(path): Reference,
    query: Query,
    headers: HeaderMap,
    body: Bytes,
) -> Result {
    let output = read(&headers, &body)?;
    let by = by_reference(&path, &query);
    let updated = shared.call(|state, now| state.update_by_reference(&by, output, now))?;
    Ok(updated.map_or(Answer::Empty, Answer::Text))
}

pub(super) async fn update_by_reference_sync(
    State(shared): AppState,
    Path(path): Reference,
    query: Query,
    headers: HeaderMap,
    body: Bytes,
) -> Result {
    let output = read(&headers, &body)?;
    let by = by_reference(&path, &query);
    shared.call(
        |state, now| match state.update_by_reference(&by, output, now)? {
            Some(_) => state.workflow_json(by.workflow_id, true).map(Answer::Json),
            None => Err(Refused::missing(format!(
                "Found no running task {} of workflow {} to update",
                by.reference, by.workflow_id
            ))),
        },
    )
}

fn by_reference<'a>(
    (workflow_id, reference, status): &'a (String, String, String),
    query: &'a Query,
) -> ByReference<'a> {
    ByReference {
        workflow_id,
        reference,
        status,
        worker_id: query.get("workerid"),
    }
}

pub(super) async fn get(State(shared): AppState, Path(id): Path<String>) -> Result {
    let task = shared.call(|state, _| state.task(&id).cloned());
    match task {
        Some(task) => json(&task),
        None => Err(Refused::missing(format!("Task not found for taskId: {id}"))),
    }
}

pub(super) async fn log(
    State(shared): AppState,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result {
    if body.is_empty() {
        return Err(Refused::mistake("Required request body is missing"));
    }
    let kind = headers.get(header::CONTENT_TYPE);
    let is_form = kind.is_some_and(|kind| kind.as_bytes().starts_with(FORM));
    let line = if is_form {
        // Read as a form and written as one again.
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(url::form_urlencoded::parse(&body))
            .finish()
    } else {
        String::from_utf8_lossy(&body).into_owned()
    };
    shared.call(|state, now| state.log(&id, line, now));
    Ok(Answer::Empty)
}

pub(super) async fn logs(State(shared): AppState, Path(id): Path<String>) -> Result {
    shared.call(|state, _| match state.logs(&id) {
        [] => Ok(Answer::Nothing),
        lines => json(lines),
    })
}
