//! Facts, failed ones included, and what is remembered between reconciles. Data only.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use api::{ConductorWorkerStatus, ScalingChange};
use conductor_client::QueueName;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use runtime::cordon::Action;
use scaling::{Decision, Instant, State};
use serde_json::Value;

use super::plan::{
    self, Event, Hinting, Turn,
    grace::Longest,
    rate::Starts,
    stall::{Done, Stalled},
};
use crate::{cordons::Told, sampling::Round, worker::Worker};

/// Which worker.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What time it is, on both clocks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Now {
    /// Never goes back; for ages.
    pub clock: Instant,
    /// For what people read, and for what the API server dates.
    pub wall: Timestamp,
}

/// All that a plan is made from.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// Which worker.
    pub key: Key,
    /// Its UID.
    pub uid: String,
    /// The spec's generation.
    pub generation: i64,
    /// It is being deleted.
    pub deleting: bool,
    /// Its spec, or why it cannot be run.
    pub worker: Result<Arc<Worker>, String>,
    /// Its status as it was last read.
    pub status: ConductorWorkerStatus,
    /// The Deployment of its name.
    pub deployment: Option<LiveDeployment>,
    /// The `PodDisruptionBudget`s of its namespace, by name; none where they cannot be read.
    pub budgets: Option<Vec<LiveBudget>>,
    /// Its pods, those that ended left out.
    pub pods: Vec<LivePod>,
    /// What the tick brought, once per tick.
    pub round: Option<Round>,
    /// Queues that other workers serve too.
    pub shared: BTreeMap<QueueName, Share>,
    /// What pods answered when they were told to take no more tasks, or to take them again.
    pub told: BTreeMap<String, Told>,
    /// Since when nothing could be read from the API server; none while it can.
    pub unread_since: Option<Instant>,
    /// The key that this operator cordons by.
    pub key_of_cordons: String,
    /// Whether it may be given another sidecar now.
    pub turn: Turn,
    /// What was remembered.
    pub memory: Memory,
    /// The time between two rounds.
    pub tick: Duration,
}

impl Observed {
    /// Its pods that are not being deleted.
    pub fn staying(&self) -> impl Iterator<Item = &LivePod> {
        self.pods.iter().filter(|pod| !pod.terminating)
    }
}

/// A queue that several workers serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The others.
    pub with: Vec<Key>,
    /// This worker's slots per pod.
    pub own: u32,
    /// All workers' slots per pod, this one's included.
    pub all: u32,
}

/// A Deployment, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LiveDeployment {
    /// Its UID.
    pub uid: String,
    /// The UID of the worker that owns it.
    pub owner: Option<String>,
    /// Its generation.
    pub generation: i64,
    /// The generation that its controller has seen.
    pub observed_generation: i64,
    /// Pods it should have.
    pub wanted: u32,
    /// Pods it has, terminating ones left out.
    pub replicas: u32,
    /// Of these, pods of the newest template.
    pub updated: u32,
    /// Of these, ready pods.
    pub ready: u32,
    /// Why pods cannot be made.
    pub failure: Option<String>,
    /// Why the rollout does not go on.
    pub stalled: Option<String>,
    /// Its pods are not replaced for now.
    pub paused: bool,
    /// The template for which its rollout was stopped by an operator.
    pub stalled_for: Option<String>,
    /// Why it was, as an operator wrote it.
    pub stalled_by: Option<String>,
    /// The template of which the rollout has gone on by itself after it was stopped.
    pub resumed_for: Option<String>,
    /// The newest template, as its pods have it; none while it is not known.
    pub newest: Option<String>,
    /// What it says of where its pod template comes from.
    pub origin: Origin,
    /// Its pod template as the API server has it.
    pub template: Arc<Value>,
}

/// What a Deployment says of where its pod template comes from; nothing where an operator made it
/// that did not say so.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// The fingerprint of what the user had decided.
    pub spec: Option<String>,
    /// The fingerprint of the template as it was rendered.
    pub template: Option<String>,
    /// Since when it is rolled out without a change of the user's.
    pub upgrade_since: Option<String>,
}

