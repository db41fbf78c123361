//! `/tasks/queue`.

use std::collections::BTreeMap;

use axum::extract::{Path, State};

use super::{
    AppState,
    answer::{Answer, Result, json},
    query::Query,
};
use crate::state::Refused;

pub(super) async fn size(State(shared): AppState, query: Query) -> Result {
    let task_type = query.required("taskType", "String")?;
    // An empty domain is none here, unlike in a poll.
    let domain = query.get("domain").filter(|d| !d.trim().is_empty());
    let size = shared.call(|state, _| state.size_of(task_type, domain));
    Ok(Answer::Json(size.to_string()))
}

pub(super) async fn sizes(State(shared): AppState, query: Query) -> Result {
    if query.get("taskType").is_none() {
        return Err(Refused::mistake(
            "Cannot invoke \"java.util.List.iterator()\" because \"taskDefNames\" is null",
        ));
    }
    let sizes: BTreeMap<&str, usize> = shared.call(|state, _| {
        query
            .all("taskType")
            .map(|queue| (queue, state.queue_size(queue)))
            .collect()
    });
    json(&sizes)
}

pub(super) async fn all(State(shared): AppState) -> Result {
    shared.call(|state, _| json(&state.queues()))
}

pub(super) async fn all_verbose(State(shared): AppState) -> Result {
    shared.call(|state, _| json(&state.queues_verbose()?))
}

pub(super) async fn poll_data(State(shared): AppState, query: Query) -> Result {
    let task_type = query.required("taskType", "String")?;
    shared.call(|state, _| json(&state.poll_data(Some(task_type))))
}

pub(super) async fn all_poll_data(State(shared): AppState) -> Result {
    shared.call(|state, _| json(&state.poll_data(None)))
}

pub(super) async fn requeue(State(shared): AppState, Path(task_type): Path<String>) -> Result {
    let count = shared.call(|state, now| state.requeue(&task_type, now));
    Ok(Answer::Text(count.to_string()))
}
