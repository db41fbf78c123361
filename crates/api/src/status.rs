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

    /// Besides, pods that take no more tasks and go when they have ended those they have.
    #[serde(default)]
    pub draining: u32,

    /// The label selector of the pods, for `/scale`; draining ones are left out.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub selector: String,

    /// Tasks that wait, all task types together; absent while a queue cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<u64>,

    /// Tasks that run, all task types together.
    #[serde(default)]
    pub in_flight: u32,

    /// The sidecar's image in the newest pods; the operator's own may be newer (condition
    /// `SidecarBehind`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sidecar_image: Option<String>,

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
    /// and, only where they are true, `QueueShared`, `ForeignPollers`, `DomainIdleFallsBack`,
    /// `GraceTooShort`, `ForeignDisruptionBudget`, `DisruptionBudgetRefused`, `SidecarBehind` and
    /// `SidecarUpgradeFailed`.
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

    /// Waiting tasks that a free slot could take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backlog: Option<f64>,

    /// Mean seconds that a task holds the handler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_seconds: Option<f64>,

    /// Slots that this task type needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub need: Option<f64>,

    /// The definition's `concurrentExecLimit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrent_exec_limit: Option<u32>,

    /// The definition's rate limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimitStatus>,
}

/// A rate limit: so many tasks may start in so many seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimitStatus {
    /// `rateLimitPerFrequency`.
    pub count: u32,
    /// `rateLimitFrequencyInSeconds`.
    pub seconds: u64,
    /// More was started than it allows: this server ignores it, as Conductor does on SQL.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ignored: bool,
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

    /// When it was last decided anew that was written here; while nothing is to be done it is
    /// not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured_at: Option<String>,

    /// What it was decided within.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<ScalingLimits>,

    /// The numbers behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<ScalingTerms>,

    /// The last decisions that changed something, the newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<ScalingChange>,

    /// What the operator has learnt and wants to know after a restart. Its form may change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
}

/// What a number of pods is decided within.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScalingLimits {
    /// Fewest pods, for now.
    pub min: u32,
    /// Most pods.
    pub max: u32,
    /// The schedule that keeps the fewest, where one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
}

/// A decision that changed something.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScalingChange {
    /// When.
    pub at: String,
    /// Pods asked for before.
    pub from: u32,
    /// Pods asked for since.
    pub to: u32,
    /// What decided, in one word.
    pub reason: String,
    /// The decision in one sentence.
    pub message: String,
}

/// The numbers behind a decision. Slots and tasks are sums over the task types.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScalingTerms {
    /// Pods that took work, or were about to, before the decision.
    #[serde(default)]
    pub current: u32,
    /// Waiting tasks as Conductor counts them; queues that cannot be read left out.
    #[serde(default)]
    pub queue: u64,
    /// Waiting tasks that a free slot could take.
    pub backlog: f64,
    /// Running tasks.
    pub running: u32,
    /// Slots that keep the backlog from growing.
    pub load: f64,
    /// Slots that empty the backlog in time.
    pub drain: f64,
    /// Slots needed.
    pub need: f64,
    /// Pods needed, before windows and bounds.
    pub want: f64,
    /// Seconds within which a backlog is to be gone.
    #[serde(default)]
    pub drain_seconds: f64,
    /// Mean seconds that a task holds the handler, over the task types by their backlog.
    pub execution_seconds: f64,
    /// Seconds that a new pod needs to be ready.
    pub start_up_seconds: f64,
    /// How old the oldest queue size was; absent where none was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_age_seconds: Option<f64>,
    /// How old the oldest statistics of a pod were; absent where there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods_age_seconds: Option<f64>,
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
