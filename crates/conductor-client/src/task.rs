//! Tasks as they are polled, and results as they are reported.

use std::{fmt, ops::Range};

use bytes::Bytes;
use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, Error as _, IgnoredAny as Ignored},
};
use serde_json::value::RawValue;

use crate::skip::{self, Broken, Fields, past_space};

/// A task as the server sent it. The JSON is kept as it came and handed on unparsed; only
/// what the sidecar itself needs is read from it. Times are epoch milliseconds. Its `Debug` shows
/// ids and status alone: what else is in it may be secret.
#[derive(Clone)]
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

#[derive(Clone, Default)]
struct Head {
    task_id: String,
    workflow_instance_id: String,
    task_type: String,
    task_def_name: Option<String>,
    status: TaskStatus,
    reference_task_name: String,
    workflow_type: Option<String>,
    domain: Option<String>,
    worker_id: Option<String>,
    reason_for_incompletion: Option<String>,
    retry_count: u32,
    poll_count: u32,
    scheduled_time: i64,
    start_time: i64,
    first_start_time: i64,
    update_time: i64,
    end_time: i64,
    response_timeout_seconds: u64,
    callback_after_seconds: i64,
    external_input_payload_storage_path: Option<String>,
    definition: Definition,
    /// Where it stands in the task.
    input_data: Option<Range<usize>>,
    output_data: Option<Box<RawValue>>,
}

/// What is needed of a task's definition, which the server sends within `workflowTask`.
#[derive(Clone, Default)]
struct Definition {
    timeout_seconds: u64,
    poll_timeout_seconds: Option<u64>,
}

