//! What the operator answers.

#![expect(
    unreachable_pub,
    reason = "KubeSchema repeats each type inside a function"
)]

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator saw and decided.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConductorWorkerStatus {
    /// The generation of the spec that this status answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Pods there are, draining ones left out.
    #[serde(default)]
    pub replicas: u32,

    /// Of these, pods that take work.
    #[serde(default)]
    pub ready_replicas: u32,

    /// The label selector of the pods, for `/scale`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub selector: String,

    /// Tasks that wait, all task types together; absent while a queue cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<u64>,

    /// Tasks that run, all task types together.
    #[serde(default)]
    pub in_flight: u32,

    /// The address of Conductor's API that is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,

    /// The task types.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned(), "domain".to_owned()]))]
    pub tasks: Vec<TaskStatus>,

    /// The last decision about the number of pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<ScalingStatus>,

    /// `Ready`, `Reconciling`, `Stalled`, `MetricsAvailable`, `ConnectionHealthy`, `ScalingLimited`
    /// and, only where it is true, `QueueShared`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}

/// What was seen of a task type.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskStatus {
    /// The task type.
    pub name: String,

    /// Its domain; empty for none.
    #[serde(default)]
    pub domain: String,

    /// Tasks that wait, as Conductor counts them: delayed ones included; absent while the
    /// queue cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<u64>,

    /// Tasks that run in this worker's pods.
    #[serde(default)]
    pub in_flight: u32,
}

/// A decision about the number of pods.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScalingStatus {
    /// The number of pods asked for; in mode Recommend the number that would be.
    pub desired: u32,

    /// What decided, in one word.
    pub reason: String,

    /// The decision in one sentence.
    pub message: String,

    /// When the number or the reason last changed.
    pub decided_at: String,

    /// The numbers behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<ScalingTerms>,
}

/// The numbers behind a decision. Slots and tasks are sums over the task types.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScalingTerms {
    /// Slots that keep the backlog from growing.
    pub load: f64,
    /// Slots that empty the backlog in time.
    pub drain: f64,
    /// Slots needed.
    pub need: f64,
    /// Pods needed, before windows and bounds.
    pub want: f64,
    /// Waiting tasks that a free slot could take.
    pub backlog: f64,
    /// Running tasks.
    pub running: u32,
    /// Mean seconds that a task holds the handler, over the task types by their backlog.
    pub execution_seconds: f64,
    /// Seconds that a new pod needs to be ready.
    pub start_up_seconds: f64,
}

/// A condition, as Kubernetes has them everywhere.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What it is about.
    #[serde(rename = "type")]
    pub type_: String,
    /// True, False or Unknown.
    pub status: String,
    /// Why, in one word.
    pub reason: String,
    /// Why, in one sentence.
    #[serde(default)]
    pub message: String,
    /// When `status` last changed.
    pub last_transition_time: String,
    /// The generation of the spec that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}