/// A `PodDisruptionBudget`, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LiveBudget {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// The UID of the worker that owns it.
    pub owner: Option<String>,
    /// Its generation.
    pub generation: i64,
    /// Which pods it is about; none: about no pod.
    pub selector: Option<LabelSelector>,
}

/// A pod, as far as it matters here.
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts, each without the others"
)]
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LivePod {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// The template that it was made from; none where it does not say.
    pub template: Option<String>,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// Since when it is ready; none where it is not.
    pub ready_since: Option<Timestamp>,
    /// A node was found for it.
    pub assigned: bool,
    /// Its node takes no new pods: most likely it is being drained, and this pod will be evicted.
    pub on_drained_node: bool,
    /// Not all of its containers have been made.
    pub pending: bool,
    /// Its sidecar.
    pub sidecar: SidecarState,
    /// It is being deleted.
    pub terminating: bool,
    /// What says that it is to go.
    pub mark: LiveMark,
    /// What keeps node autoscalers away from it.
    pub hints: LiveHints,
    /// Why it does not get ready.
    pub trouble: Option<Trouble>,
    /// How often its containers were started again, together.
    pub restarts: u32,
}

/// What keeps node autoscalers away from a pod, as far as it is there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LiveHints {
    /// The annotations with their values, whoever wrote them.
    pub there: BTreeMap<String, String>,
    /// The names of those that the operator wrote.
    pub own: Vec<String>,
}

/// How far a pod's sidecar has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SidecarState {
    /// It has never run: the pod has taken no work.
    #[default]
    Unstarted,
    /// It runs.
    Running,
    /// It has crashed and does not run now.
    Down,
}

/// What says of a pod that it is to go, as far as it is there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LiveMark {
    /// Since when.
    pub since: Option<Timestamp>,
    /// It is labelled, so that autoscalers leave it out.
    pub labelled: bool,
    /// Lower goes first when replicas are lowered; 0 unless it is written.
    pub cost: i32,
    /// The key that may cordon it.
    pub key: Option<String>,
}

/// Why a pod does not get ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// In one word.
    pub kind: TroubleKind,
    /// In the kubelet's or the scheduler's words.
    pub message: String,
}

/// Why a pod does not get ready, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TroubleKind {
    /// An image cannot be pulled.
    ImagePull,
    /// A container ends again and again.
    CrashLoop,
    /// A container cannot be made, for a missing secret for example.
    ContainerConfig,
    /// No node takes it.
    Unschedulable,
}

impl TroubleKind {
    /// The reason in a condition.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ImagePull => "ImagePull",
            Self::CrashLoop => "CrashLoop",
            Self::ContainerConfig => "ContainerConfig",
            Self::Unschedulable => "Unschedulable",
        }
    }
}

/// What is remembered of a worker between reconciles. Nothing of it is needed for
/// correctness: after a restart of the operator it fills again.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Memory {
    /// The UID of the worker that this is about.
    pub uid: String,
    /// `scaling`'s own memory.
    pub state: Option<State>,
    /// The queues that it is about, in the order of the task types then.
    pub state_of: Vec<QueueName>,
    /// The last round, its growth spent.
    pub round: Option<Round>,
    /// The last decision.
    pub decided: Option<Decided>,
    /// What is wanted, why, and since when; none before the first look at the status.
    pub standing: Option<Standing>,
    /// What was started, of queues whose definition has a rate limit.
    pub starts: BTreeMap<QueueName, Starts>,
    /// How long tasks take at most; none before the first round.
    pub longest: Option<Longest>,
    /// The last decisions that changed something; none before the first look at the status.
    pub history: Option<Vec<ScalingChange>>,
    /// What pods have done of their tasks.
    pub done: Done,
    /// The rollout, while it is stopped.
    pub stalled: Option<Stalled>,
    /// How far the upgrade of the sidecar had come; none before the first plan of a spec that can
    /// be run.
    pub upgrade: Option<plan::Standing>,
    /// What was told as an event a while ago, whether it was a warning, and when.
    pub told: BTreeMap<(bool, String), Instant>,
    /// What is still to be told: what it was about could not be written.
    pub untold: Vec<Event>,
    /// UIDs of pods that were seen ready; none before the first round.
    pub seen_ready: Option<BTreeSet<String>>,
    /// When the first round was.
    pub watched_since: Option<Timestamp>,
    /// The pods' polls fail, and none has succeeded since.
    pub polls_fail: bool,
    /// The Deployment as it was sent.
    pub deployment: Sent,
    /// The `PodDisruptionBudget` as it was sent.
    pub budget: Sent,
    /// The name of a pod whose mark the API server refused the last time, and why.
    pub unmarked: Option<(String, String)>,
    /// The status as it was last written.
    pub written: Option<Written>,
    /// What was done about pods that are to go.
    pub leaving: Leaving,
    /// What was written for node autoscalers.
    pub hinting: Hinting,
}