/// Where a task is in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// A word of a newer server, or none.
    #[default]
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
    /// Reads a task from the server's JSON. What stands between the brackets of its input is not
    /// looked at: it is the handler's to read.
    pub fn from_json(raw: &str) -> Result<Self, Malformed> {
        let raw = past_space(raw);
        match Head::read(raw) {
            Ok((head, "")) => Ok(Self::new(raw, head?)),
            Ok((_, rest)) => match past_space(rest) {
                "" => Self::from_json(&raw[..raw.len() - rest.len()]),
                _ => Err(Malformed(why_not::<Ignored>(raw))),
            },
            Err(Broken) => Err(Malformed(why_not::<Object>(raw))),
        }
    }

    /// A copy of its own: a slice would keep its whole batch in memory for as long as the
    /// slowest of its tasks.
    fn new(raw: &str, head: Head) -> Self {
        Self {
            raw: Bytes::copy_from_slice(raw.as_bytes()),
            head,
        }
    }

    /// Reads a JSON array of tasks in one pass. What is an element but no task takes none of the
    /// others with it; an error is an answer that is no array, or is cut off.
    pub fn batch_from_json(
        answer: &str,
    ) -> Result<Vec<Result<Self, Malformed>>, serde_json::Error> {
        let mut tasks = Vec::new();
        let mut rest = past_space(answer);
        let Some(elements) = rest.strip_prefix('[') else {
            return Err(why_not::<Vec<Ignored>>(answer));
        };
        rest = past_space(elements);
        let mut more = !rest.starts_with(']');
        while more {
            rest = if let Ok((head, after)) = Head::read(rest) {
                let raw = &rest[..rest.len() - after.len()];
                tasks.push(head.map(|head| Self::new(raw, head)));
                after
            } else {
                let broken = || why_not::<Vec<Ignored>>(answer);
                let (element, after) = skip::value(rest).ok_or_else(broken)?;
                serde_json::from_str::<Ignored>(element)?;
                tasks.push(Err(Malformed(why_not::<Object>(element))));
                after
            };
            rest = past_space(rest);
            more = rest.starts_with(',');
            if more {
                rest = past_space(&rest[1..]);
            } else if !rest.starts_with(']') {
                return Err(why_not::<Vec<Ignored>>(answer));
            }
        }
        match past_space(&rest[1..]) {
            "" => Ok(tasks),
            _ => Err(why_not::<Vec<Ignored>>(answer)),
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

    /// `inputData`, as the server sent it; `{}` where there is none, or once it was taken.
    pub fn input_data(&self) -> &str {
        let range = self.head.input_data.clone();
        range.and_then(|r| self.json().get(r)).unwrap_or("{}")
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
        self.head.definition.timeout_seconds
    }

    /// `pollTimeoutSeconds` of its definition, `None` when off.
    pub fn poll_timeout_seconds(&self) -> Option<u64> {
        self.head.definition.poll_timeout_seconds.filter(|&s| s > 0)
    }

    /// Where the server stored the input when it was too large to send; `inputData` is `{}` then.
    pub fn external_input_path(&self) -> Option<&str> {
        self.head.external_input_payload_storage_path.as_deref()
    }
}

/// What a text must be to be a task.
type Object = serde_json::Map<String, serde_json::Value>;

/// What the parser has against a text that is not taken for a `T`. It is the stricter one. Where
/// it is the type, it would quote the text, which may be somebody's data: this is for logs.
fn why_not<T: DeserializeOwned>(json: &str) -> serde_json::Error {
    let error = serde_json::from_str::<T>(json).err();
    let custom = serde_json::Error::custom::<&str>;
    match error {
        Some(error) if error.is_data() => custom("it has another type"),
        Some(error) => error,
        None => custom("its brackets do not match"),
    }
}

impl Head {
    /// The head of the task that a text begins with, and what follows the task. `Broken` if
    /// there is no whole object.
    fn read(text: &str) -> Result<(Result<Self, Malformed>, &str), Broken> {
        let mut fields = Fields::of(text).ok_or(Broken)?;
        let (mut head, mut malformed) = (Self::default(), None);
        while let Some((key, value)) = fields.next()? {
            if key == "inputData" && value != "null" {
                let end = text.len() - fields.rest().len();
                head.input_data = Some(end - value.len()..end);
            } else if malformed.is_none() {
                malformed = head.take(key, value).err();
            }
        }
        for (name, id) in [
            ("taskId", &head.task_id),
            ("workflowInstanceId", &head.workflow_instance_id),
        ] {
            if id.is_empty() {
                let missing = || serde_json::Error::custom(format_args!("it has no `{name}`"));
                malformed.get_or_insert_with(missing);
            }
        }
        let head = malformed.map_or(Ok(head), |error| Err(Malformed(error)));
        Ok((head, fields.rest()))
    }

    fn take(&mut self, key: &str, json: &str) -> Result<(), serde_json::Error> {
        fn set<T: DeserializeOwned>(to: &mut T, json: &str) -> Result<(), serde_json::Error> {
            *to = serde_json::from_str(json)?;
            Ok(())
        }
        match key {
            "taskId" => set(&mut self.task_id, json),
            "workflowInstanceId" => set(&mut self.workflow_instance_id, json),
            "taskType" => set(&mut self.task_type, json),
            "taskDefName" => set(&mut self.task_def_name, json),
            "status" => set(&mut self.status, json),
            "referenceTaskName" => set(&mut self.reference_task_name, json),
            "workflowType" => set(&mut self.workflow_type, json),
            "domain" => set(&mut self.domain, json),
            "workerId" => set(&mut self.worker_id, json),
            "reasonForIncompletion" => set(&mut self.reason_for_incompletion, json),
            "retryCount" => set(&mut self.retry_count, json),
            "pollCount" => set(&mut self.poll_count, json),
            "scheduledTime" => set(&mut self.scheduled_time, json),
            "startTime" => set(&mut self.start_time, json),
            "firstStartTime" => set(&mut self.first_start_time, json),
            "updateTime" => set(&mut self.update_time, json),
            "endTime" => set(&mut self.end_time, json),
            "responseTimeoutSeconds" => set(&mut self.response_timeout_seconds, json),
            "callbackAfterSeconds" => set(&mut self.callback_after_seconds, json),
            "externalInputPayloadStoragePath" => {
                set(&mut self.external_input_payload_storage_path, json)
            }
            "workflowTask" => {
                let definition = skip::field(json, "taskDefinition").unwrap_or_default();
                let get = |name| skip::field(definition, name);
                if let Some(json) = get("timeoutSeconds") {
                    set(&mut self.definition.timeout_seconds, json)?;
                }
                if let Some(json) = get("pollTimeoutSeconds") {
                    set(&mut self.definition.poll_timeout_seconds, json)?;
                }
                Ok(())
            }
            "outputData" => set(&mut self.output_data, json),
            _ => Ok(()),
        }
        .map_err(|error| serde_json::Error::custom(format_args!("`{key}`: {error}")))
    }
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

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("task_id", &self.task_id())
            .field("workflow_id", &self.workflow_id())
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
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
    fn debug_shows_ids_and_status_alone() {
        let task = task(
            r#"{"taskId":"i","workflowInstanceId":"w","status":"IN_PROGRESS","inputData":{"a":"s3cret"},
            "outputData":{"b":"s3cret"},"reasonForIncompletion":"s3cret","runtimeMetadata":{"KEY":"s3cret"}}"#,
        );
        assert_eq!(
            format!("{task:?}"),
            r#"Task { task_id: "i", workflow_id: "w", status: InProgress, .. }"#
        );
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
