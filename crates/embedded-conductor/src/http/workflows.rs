//! `/workflow`.

use axum::{
    extract::{Path, State},
    http::HeaderMap,
};
use bytes::Bytes;

use super::{
    AppState,
    answer::{Answer, Result, json, read, read_object},
    query::Query,
};
use crate::state::Start;

pub(super) async fn start(State(shared): AppState, headers: HeaderMap, body: Bytes) -> Result {
    let start: Start = read_object(&headers, &body)?;
    let id = shared.call(|state, now| state.start(start, now))?;
    Ok(Answer::Text(id.to_string()))
}

pub(super) async fn start_by_name(
    State(shared): AppState,
    Path(name): Path<String>,
    query: Query,
    headers: HeaderMap,
    body: Bytes,
) -> Result {
    let start = Start {
        input: Some(read(&headers, &body)?),
        version: query.int("version")?,
        correlation_id: query.get("correlationId").map(str::to_owned),
        priority: query.int("priority")?,
        name: Some(name),
        ..Start::default()
    };
    let id = shared.call(|state, now| {
        // This call looks the definition up first, and says so in other words.
        state.workflow_def(start.name.as_deref().unwrap_or_default(), start.version)?;
        state.start(start, now)
    })?;
    Ok(Answer::Text(id.to_string()))
}

pub(super) async fn get(State(shared): AppState, Path(id): Path<String>, query: Query) -> Result {
    let tasks = query.flag("includeTasks", true);
    shared
        .call(|state, _| state.workflow_json(&id, tasks))
        .map(Answer::Json)
}

pub(super) async fn status(
    State(shared): AppState,
    Path(id): Path<String>,
    query: Query,
) -> Result {
    let output = query.flag("includeOutput", false);
    let variables = query.flag("includeVariables", false);
    shared.call(|state, _| json(&state.workflow(&id)?.summary(output, variables)))
}

pub(super) async fn running(State(shared): AppState, Path(name): Path<String>) -> Result {
    shared.call(|state, _| json(&state.running_workflows(&name)))
}

pub(super) async fn terminate(
    State(shared): AppState,
    Path(id): Path<String>,
    query: Query,
) -> Result {
    let reason = query.get("reason").map(str::to_owned);
    shared.call(|state, now| state.terminate(&id, reason, now))?;
    Ok(Answer::Empty)
}

pub(super) async fn remove(State(shared): AppState, Path(id): Path<String>) -> Result {
    shared.call(|state, now| state.remove(&id, now))?;
    Ok(Answer::Empty)
}

pub(super) async fn pause(State(shared): AppState, Path(id): Path<String>) -> Result {
    shared.call(|state, now| state.pause(&id, now))?;
    Ok(Answer::Empty)
}

pub(super) async fn resume(State(shared): AppState, Path(id): Path<String>) -> Result {
    shared.call(|state, now| state.resume(&id, now))?;
    Ok(Answer::Empty)
}

pub(super) async fn decide(State(shared): AppState, Path(id): Path<String>) -> Result {
    shared.call(|state, now| state.decide_now(&id, now))?;
    Ok(Answer::Empty)
}
