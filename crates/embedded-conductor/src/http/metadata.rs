//! `/metadata`.

use axum::{
    extract::{Path, State},
    http::HeaderMap,
};
use bytes::Bytes;
use serde_json::json as value;

use super::{
    AppState,
    answer::{Answer, Result, json, read, read_object},
    query::Query,
};
use crate::state::{Refused, TaskDef, UpdateOf, WorkflowDef};

pub(super) async fn register_task_defs(
    State(shared): AppState,
    headers: HeaderMap,
    body: Bytes,
) -> Result {
    let defs: Vec<TaskDef> = read(&headers, &body)?;
    shared.call(|state, now| state.register_task_defs(defs, now))?;
    Ok(Answer::Empty)
}

pub(super) async fn update_task_def(
    State(shared): AppState,
    headers: HeaderMap,
    body: Bytes,
) -> Result {
    let def: TaskDef = read_object(&headers, &body)?;
    shared.call(|state, now| state.update_task_def(def, now))?;
    Ok(Answer::Empty)
}

pub(super) async fn task_defs(State(shared): AppState) -> Result {
    shared.call(|state, _| json(&state.task_defs()))
}

pub(super) async fn task_def(State(shared): AppState, Path(name): Path<String>) -> Result {
    shared.call(|state, _| json(state.task_def(&name)?))
}

pub(super) async fn remove_task_def(State(shared): AppState, Path(name): Path<String>) -> Result {
    shared.call(|state, _| state.remove_task_def(&name))?;
    Ok(Answer::Empty)
}

pub(super) async fn register_workflow_def(
    State(shared): AppState,
    query: Query,
    headers: HeaderMap,
    body: Bytes,
) -> Result {
    let def: WorkflowDef = read_object(&headers, &body)?;
    let update = if query.flag("overwrite", false) {
        UpdateOf::Existing
    } else {
        UpdateOf::Nothing
    };
    shared.call(|state, now| state.register_workflow_def(def, update, now))?;
    Ok(Answer::Empty)
}

pub(super) async fn update_workflow_defs(
    State(shared): AppState,
    headers: HeaderMap,
    body: Bytes,
) -> Result {
    let defs: Vec<WorkflowDef> = read(&headers, &body)?;
    let mut registered = Vec::new();
    for def in defs {
        let name = def.name().to_owned();
        shared.call(|state, now| state.register_workflow_def(def, UpdateOf::Existing, now))?;
        registered.push(name);
    }
    json(&value!({ "bulkErrorResults": {}, "bulkSuccessfulResults": registered }))
}

pub(super) async fn workflow_defs(State(shared): AppState) -> Result {
    shared.call(|state, _| json(&state.workflow_defs()))
}

pub(super) async fn workflow_def(
    State(shared): AppState,
    Path(name): Path<String>,
    query: Query,
) -> Result {
    let version = query.int("version")?;
    shared.call(|state, _| json(state.workflow_def(&name, version)?))
}

pub(super) async fn remove_workflow_def(
    State(shared): AppState,
    Path((name, version)): Path<(String, String)>,
) -> Result {
    let version = version
        .parse()
        .map_err(|_| Refused::mistake(format!("For input string: \"{version}\"")))?;
    shared.call(|state, _| state.remove_workflow_def(&name, version))?;
    Ok(Answer::Empty)
}
