//! Definitions and queues.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The name Conductor gives a queue: `taskType`, or `domain:taskType`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueName {
    task_type: String,
    domain: Option<String>,
}

impl QueueName {
    /// The queue of a task type in a domain; an empty domain is none.
    pub fn new(task_type: impl Into<String>, domain: Option<&str>) -> Self {
        Self {
            task_type: task_type.into(),
            domain: domain.filter(|d| !d.is_empty()).map(str::to_owned),
        }
    }

    /// The task type.
    pub fn task_type(&self) -> &str {
        &self.task_type
    }

    /// The domain, if any.
    pub fn domain(&self) -> Option<&str> {
        self.domain.as_deref()
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.domain {
            Some(domain) => write!(f, "{domain}:{}", self.task_type),
            None => f.write_str(&self.task_type),
        }
    }
}

/// The last poller of a task type in a domain. There is one row per (type, domain), written
/// when a poll ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PollData {
    /// The task type.
    pub queue_name: String,
    /// The domain, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Who polled; absent if it gave no name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_id: Option<String>,
    /// Epoch milliseconds.
    #[serde(default)]
    pub last_poll_time: i64,
}

/// What happens when a task times out (not its response time-out, which always retries).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TimeoutPolicy {
    /// A new attempt, if any are left.
    Retry,
    /// The workflow times out.
    TimeOutWf,
    /// Nothing but a count.
    AlertOnly,
}

/// A task definition. What is not named here is kept in `rest`, so that a definition can be
/// read, changed and written back: Conductor replaces it as a whole.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskDef {
    /// Its name: the task type.
    pub name: String,
    /// Attempts after the first; the server's default is 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_count: Option<u32>,
    /// Seconds between attempts; the server's default is 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_delay_seconds: Option<u64>,
    /// The lease, in seconds; the server's default is 3600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_timeout_seconds: Option<u64>,
    /// Longest from the first poll, in seconds; 0 is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
    /// What happens then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_policy: Option<TimeoutPolicy>,
    /// Longest in the queue, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll_timeout_seconds: Option<u64>,
    /// At most this many in progress over all workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrent_exec_limit: Option<i64>,
    /// At most this many started per `rate_limit_frequency_in_seconds`; 0 is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit_per_frequency: Option<i64>,
    /// The window of the rate limit, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit_frequency_in_seconds: Option<i64>,
    /// Everything else, untouched.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl TaskDef {
    /// A definition with the server's defaults.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }
}

/// A workflow definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowDef {
    /// Its name.
    pub name: String,
    /// Its version, from 1.
    #[serde(default = "one")]
    pub version: u32,
    /// Its tasks, in order.
    pub tasks: Vec<WorkflowTask>,
    /// Everything else, untouched.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

fn one() -> u32 {
    1
}

/// A task of a workflow definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowTask {
    /// The task type.
    pub name: String,
    /// Its name within the workflow.
    pub task_reference_name: String,
    /// `SIMPLE` for a task that workers poll.
    #[serde(rename = "type", default = "simple")]
    pub kind: String,
    /// Its input, with `${…}` expressions.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub input_parameters: Map<String, Value>,
    /// Everything else, untouched.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

fn simple() -> String {
    "SIMPLE".to_owned()
}

impl WorkflowDef {
    /// A workflow of SIMPLE tasks in sequence, given as (task type, reference name), without
    /// any input: set `input_parameters` for that.
    pub fn sequence<'a>(
        name: impl Into<String>,
        tasks: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let mut rest = Map::new();
        rest.insert("schemaVersion".into(), 2.into());
        rest.insert("ownerEmail".into(), "workers@example.com".into());
        rest.insert("timeoutSeconds".into(), 0.into());
        Self {
            name: name.into(),
            version: 1,
            tasks: tasks
                .into_iter()
                .map(|(task_type, reference)| WorkflowTask {
                    name: task_type.to_owned(),
                    task_reference_name: reference.to_owned(),
                    kind: simple(),
                    input_parameters: Map::new(),
                    rest: Map::new(),
                })
                .collect(),
            rest,
        }
    }
}
