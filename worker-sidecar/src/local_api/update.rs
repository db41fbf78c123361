//! What is looked at of a request before it is passed on.

use std::{borrow::Cow, fmt::Display};

use axum::http::StatusCode;
use conductor_client::UpdateStatus;
use serde::{
    Deserialize,
    de::value::{Error as ValueError, StrDeserializer},
};

use super::Refusal;
use crate::held::HeldTask;

/// Words that Conductor has in the place of a task's or workflow's id.
pub(super) const RESERVED: [&str; 7] = [
    "poll",
    "queue",
    "search",
    "search-v2",
    "update-v2",
    "externalstoragelocation",
    "external-storage-location",
];

/// Ids are UUIDs, unless a server has its own generator. A `;` would end the segment for
/// Conductor's framework, and what is before it could name another call.
pub(super) fn id_of(id: &str) -> Result<&str, Refusal> {
    if RESERVED.contains(&id) {
        return Err(Refusal::not_allowed());
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    if id.is_empty() || !id.chars().all(plain) || id.bytes().all(|b| b == b'.') {
        return Err(Refusal::bad(format!(
            "{id:?} is no id; write one of letters, digits, -, _, . and :"
        )));
    }
    Ok(id)
}

/// Reference names are free, but for what has a meaning in a path.
pub(super) fn name_of(reference: &str) -> Result<&str, Refusal> {
    let special = |c: char| c.is_control() || matches!(c, '/' | '\\' | ';' | '%');
    if reference.contains(special) || matches!(reference, "" | "." | "..") {
        return Err(Refusal::bad(format!(
            "the reference name {reference:?} cannot stand in a path; update the task by its id"
        )));
    }
    Ok(reference)
}

pub(super) fn status_of(status: &str) -> Option<UpdateStatus> {
    UpdateStatus::deserialize(StrDeserializer::<ValueError>::new(status)).ok()
}

/// The status that ends a held task; only ends are taken.
pub(super) fn ends(status: UpdateStatus) -> Result<Option<UpdateStatus>, Refusal> {
    match status {
        UpdateStatus::InProgress => Err(Refusal::new(
            StatusCode::CONFLICT,
            "this worker is executing the task: IN_PROGRESS would deliver it again meanwhile; to \
             come back to it later answer the call with 202 and Retry-After, to show progress \
             POST to /api/tasks/{id}/log",
        )),
        status => Ok(Some(status)),
    }
}

/// As much of an update as must be known. Stricter than Conductor's own reader: what the two
/// could read differently is refused.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Update<'a> {
    #[serde(borrow, default)]
    pub(super) task_id: Cow<'a, str>,
    #[serde(borrow, default)]
    workflow_instance_id: Cow<'a, str>,
    #[serde(borrow, default)]
    status: Option<Cow<'a, str>>,
    #[serde(default)]
    extend_lease: Option<bool>,
}

impl<'a> Update<'a> {
    pub(super) fn read(body: &'a [u8]) -> Result<Self, Refusal> {
        let no_result =
            |why: &dyn Display| Refusal::bad(format!("the body is no TaskResult in JSON: {why}"));
        // serde would take an array for a struct.
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err(no_result(&"it is no object"));
        }
        serde_json::from_slice(body).map_err(|e| no_result(&e))
    }

    /// What it does to a task that this sidecar holds: the status that ends it, if one does.
    pub(super) fn of_held(&self, held: &HeldTask) -> Result<Option<UpdateStatus>, Refusal> {
        // Conductor does not check it, and would complete the task but not its workflow.
        if self.workflow_instance_id != held.workflow_id {
            return Err(Refusal::bad(format!(
                "task {} belongs to workflow {}; write that as workflowInstanceId",
                held.task_id, held.workflow_id
            )));
        }
        if self.extend_lease == Some(true) {
            return Ok(None); // every other field is ignored then
        }
        let status = self.status.as_deref().unwrap_or_default();
        match status_of(status) {
            Some(status) => ends(status),
            None => Err(Refusal::bad(format!(
                "status {status:?}: write COMPLETED, FAILED, FAILED_WITH_TERMINAL_ERROR or CANCELED"
            ))),
        }
    }
}
