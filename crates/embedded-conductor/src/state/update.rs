//! What workers report.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    State,
    error::{Refused, Violation},
    lenient::int,
    payload::{self, Payload},
    task::TaskStatus,
    timers::Event,
};

/// Conductor cuts reasons to this many characters.
const REASON_LENGTH: usize = 500;
/// Lines of log that are kept of one update.
const LOG_LINES: usize = 10;
/// When Conductor's sweeper finds a workflow whose task has ended without its noticing.
pub(super) const SWEEP: i64 = 30_000;

/// A report on a task.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct TaskResult {
    pub(crate) workflow_instance_id: Option<String>,
    pub(crate) task_id: Option<String>,
    status: Option<UpdateStatus>,
    output_data: Option<Map<String, Value>>,
    reason_for_incompletion: Option<String>,
    #[serde(deserialize_with = "int")]
    callback_after_seconds: i64,
    pub(crate) worker_id: Option<String>,
    logs: Option<Vec<TaskLog>>,
    pub(crate) extend_lease: Option<bool>,
}

/// What a worker may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum UpdateStatus {
    InProgress,
    Completed,
    Failed,
    FailedWithTerminalError,
    Canceled,
}

impl UpdateStatus {
    fn as_task(self) -> TaskStatus {
        match self {
            Self::InProgress => TaskStatus::Scheduled,
            Self::Completed => TaskStatus::Completed,
            Self::Failed => TaskStatus::Failed,
            Self::FailedWithTerminalError => TaskStatus::FailedWithTerminalError,
            Self::Canceled => TaskStatus::Canceled,
        }
    }
}

/// A line of a task's log.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
pub(crate) struct TaskLog {
    log: Option<String>,
    task_id: Option<String>,
    #[serde(deserialize_with = "int")]
    created_time: i64,
}

impl TaskResult {
    /// What is wrong with the ids, as the first version of the call says it.
    pub(crate) fn violations(&self) -> Vec<Violation> {
        let empty = |id: &Option<String>| id.as_deref().unwrap_or_default().is_empty();
        let mut found = Vec::new();
        if empty(&self.workflow_instance_id) {
            found.push(Violation::new(
                "updateTask.arg0.workflowInstanceId",
                "Workflow Id cannot be null or empty",
            ));
        }
        if empty(&self.task_id) {
            found.push(Violation::new(
                "updateTask.arg0.taskId",
                "Task ID cannot be null or empty",
            ));
        }
        found
    }

    /// True when the server polls for the reporter after this (`update-v2`).
    pub(crate) fn ends(&self) -> bool {
        self.extend_lease != Some(true) && self.status != Some(UpdateStatus::InProgress)
    }
}

impl State {
    /// `POST /tasks`: the task's id, as it was sent.
    pub(crate) fn update(&mut self, result: TaskResult, now: i64) -> Result<String, Refused> {
        let violations = result.violations();
        if !violations.is_empty() {
            return Err(Refused::invalid(violations));
        }
        let id = result.task_id.clone().unwrap_or_default();
        let unknown = || Refused::missing(format!("No such task found by id: {id}"));
        if result.extend_lease == Some(true) {
            let task = self.tasks.get_mut(&*id).ok_or_else(unknown)?;
            if !task.status.is_terminal() {
                task.updated = now;
                self.set_alarm(&id);
            }
            self.counts.leases += 1;
            return Ok(id);
        }
        let workflow_id = result.workflow_instance_id.clone().unwrap_or_default();
        let workflow = self.workflow(&workflow_id)?;
        let task = self.tasks.get(&*id).ok_or_else(unknown)?;
        // As in Conductor, nothing checks that the two belong together.
        if task.status.is_terminal() || workflow.status.is_terminal() {
            self.leave_queue(&id);
            self.counts.discarded += 1;
            return Ok(id);
        }
        let own_workflow = task.workflow_id.clone();
        self.apply(result, now)?;
        self.decide(&workflow_id, now);
        if *own_workflow != workflow_id {
            self.timers.add(now + SWEEP, Event::Decide(own_workflow));
        }
        Ok(id)
    }

