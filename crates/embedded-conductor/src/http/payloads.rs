//! `/tasks/externalstoragelocation`.

use axum::extract::State;
use serde_json::json as value;

use super::{
    AppState,
    answer::{Result, json},
    query::Query,
};
use crate::state::Refused;

const OPERATIONS: [&str; 2] = ["READ", "WRITE"];
const PAYLOADS: [&str; 4] = [
    "WORKFLOW_INPUT",
    "WORKFLOW_OUTPUT",
    "TASK_INPUT",
    "TASK_OUTPUT",
];

/// Where a payload is to be fetched or put, as a server without a real storage answers: without
/// an address, and under a name that nothing is stored under.
pub(super) async fn location(State(shared): AppState, query: Query) -> Result {
    let path = query.required("path", "String")?;
    let operation = query.required("operation", "String")?;
    let payload = query.required("payloadType", "String")?;
    let known = |names: &[&str], name: &str| names.iter().any(|n| n.eq_ignore_ascii_case(name));
    if !known(&OPERATIONS, operation) || !known(&PAYLOADS, payload) {
        return Err(Refused::bad(format!(
            "Invalid input - Operation: {operation}, PayloadType: {payload}"
        )));
    }
    let name = shared.call(|state, _| state.unused_id());
    json(&value!({ "path": format!("{path}{name}.json") }))
}
