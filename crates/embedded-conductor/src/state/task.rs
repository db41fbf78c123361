//! A task: one attempt of a workflow's step.

use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::{Value, value::RawValue};

use super::{payload::Payload, queue::Place, timers::Due, workflow_def::Step};

/// Where a task is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum TaskStatus {
    Scheduled,
    InProgress,
    Completed,
    CompletedWithErrors,
    Failed,
    FailedWithTerminalError,
    TimedOut,
    Canceled,
}

impl TaskStatus {
    pub(crate) fn is_terminal(self) -> bool {
        !matches!(self, Self::Scheduled | Self::InProgress)
    }

    pub(crate) fn is_successful(self) -> bool {
        matches!(self, Self::Completed | Self::CompletedWithErrors)
    }

    pub(crate) fn is_retriable(self) -> bool {
        matches!(self, Self::Failed | Self::TimedOut)
    }
}

/// One attempt. Times are epoch milliseconds, 0 for never.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) id: Arc<str>,
    pub(crate) workflow_id: Arc<str>,
    pub(crate) workflow_name: Arc<str>,
    pub(crate) step: Arc<Step>,
    pub(crate) status: TaskStatus,
    pub(crate) input: Payload,
    pub(crate) output: Payload,
    pub(crate) seq: usize,
    pub(crate) retry_count: i64,
    pub(crate) poll_count: i64,
    pub(crate) scheduled: i64,
    pub(crate) first_scheduled: i64,
    pub(crate) started: i64,
    pub(crate) updated: i64,
    pub(crate) ended: i64,
    pub(crate) start_delay: i64,
    pub(crate) callback_after: i64,
    pub(crate) retried_task_id: Option<Arc<str>>,
    pub(crate) retried: bool,
    pub(crate) executed: bool,
    pub(crate) reason: Option<String>,
    pub(crate) worker_id: Option<String>,
    pub(crate) correlation_id: Option<Arc<str>>,
    pub(crate) domain: Option<Arc<str>>,
    pub(crate) priority: i64,
    /// The queue's name: `type` or `domain:type`.
    pub(crate) queue: Arc<str>,
    pub(crate) place: Place,
    /// The timer of its next time-out.
    pub(crate) alarm: Option<Due>,
}

impl Task {
    /// Ends it before it is in any queue.
    pub(crate) fn fail_unscheduled(&mut self, reason: String, now: i64) {
        self.status = TaskStatus::FailedWithTerminalError;
        self.reason = Some(reason);
        self.input = Payload::empty();
        (self.updated, self.ended) = (now, now);
    }
}

#[derive(Serialize)]
struct Metadata {
    #[serde(rename = "additionalContext")]
    context: Empty,
    empty: bool,
    #[serde(rename = "additionalContextMap")]
    map: Empty,
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_excessive_bools, reason = "Conductor's own fields")]
struct Wire<'a> {
    task_type: &'a str,
    status: TaskStatus,
    input_data: &'a Value,
    reference_task_name: &'a str,
    retry_count: i64,
    seq: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<&'a str>,
    poll_count: i64,
    task_def_name: &'a str,
    scheduled_time: i64,
    start_time: i64,
    end_time: i64,
    update_time: i64,
    start_delay_in_seconds: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    retried_task_id: Option<&'a str>,
    retried: bool,
    executed: bool,
    callback_from_worker: bool,
    response_timeout_seconds: i64,
    workflow_instance_id: &'a str,
    workflow_type: &'a str,
    task_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason_for_incompletion: Option<&'a str>,
    callback_after_seconds: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker_id: Option<&'a str>,
    output_data: &'a Value,
    workflow_task: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a str>,
    rate_limit_per_frequency: i64,
    rate_limit_frequency_in_seconds: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_input_payload_storage_path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_output_payload_storage_path: Option<&'a str>,
    workflow_priority: i64,
    iteration: i64,
    subworkflow_changed: bool,
    first_start_time: i64,
    execution_metadata: Metadata,
    task_definition: &'a RawValue,
    loop_over_task: bool,
    queue_wait_time: i64,
}

impl Serialize for Task {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let def = &self.step.def;
        Wire {
            task_type: &self.step.task_type,
            status: self.status,
            input_data: self.input.shown(),
            reference_task_name: &self.step.task.task_reference_name,
            retry_count: self.retry_count,
            seq: self.seq,
            correlation_id: self.correlation_id.as_deref(),
            poll_count: self.poll_count,
            task_def_name: &self.step.task_type,
            scheduled_time: self.scheduled,
            start_time: self.started,
            end_time: self.ended,
            update_time: self.updated,
            start_delay_in_seconds: self.start_delay,
            retried_task_id: self.retried_task_id.as_deref(),
            retried: self.retried,
            executed: self.executed,
            callback_from_worker: true,
            response_timeout_seconds: def.response_timeout_seconds,
            workflow_instance_id: &self.workflow_id,
            workflow_type: &self.workflow_name,
            task_id: &self.id,
            reason_for_incompletion: self.reason.as_deref(),
            callback_after_seconds: self.callback_after,
            worker_id: self.worker_id.as_deref(),
            output_data: self.output.shown(),
            workflow_task: &self.step.task_json,
            domain: self.domain.as_deref(),
            rate_limit_per_frequency: def.rate_limit_per_frequency,
            rate_limit_frequency_in_seconds: def.rate_limit_frequency_in_seconds,
            external_input_payload_storage_path: self.input.path(),
            external_output_payload_storage_path: self.output.path(),
            workflow_priority: self.priority,
            iteration: 0,
            subworkflow_changed: false,
            // Never set by Conductor 3.32, whatever its name.
            first_start_time: 0,
            execution_metadata: Metadata {
                context: Empty {},
                empty: true,
                map: Empty {},
            },
            task_definition: &self.step.def_json,
            loop_over_task: false,
            queue_wait_time: if self.started > 0 {
                (self.started - self.scheduled).max(0)
            } else {
                0
            },
        }
        .serialize(serializer)
    }
}
