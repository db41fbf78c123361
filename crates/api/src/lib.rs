//! The `ConductorWorker` resource: what a user writes and what the operator answers.
//!
//! ```text
//! ConductorWorker ─ spec   (ConductorWorkerSpec)    the user's wish
//!                 └ status (ConductorWorkerStatus)  what the operator saw and decided
//! crd() ──> crds/conductorworkers.yaml, the chart
//! ```
//!
//! The doc comments of the fields are the descriptions that `kubectl explain` shows: they are
//! written for users. What can be told from the resource alone is refused by the API server,
//! with a message that says what to write instead; what can't is refused by
//! `operator::worker`, in a condition.

mod crd;
mod spec;
mod status;
mod template;

pub use crd::{crd, crd_yaml};
pub use spec::{
    ConductorWorker, ConductorWorkerSpec, Connection, Handler, HeaderText, LogFormat, LogLevel,
    Mode, NameRef, Payload, Quantity, Resources, Scaling, Schedule, Sidecar, StatusCodes, Task,
};
pub use status::{
    Condition, ConductorWorkerStatus, RateLimitStatus, ScalingChange, ScalingLimits, ScalingStatus,
    ScalingTerms, TaskStatus,
};
pub use template::PodTemplate;

/// The container that the operator adds to every pod.
pub const SIDECAR_CONTAINER: &str = "conductor-sidecar";

/// The sidecar's port for metrics, health, statistics and drain.
pub const SIDECAR_PORT: u16 = 2112;

/// The sidecar's port on the pod's loopback, where the handler reaches Conductor's task API.
pub const LOCAL_API_PORT: u16 = 2113;
