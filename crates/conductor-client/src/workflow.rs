//! Workflows, for those who start and watch them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Task, WorkflowDef};

/// A request to start a workflow.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StartWorkflow {
    /// The definition's name.
    pub name: String,
    /// Its version; the latest if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// The workflow's input.
    pub input: Map<String, Value>,
    /// Domains by task type.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub task_to_domain: BTreeMap<String, String>,
    /// A name of the caller's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// 0 to 99; higher goes first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// The definition itself, in place of a registered one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow_def: Option<WorkflowDef>,
}

/// Where a workflow is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "Conductor's own words")]
pub enum WorkflowStatus {
    Running,
    Completed,
    Failed,
    TimedOut,
    Terminated,
    Paused,
}

impl WorkflowStatus {
    /// True once nothing can change it any more (but a retry or restart by a person).
    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Running | Self::Paused)
    }
}

/// A workflow's state. Times are epoch milliseconds.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Workflow {
    /// Its id.
    pub workflow_id: String,
    /// Its state.
    pub status: WorkflowStatus,
    /// Its tasks, retries included; empty unless asked for.
    #[serde(default)]
    pub tasks: Vec<Task>,
    /// Its output, set when it ends.
    #[serde(default)]
    pub output: Map<String, Value>,
    /// Why it did not complete.
    #[serde(default)]
    pub reason_for_incompletion: Option<String>,
    /// When it was started.
    #[serde(default)]
    pub create_time: i64,
    /// When it ended; 0 before that.
    #[serde(default)]
    pub end_time: i64,
}
