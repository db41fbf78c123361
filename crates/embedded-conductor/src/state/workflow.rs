//! A running or ended workflow.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use serde::Serialize;
use serde_json::{Value, json, value::RawValue};

use super::{State, expression::Scope, payload::Payload, task::Task, workflow_def::Plan};

/// Where a workflow is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum WorkflowStatus {
    Running,
    Completed,
    Failed,
    TimedOut,
    Terminated,
    Paused,
}

impl WorkflowStatus {
    pub(crate) fn is_terminal(self) -> bool {
        !matches!(self, Self::Running | Self::Paused)
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::TimedOut => "TIMED_OUT",
            Self::Terminated => "TERMINATED",
            Self::Paused => "PAUSED",
        }
    }
}

/// A workflow. Times are epoch milliseconds, 0 for never.
#[derive(Debug, Clone)]
pub(crate) struct Workflow {
    pub(crate) id: Arc<str>,
    pub(crate) plan: Arc<Plan>,
    pub(crate) status: WorkflowStatus,
    pub(crate) input: Payload,
    pub(crate) output: Payload,
    pub(crate) reason: Option<String>,
    pub(crate) task_to_domain: Arc<BTreeMap<String, String>>,
    pub(crate) correlation_id: Option<Arc<str>>,
    pub(crate) priority: i64,
    /// Every attempt of every step, in order; in a sequence the last is the only one that
    /// can be alive.
    pub(crate) tasks: Vec<Arc<str>>,
    pub(crate) failed_references: Vec<String>,
    pub(crate) failed_names: Vec<String>,
    pub(crate) created: i64,
    pub(crate) updated: i64,
    pub(crate) ended: i64,
    pub(crate) last_retried: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    owner_app: &'static str,
    create_time: i64,
    update_time: i64,
    status: WorkflowStatus,
    end_time: i64,
    workflow_id: &'a str,
    tasks: &'a [&'a Task],
    input: &'a Value,
    output: &'a Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_input_payload_storage_path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_output_payload_storage_path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason_for_incompletion: Option<&'a str>,
    task_to_domain: &'a BTreeMap<String, String>,
    failed_reference_task_names: &'a [String],
    workflow_definition: &'a RawValue,
    priority: i64,
    variables: &'a serde_json::Map<String, Value>,
    last_retried_time: i64,
    failed_task_names: &'a [String],
    history: [(); 0],
    rate_limited: bool,
    start_time: i64,
    workflow_name: &'a str,
    workflow_version: i64,
}

impl Workflow {
    /// The JSON that Conductor answers.
    pub(crate) fn json(&self, tasks: &[&Task]) -> serde_json::Result<String> {
        serde_json::to_string(&Wire {
            owner_app: "",
            create_time: self.created,
            update_time: self.updated,
            status: self.status,
            end_time: self.ended,
            workflow_id: &self.id,
            tasks,
            input: self.input.shown(),
            output: self.output.shown(),
            external_input_payload_storage_path: self.input.path(),
            external_output_payload_storage_path: self.output.path(),
            correlation_id: self.correlation_id.as_deref(),
            reason_for_incompletion: self.reason.as_deref(),
            task_to_domain: &self.task_to_domain,
            failed_reference_task_names: &self.failed_references,
            workflow_definition: &self.plan.json,
            priority: self.priority,
            variables: &self.plan.def.variables,
            last_retried_time: self.last_retried,
            failed_task_names: &self.failed_names,
            history: [],
            rate_limited: false,
            start_time: self.created,
            workflow_name: &self.plan.name,
            workflow_version: self.plan.def.version,
        })
    }

    /// The JSON of `GET /workflow/{id}/status`.
    pub(crate) fn summary(&self, output: bool, variables: bool) -> Value {
        let mut summary = json!({ "workflowId": &*self.id, "status": self.status.as_str() });
        if let Some(id) = &self.correlation_id {
            summary["correlationId"] = json!(&**id);
        }
        if output {
            summary["output"] = self.output.shown().clone();
        }
        if variables {
            summary["variables"] = Value::Object(self.plan.def.variables.clone());
        }
        summary
    }
}

/// What the expressions of a workflow's definition can see.
pub(crate) struct Seen<'a> {
    pub(crate) workflow: &'a Workflow,
    pub(crate) state: &'a State,
}

impl Scope for Seen<'_> {
    fn field(&self, name: &str, field: &str) -> Option<Cow<'_, Value>> {
        if name == "workflow" {
            let w = self.workflow;
            return Some(match field {
                "input" => Cow::Borrowed(&**w.input.value()),
                "output" => Cow::Borrowed(&**w.output.value()),
                "status" => Cow::Owned(json!(w.status.as_str())),
                "workflowId" => Cow::Owned(json!(&*w.id)),
                "workflowType" => Cow::Owned(json!(&*w.plan.name)),
                "version" => Cow::Owned(json!(w.plan.def.version)),
                "correlationId" => Cow::Owned(json!(w.correlation_id.as_deref())),
                "reasonForIncompletion" => Cow::Owned(json!(w.reason)),
                "schemaVersion" => Cow::Owned(json!(2)),
                "variables" => Cow::Owned(Value::Object(w.plan.def.variables.clone())),
                _ => return None,
            });
        }
        let tasks = self.workflow.tasks.iter().rev();
        let task = tasks
            .filter_map(|id| self.state.tasks.get(id))
            .find(|t| t.step.task.task_reference_name == name)?;
        Some(match field {
            "input" => Cow::Borrowed(&**task.input.value()),
            "output" => Cow::Borrowed(&**task.output.value()),
            // The other fields are named as in the task's JSON.
            "taskType"
            | "status"
            | "referenceTaskName"
            | "retryCount"
            | "correlationId"
            | "pollCount"
            | "taskDefName"
            | "scheduledTime"
            | "startTime"
            | "endTime"
            | "workflowInstanceId"
            | "taskId"
            | "reasonForIncompletion"
            | "callbackAfterSeconds"
            | "workerId"
            | "iteration" => {
                let mut all = serde_json::to_value(task).ok()?;
                Cow::Owned(all.get_mut(field)?.take())
            }
            _ => return None,
        })
    }
}
