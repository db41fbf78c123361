//! Tasks as they are polled, and results as they are reported.

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::IgnoredAny as Ignored};
use serde_json::value::RawValue;

/// A task as the server sent it. The JSON is kept as it came and handed on unparsed; only
/// what the sidecar itself needs is read from it. Times are epoch milliseconds.
#[derive(Debug, Clone)]
pub struct Task {
    /// UTF-8, one JSON object.
    raw: Bytes,
    head: Head,
}

/// What should be a task and cannot be read as one: its ids are missing, or a field that the
/// sidecar needs has another type.
#[derive(Debug, thiserror::Error)]
#[error("not a task: {0}")]
pub struct Malformed(#[from] serde_json::Error);

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    task_id: String,
    workflow_instance_id: String,
    #[serde(default)]
    task_type: String,
    #[serde(default)]
    task_def_name: Option<String>,
    status: TaskStatus,
    #[serde(default)]
    reference_task_name: String,
    #[serde(default)]
    workflow_type: Option<String>,
    #[serde(default)]
    domain: Option<String>,
    #[serde(default)]
    worker_id: Option<String>,
    #[serde(default)]
    reason_for_incompletion: Option<String>,
    #[serde(default)]
    retry_count: u32,
    #[serde(default)]
    poll_count: u32,
    #[serde(default)]
    scheduled_time: i64,
    #[serde(default)]
    start_time: i64,
    #[serde(default)]
    first_start_time: i64,
    #[serde(default)]
    update_time: i64,
    #[serde(default)]
    end_time: i64,
    #[serde(default)]
    response_timeout_seconds: u64,
    #[serde(default)]
    callback_after_seconds: i64,
    #[serde(default)]
    external_input_payload_storage_path: Option<String>,
    #[serde(default)]
    workflow_task: Option<Embedded>,
    #[serde(default)]
    output_data: Option<Box<RawValue>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Embedded {
    #[serde(default)]
    task_definition: Option<Definition>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Definition {
    #[serde(default)]
    timeout_seconds: u64,
    #[serde(default)]
    poll_timeout_seconds: Option<u64>,
}

/// Where a task is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "Conductor's own words")]
pub enum TaskStatus {
    Scheduled,
    InProgress,
    Completed,
    CompletedWithErrors,
    Failed,
    FailedWithTerminalError,
    TimedOut,
    Canceled,
    Skipped,
    /// A word of a newer server.
    #[serde(other)]
    Unknown,
}

impl TaskStatus {
    /// True once nothing can change it any more.
    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Scheduled | Self::InProgress | Self::Unknown)
    }
}

impl Task {
    /// Reads a task from the server's JSON.
    pub fn from_json(raw: &str) -> Result<Self, Malformed> {
        let head = serde_json::from_str(raw)?;
        Ok(Self::new(raw, head))
    }

    /// A copy of its own: a slice would keep its whole batch in memory for as long as the
    /// slowest of its tasks.
    fn new(raw: &str, head: Head) -> Self {
        Self {
            raw: Bytes::copy_from_slice(raw.as_bytes()),
            head,
        }
    }

    /// Reads a JSON array of tasks in one pass. What is an object but no task takes none of the
    /// others with it; an error is an answer that is no array, or is cut off.
    pub fn batch_from_json(
        answer: &str,
    ) -> Result<Vec<Result<Self, Malformed>>, serde_json::Error> {
        let mut tasks = Vec::new();
        let mut rest = past_space(answer);
        // Anything but an array, and an empty one, is for the parser to say.
        let Some(elements) = rest.strip_prefix('[') else {
            return serde_json::from_str::<[Ignored; 0]>(answer).map(|_| tasks);
        };
        rest = past_space(elements);
        let mut more = !rest.starts_with(']');
        while more {
            let mut heads = serde_json::Deserializer::from_str(rest).into_iter::<Head>();
            let end = match heads.next() {
                Some(Ok(head)) => {
                    let end = heads.byte_offset();
                    tasks.push(Ok(Self::new(&rest[..end], head)));
                    end
                }
                // Where it ends is found by reading it as any JSON.
                other => {
                    let mut any = serde_json::Deserializer::from_str(rest).into_iter::<Ignored>();
                    any.next().transpose()?;
                    if let Some(Err(error)) = other {
                        tasks.push(Err(Malformed(error)));
                    }
                    any.byte_offset()
                }
            };
            rest = past_space(&rest[end..]);
            more = rest.starts_with(',');
            if more {
                rest = past_space(&rest[1..]);
            } else if !rest.starts_with(']') {
                // It is cut off, or no array: the parser says where.
                return serde_json::from_str::<Vec<Ignored>>(answer).map(|_| tasks);
            }
        }
        match past_space(&rest[1..]) {
            "" => Ok(tasks),
            _ => serde_json::from_str::<Vec<Ignored>>(answer).map(|_| tasks),
        }
    }

    /// Takes the whole task, as the server sent it: UTF-8 JSON. What is left knows all but
    /// [`Task::json`] and [`Task::input_data`], and need not hold a large input in memory.
    pub fn take_json(&mut self) -> Bytes {
        std::mem::take(&mut self.raw)
    }

