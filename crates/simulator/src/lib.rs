//! A queue and its pods, simulated around the autoscaler that ships and others.
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts of tasks and pods are far below 2^32"
)]

mod arrivals;
mod distribution;
mod observation;
mod oracle;
mod points;
pub mod policies;
mod policy;
mod random;
mod scenario;
mod score;
mod study;
mod taut_string;
mod workload;
mod world;

pub use observation::{Observation, TaskObservation};
pub use policy::{Policy, ScaleDown};
pub use scenario::{Scenario, Unusable};
pub use score::{Figures, Row};
pub use study::{Name, Options, Ran, Study, Unknown};
pub use workload::Workload;
pub use world::{Moment, Outcome, Trace, run};