/// What is remembered of pods that are to go, by their UIDs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Leaving {
    /// How many pods were to work, the last time.
    pub active: Option<u32>,
    /// Marks that were sent: what is read may be older.
    pub marked: BTreeMap<String, Marked>,
    /// The last order to each pod.
    pub ordered: BTreeMap<String, Ordered>,
    /// Since when each is seen unready.
    pub unready: BTreeMap<String, Instant>,
    /// Those that replicas were lowered for.
    pub taken: Option<Taken>,
    /// How many have gone since none was to go, and since when.
    pub gone: Option<(u32, Instant)>,
}

/// A mark as it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marked {
    /// Since when it is to go; none: it stays.
    pub since: Option<Timestamp>,
    /// Its deletion cost.
    pub cost: i32,
    /// When it was sent.
    pub at: Instant,
}

/// An order as it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ordered {
    /// What to do.
    pub action: Action,
    /// Since when nothing else has been ordered.
    pub since: Instant,
    /// When it was given the last time.
    pub at: Instant,
}

/// Pods that replicas were lowered for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Their names.
    pub pods: BTreeMap<String, String>,
    /// What replicas were lowered to.
    pub replicas: u32,
}

/// What is wanted, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Pods.
    pub desired: u32,
    /// Why, in one word.
    pub reason: String,
    /// Since when, as Kubernetes writes times.
    pub since: String,
}

/// A status as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// What was sent.
    pub status: ConductorWorkerStatus,
    /// When.
    pub at: Instant,
}

/// A decision and what it was based on.
#[derive(Debug, Clone, PartialEq)]
pub struct Decided {
    /// The decision.
    pub decision: Decision,
    /// When it was made.
    pub at: Instant,
}

/// What was sent of one object.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sent {
    /// The object as it was last applied.
    pub applied: Option<Applied>,
    /// One that the API server refused.
    pub refused: Option<Refused>,
}

impl Sent {
    /// The Deployment as it was last applied, unless somebody has changed it since. That may have
    /// been this operator, where the answer to what it sent was lost: what is read is better then.
    pub fn last(&self, live: &LiveDeployment) -> Option<&Applied> {
        let applied = self.applied.as_ref();
        applied.filter(|sent| sent.uid == live.uid && sent.generation >= live.generation)
    }

    /// The same where what is read is from before that.
    pub fn unread(&self, live: &LiveDeployment) -> Option<&Applied> {
        let last = self.last(live);
        last.filter(|sent| sent.generation > live.generation)
    }
}

/// An object as it was applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// What was sent.
    pub object: Value,
    /// The UID it has.
    pub uid: String,
    /// The generation it then had; a later one is someone else's change.
    pub generation: i64,
}

/// An object that the API server refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// What was sent; null where it was to be deleted.
    pub object: Value,
    /// Why it was refused.
    pub message: String,
    /// When.
    pub at: Instant,
    /// How many times in a row, this one included.
    pub times: u32,
}