    /// The whole task, as the server sent it; "" once it was taken.
    pub fn json(&self) -> &str {
        // It was text when it came.
        std::str::from_utf8(&self.raw).unwrap_or_default()
    }

    /// `inputData`, as the server sent it; `{}` where there is none.
    pub fn input_data(&self) -> &str {
        #[derive(Deserialize)]
        struct Input<'a> {
            #[serde(borrow, rename = "inputData")]
            value: Option<&'a RawValue>,
        }
        serde_json::from_str::<Input<'_>>(self.json())
            .ok()
            .and_then(|i| i.value)
            .map_or("{}", RawValue::get)
    }

    /// `outputData`, as the server sent it: what the last `IN_PROGRESS` update left there.
    /// An update replaces it, so a task that is handed back must echo it.
    pub fn output_data(&self) -> Option<Box<RawValue>> {
        self.head.output_data.clone()
    }

    /// The attempt's id: each retry has a new one.
    pub fn task_id(&self) -> &str {
        &self.head.task_id
    }

    /// The workflow it belongs to.
    pub fn workflow_id(&self) -> &str {
        &self.head.workflow_instance_id
    }

    /// The workflow definition's name, `""` where the server left it out.
    pub fn workflow_type(&self) -> &str {
        self.head.workflow_type.as_deref().unwrap_or_default()
    }

    /// The task type it was polled by.
    pub fn task_type(&self) -> &str {
        &self.head.task_type
    }

    /// The task definition's name; for SIMPLE tasks equal to the type.
    pub fn task_def_name(&self) -> &str {
        self.head
            .task_def_name
            .as_deref()
            .unwrap_or(&self.head.task_type)
    }

    /// The task's name within its workflow.
    pub fn reference_name(&self) -> &str {
        &self.head.reference_task_name
    }

    /// The domain it was scheduled to.
    pub fn domain(&self) -> Option<&str> {
        self.head.domain.as_deref().filter(|d| !d.is_empty())
    }

    /// Who polled it last.
    pub fn worker_id(&self) -> Option<&str> {
        self.head.worker_id.as_deref()
    }

    /// Its state when it was read.
    pub fn status(&self) -> TaskStatus {
        self.head.status
    }

    /// Why it did not complete; on a retry, why the attempt before did not.
    pub fn reason(&self) -> Option<&str> {
        self.head.reason_for_incompletion.as_deref()
    }

    /// 0 for the first attempt.
    pub fn retry_count(&self) -> u32 {
        self.head.retry_count
    }

    /// How often this id was polled, this time included.
    pub fn poll_count(&self) -> u32 {
        self.head.poll_count
    }

    /// When it was put into the queue; never reset while the id stays the same.
    pub fn scheduled_time(&self) -> i64 {
        self.head.scheduled_time
    }

    /// When it was first polled; never reset while the id stays the same.
    pub fn start_time(&self) -> i64 {
        self.head.start_time
    }

    /// When the first of its attempts started; 0 where the server does not say.
    pub fn first_start_time(&self) -> i64 {
        self.head.first_start_time
    }

    /// When it was last changed; a lease counts from here.
    pub fn update_time(&self) -> i64 {
        self.head.update_time
    }

    /// When it ended; 0 before that.
    pub fn end_time(&self) -> i64 {
        self.head.end_time
    }

    /// The lease, in seconds; 0 means none.
    pub fn response_timeout_seconds(&self) -> u64 {
        self.head.response_timeout_seconds
    }

    /// How long it is hidden from polls after an `IN_PROGRESS` update, in seconds.
    pub fn callback_after_seconds(&self) -> i64 {
        self.head.callback_after_seconds
    }

    /// `timeoutSeconds` of its definition: counts from `start_time`, cannot be extended, 0 is off.
    pub fn timeout_seconds(&self) -> u64 {
        self.definition().map_or(0, |d| d.timeout_seconds)
    }

    /// `pollTimeoutSeconds` of its definition, `None` when off.
    pub fn poll_timeout_seconds(&self) -> Option<u64> {
        self.definition()
            .and_then(|d| d.poll_timeout_seconds)
            .filter(|&s| s > 0)
    }

    /// Where the server stored the input when it was too large to send; `inputData` is `{}` then.
    pub fn external_input_path(&self) -> Option<&str> {
        self.head.external_input_payload_storage_path.as_deref()
    }

    fn definition(&self) -> Option<&Definition> {
        self.head.workflow_task.as_ref()?.task_definition.as_ref()
    }
}

/// JSON's own white space, which is less than ASCII's.
fn past_space(json: &str) -> &str {
    json.trim_start_matches([' ', '\t', '\n', '\r'])
}

/// Whether a JSON text has a task's id, readable or not.
pub(crate) fn has_id(json: &str) -> bool {
    #[derive(Deserialize)]
    struct Id {
        #[serde(rename = "taskId")]
        _task_id: Ignored,
    }
    serde_json::from_str::<Id>(json).is_ok()
}

