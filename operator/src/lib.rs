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

/// What the operator writes its fields as.
pub const FIELD_MANAGER: &str = "conductor-worker-operator";
