//! Starting a workflow.

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    State,
    error::{Refused, Violation},
    lenient::optional_int,
    payload::{self, Payload},
    task_def::TimeoutPolicy,
    timers::Event,
    workflow::{Workflow, WorkflowStatus},
    workflow_def::WorkflowDef,
};

/// A request to start a workflow.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Start {
    pub(crate) name: Option<String>,
    #[serde(deserialize_with = "optional_int")]
    pub(crate) version: Option<i64>,
    pub(crate) correlation_id: Option<String>,
    pub(crate) input: Option<Map<String, Value>>,
    pub(crate) task_to_domain: Option<BTreeMap<String, String>>,
    pub(crate) workflow_def: Option<WorkflowDef>,
    #[serde(deserialize_with = "optional_int")]
    pub(crate) priority: Option<i64>,
    pub(crate) external_input_payload_storage_path: Option<String>,
    pub(crate) idempotency_key: Option<String>,
}

impl State {
    /// Starts a workflow and schedules its first task; the workflow's id.
    pub(crate) fn start(&mut self, start: Start, now: i64) -> Result<Arc<str>, Refused> {
        let name = start.name.as_deref().unwrap_or_default();
        if name.is_empty() {
            return Err(Refused::invalid(vec![Violation::new(
                "startWorkflow.arg0.name",
                "Workflow name cannot be null or empty",
            )]));
        }
        let priority = start.priority.unwrap_or_default();
        if !(0..=99).contains(&priority) {
            let bound = if priority < 0 {
                "minimum 0"
            } else {
                "maximum 99"
            };
            return Err(Refused::invalid(vec![
                Violation::new(
                    "startWorkflow.arg0.priority",
                    format!("priority: {priority} should be {bound}"),
                )
                .of(priority),
            ]));
        }
        for (field, given) in [
            (
                "externalInputPayloadStoragePath",
                &start.external_input_payload_storage_path,
            ),
            ("idempotencyKey", &start.idempotency_key),
        ] {
            if given.as_ref().is_some_and(|v| !v.is_empty()) {
                return Err(Refused::bad(format!(
                    "embedded-conductor does not support {field}"
                )));
            }
        }
        let plan = match start.workflow_def {
            Some(mut def) => {
                def.name.get_or_insert_with(|| name.to_owned());
                def.check("startWorkflow.arg0.workflowDef")?;
                Arc::new(self.plan_of(def)?)
            }
            None => self.plan(name, start.version)?,
        };
        let mut input = start.input.unwrap_or_default();
        // Without any input Conductor loses the template.
        if !input.is_empty() {
            for (key, value) in &plan.def.input_template {
                input.entry(key).or_insert_with(|| value.clone());
            }
        }
        let id = self.ids.next();
        let input = Arc::new(Value::Object(input));
        let input = Payload::new(input, payload::WORKFLOW_THRESHOLD, || self.ids.next()).map_err(
            |size| {
                Refused::mistake(format!(
                    "The payload size: {size} of workflow: {id} is greater than the permissible \
                     limit: {} bytes",
                    payload::LIMIT
                ))
            },
        )?;
        let timeout = plan.def.timeout_seconds;
        if timeout > 0 && plan.def.timeout_policy == TimeoutPolicy::TimeOutWf {
            self.timers
                .add(now + timeout * 1000, Event::Decide(id.clone()));
        }
        self.workflows.insert(
            id.clone(),
            Workflow {
                id: id.clone(),
                plan,
                status: WorkflowStatus::Running,
                input,
                output: Payload::empty(),
                reason: None,
                task_to_domain: Arc::new(start.task_to_domain.unwrap_or_default()),
                correlation_id: start.correlation_id.map(Arc::from),
                priority,
                tasks: Vec::new(),
                failed_references: Vec::new(),
                failed_names: Vec::new(),
                created: now,
                updated: now,
                ended: 0,
                last_retried: 0,
            },
        );
        self.counts.started += 1;
        self.decide(&id, now);
        Ok(id)
    }

    /// `DELETE /workflow/{id}`.
    pub(crate) fn terminate(
        &mut self,
        id: &str,
        reason: Option<String>,
        now: i64,
    ) -> Result<(), Refused> {
        match self.workflow(id)?.status {
            WorkflowStatus::Completed => {
                Err(Refused::conflict("Cannot terminate a COMPLETED workflow."))
            }
            WorkflowStatus::Terminated => Ok(()),
            _ => {
                self.end_workflow(id, WorkflowStatus::Terminated, reason, now);
                Ok(())
            }
        }
    }

    /// `PUT /workflow/{id}/pause`. What is scheduled already can be polled and reported.
    pub(crate) fn pause(&mut self, id: &str, now: i64) -> Result<(), Refused> {
        let workflow = self.workflow(id)?;
        if workflow.status.is_terminal() {
            return Err(Refused::conflict(format!(
                "Workflow {}.{}/{id}.{} has ended, status cannot be updated.",
                workflow.plan.name,
                workflow.plan.def.version,
                workflow.status.as_str()
            )));
        }
        if let Some(workflow) = self.workflows.get_mut(id) {
            workflow.status = WorkflowStatus::Paused;
            workflow.updated = now;
        }
        Ok(())
    }

    /// `PUT /workflow/{id}/resume`.
    pub(crate) fn resume(&mut self, id: &str, now: i64) -> Result<(), Refused> {
        let status = self.workflow(id)?.status;
        if status != WorkflowStatus::Paused {
            return Err(Refused::mistake(format!(
                "The workflow {id} is not PAUSED so cannot resume. Current status is {}",
                status.as_str()
            )));
        }
        if let Some(workflow) = self.workflows.get_mut(id) {
            workflow.status = WorkflowStatus::Running;
            workflow.last_retried = now;
            workflow.updated = now;
        }
        self.decide(id, now);
        Ok(())
    }

    /// `PUT /workflow/decide/{id}`.
    pub(crate) fn decide_now(&mut self, id: &str, now: i64) -> Result<(), Refused> {
        self.workflow(id)?;
        self.decide(id, now);
        Ok(())
    }
}
