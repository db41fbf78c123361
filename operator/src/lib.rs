//! The controller that turns `ConductorWorker` resources into pods.
//!
//! ```text
//! API server ──watches──> observe ─┐                      ┌─> apply ──> API server
//!                                  ├─> Observed ─> plan ──┤
//! Conductor, sidecars ─> sampling ─┘     (pure)      Plan └─> memory, metrics
//! ```
//!
//! `reconcile` is three calls: observe reads, plan decides, apply writes. A failed reading is
//! a fact in `Observed`, so that Conductor being away stops no rollout.
//!
//! # Invariants
//! - `controller::plan` does no IO, reads no clock and draws no random number (a test looks).
//! - Only `observe`, `apply`, `references` and the watches hold a Kubernetes client; only `sampling` speaks
//!   to Conductor, and only `sampling` and `cordons` to sidecars.
//! - `apply` has no `if` on the spec.

pub mod args;
pub mod clock;
pub mod contact;
pub mod controller;
pub mod cordons;
pub mod error;
pub mod metrics;
pub mod references;
pub mod sampling;
pub mod stores;
pub mod worker;

/// The label that a worker's pods carry; its value is the worker's name.
pub const WORKER_LABEL: &str = "conductor-oss.org/worker";

/// The label of pods that are to go, with the value `true`.
pub const DRAINING_LABEL: &str = "conductor-oss.org/draining";

/// The annotation that says since when a pod is to go.
pub const DRAINING_SINCE: &str = "conductor-oss.org/draining-since";

/// The annotation by which a pod is given the key that may cordon it.
pub const CORDON_KEY: &str = "conductor-oss.org/cordon-key";

/// The annotation of a Deployment whose rollout the operator has stopped: the template that it was.
pub const ROLLOUT_STALLED: &str = "conductor-oss.org/rollout-stalled";

/// The annotation of such a Deployment that says why: the fault, and the queue whose tasks were
/// failed.
pub const ROLLOUT_STALLED_BY: &str = "conductor-oss.org/rollout-stalled-by";

/// The annotation of a Deployment whose rollout has gone on by itself after it was stopped: the
/// template that it was. It goes with the rollout.
pub const ROLLOUT_RESUMED: &str = "conductor-oss.org/rollout-resumed";

/// The annotation of a pod that says which of its annotations for node autoscalers the operator
/// wrote, by their names.
pub const LONG_TASK_HINTS: &str = "conductor-oss.org/long-task-hints";

/// The annotation of a Deployment with the fingerprint of what the user decided about its pods.
pub const SPEC_HASH: &str = "conductor-oss.org/spec-hash";

/// The annotation of a Deployment with the fingerprint of the pod template as it was rendered.
pub const TEMPLATE_HASH: &str = "conductor-oss.org/template-hash";

/// The annotation of a Deployment that says since when its pods are given another sidecar for no
/// change of the user's.
pub const SIDECAR_UPGRADE: &str = "conductor-oss.org/sidecar-upgrade-since";

/// What the operator writes its fields as.
pub const FIELD_MANAGER: &str = "conductor-worker-operator";