    /// Writes a report into its live task.
    fn apply(&mut self, result: TaskResult, now: i64) -> Result<(), Refused> {
        let id: Arc<str> = result.task_id.unwrap_or_default().into();
        let Some(status) = result.status else {
            return Err(Refused::mistake(
                "Cannot invoke \"com.netflix.conductor.common.metadata.tasks.TaskResult$Status.name()\" \
                 because the return value of \"TaskResult.getStatus()\" is null",
            ));
        };
        let mut status = status.as_task();
        let mut reason = result.reason_for_incompletion;
        let Some(task) = self.tasks.get_mut(&id) else {
            return Ok(());
        };
        let output = Arc::new(Value::Object(result.output_data.unwrap_or_default()));
        task.output = Payload::new(output, payload::TASK_THRESHOLD, || self.ids.next())
            .unwrap_or_else(|size| {
                reason = Some(too_large(size, &id, &task.workflow_id));
                status = TaskStatus::FailedWithTerminalError;
                Payload::empty()
            });
        let reason = reason.map(|r| r.chars().take(REASON_LENGTH).collect());
        task.reason = reason;
        task.worker_id = result.worker_id;
        task.callback_after = result.callback_after_seconds;
        task.updated = now;
        self.counts.updates += 1;
        if status == TaskStatus::Scheduled {
            let was_running = task.status == TaskStatus::InProgress;
            task.status = status;
            let task_type = task.step.task_type.clone();
            if was_running {
                self.count_running(&task_type, -1);
            }
            self.counts.handed_back += 1;
            self.enqueue(&id, result.callback_after_seconds * 1000, now);
        } else {
            self.end_task(&id, status, None, now);
        }
        for mut line in result.logs.unwrap_or_default().into_iter().take(LOG_LINES) {
            line.task_id = Some(id.to_string());
            self.logs.entry(id.to_string()).or_default().push(line);
        }
        Ok(())
    }

    /// `POST /tasks/{workflow}/{reference}/{status}`: merges `output` into the live task of
    /// that name; its id, or none if there is no such task.
    pub(crate) fn update_by_reference(
        &mut self,
        by: &ByReference<'_>,
        output: Map<String, Value>,
        now: i64,
    ) -> Result<Option<String>, Refused> {
        let status = serde_json::from_value(Value::String(by.status.to_owned()))
            .map_err(|_| Refused::no_status(by.status))?;
        let Some(task) = self.last_task(by.workflow_id) else {
            return Ok(None);
        };
        if task.status.is_terminal() || task.step.task.task_reference_name != by.reference {
            return Ok(None);
        }
        let mut merged = task.output.value().as_object().cloned().unwrap_or_default();
        merged.extend(output);
        let result = TaskResult {
            workflow_instance_id: Some(by.workflow_id.to_owned()),
            task_id: Some(task.id.to_string()),
            status: Some(status),
            output_data: Some(merged),
            worker_id: by.worker_id.map(str::to_owned).or(task.worker_id.clone()),
            ..TaskResult::default()
        };
        self.update(result, now).map(Some)
    }

    /// `POST /tasks/{id}/log`. Any id is taken.
    pub(crate) fn log(&mut self, id: &str, line: String, now: i64) {
        self.logs.entry(id.to_owned()).or_default().push(TaskLog {
            log: Some(line),
            task_id: Some(id.to_owned()),
            created_time: now,
        });
    }

    pub(crate) fn logs(&self, id: &str) -> &[TaskLog] {
        self.logs.get(id).map_or(&[], Vec::as_slice)
    }

    /// Where `update-v2` polls next: the type and domain of the task that was reported.
    pub(crate) fn queue_of(&self, task: &str) -> Option<(String, Option<String>)> {
        let task = self.tasks.get(task)?;
        Some((
            task.step.task_type.to_string(),
            task.domain.as_deref().map(str::to_owned),
        ))
    }
}

/// Which task is meant by its name within a workflow, and what it becomes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ByReference<'a> {
    pub(crate) workflow_id: &'a str,
    pub(crate) reference: &'a str,
    pub(crate) status: &'a str,
    pub(crate) worker_id: Option<&'a str>,
}

/// Why a task with a payload of this size has failed.
pub(super) fn too_large(size: usize, task: &str, workflow: &str) -> String {
    format!(
        "The payload size: {size} of task: {task} in workflow: {workflow}  is greater than the \
         permissible limit: {} bytes",
        payload::LIMIT
    )
}