impl<'de> Deserialize<'de> for Task {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Self::from_json(raw.get()).map_err(serde::de::Error::custom)
    }
}

/// What a worker may set a task to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum UpdateStatus {
    /// Back into the queue, hidden for `callback_after_seconds`.
    InProgress,
    /// Done.
    Completed,
    /// Failed; Conductor retries by the task's definition.
    Failed,
    /// Failed, not to be retried.
    FailedWithTerminalError,
    /// Ends the workflow as TERMINATED.
    Canceled,
}

/// The report on a task. Both ids must be the task's own: the server does not check that
/// they belong together.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskResult {
    /// The workflow's id.
    pub workflow_instance_id: String,
    /// The task's id.
    pub task_id: String,
    /// The new status.
    pub status: UpdateStatus,
    /// Overwrites the task's worker id, so always sent.
    pub worker_id: String,
    /// Replaces the task's output; a JSON object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_data: Option<Box<RawValue>>,
    /// At most 500 characters are kept by the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason_for_incompletion: Option<String>,
    /// With [`UpdateStatus::InProgress`]: how long polls do not see it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub callback_after_seconds: u64,
    /// The server keeps the first ten of an update.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<TaskLog>,
}

/// A line of a task's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskLog {
    /// The text.
    pub log: String,
    /// Epoch milliseconds.
    #[serde(default)]
    pub created_time: i64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLLED: &str = r#"{"taskType":"t","status":"IN_PROGRESS","inputData":{"n": 1.50},"outputData":{"ckpt":1},
      "referenceTaskName":"r","retryCount":1,"pollCount":2,"taskDefName":"t","scheduledTime":10,"startTime":20,
      "responseTimeoutSeconds":60,"workflowInstanceId":"w","taskId":"i","domain":"","executionMetadata":{"empty":true},
      "workflowTask":{"name":"t","taskDefinition":{"timeoutSeconds":90,"pollTimeoutSeconds":5}},"unknown":[1]}"#;

    fn task(json: &str) -> Task {
        Task::from_json(json).unwrap()
    }

    #[test]
    fn json_passes_through_untouched() {
        let t = task(POLLED);
        assert_eq!(t.json(), POLLED);
        assert_eq!(t.input_data(), r#"{"n": 1.50}"#);
        assert_eq!(t.output_data().unwrap().get(), r#"{"ckpt":1}"#);
        let mut t = t;
        assert_eq!(t.take_json(), POLLED);
        assert_eq!(t.output_data().unwrap().get(), r#"{"ckpt":1}"#);
        assert_eq!((t.json(), t.input_data(), t.task_id()), ("", "{}", "i"));
    }

    #[test]
    fn what_the_sidecar_needs_is_read() {
        let t = task(POLLED);
        assert_eq!(
            (t.task_id(), t.workflow_id(), t.reference_name()),
            ("i", "w", "r")
        );
        assert_eq!(t.domain(), None, "an empty domain is none");
        assert_eq!(
            (t.timeout_seconds(), t.poll_timeout_seconds()),
            (90, Some(5))
        );
        assert_eq!(t.response_timeout_seconds(), 60);
    }

    #[test]
    fn a_batch_is_read_task_by_task() {
        let odd = r#"{"taskId":7,"status":"IN_PROGRESS","x":[1,{"]":"]"}]}"#;
        let answer = format!(" [ {POLLED} , {odd},3,{POLLED}\n] ");
        let tasks = Task::batch_from_json(&answer).unwrap();
        let read: Vec<bool> = tasks.iter().map(Result::is_ok).collect();
        assert_eq!(read, [true, false, false, true]);
        assert_eq!(tasks[3].as_ref().unwrap().json(), POLLED);
        for empty in ["[]", " [ \n] "] {
            assert!(Task::batch_from_json(empty).unwrap().is_empty(), "{empty}");
        }
        let cut = &answer[..answer.len() - 30];
        for bad in [
            "",
            "{}",
            "null",
            "[",
            "[,]",
            "[1 2]",
            "[] x",
            "[1,]",
            "[\x0c]",
            "<html>",
            "[{\"a\":}]",
            cut,
        ] {
            assert!(Task::batch_from_json(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn little_is_required() {
        let t = task(r#"{"status":"SCHEDULED","taskId":"i","workflowInstanceId":"w"}"#);
        assert_eq!(
            (
                t.input_data(),
                t.timeout_seconds(),
                t.poll_timeout_seconds()
            ),
            ("{}", 0, None)
        );
        assert!(Task::from_json("{}").is_err());
    }

    #[test]
    fn what_is_not_set_is_not_sent() {
        let result = TaskResult {
            workflow_instance_id: "w".into(),
            task_id: "i".into(),
            status: UpdateStatus::FailedWithTerminalError,
            worker_id: "me".into(),
            output_data: None,
            reason_for_incompletion: None,
            callback_after_seconds: 0,
            logs: vec![],
        };
        assert_eq!(
            serde_json::to_string(&result).unwrap(),
            r#"{"workflowInstanceId":"w","taskId":"i","status":"FAILED_WITH_TERMINAL_ERROR","workerId":"me"}"#
        );
    }
}
