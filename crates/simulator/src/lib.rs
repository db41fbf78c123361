//! A queue and its pods, simulated around the autoscaler that ships and others.
//!
//! ```text
//! Scenario (file) ─> Workload (tasks, drawn once) ─┬─> run(policy) ─> Outcome ─> Figures
//!                                                  └─> oracle: plans ─┘
//! ```
//!
//! `scenarios/FORMAT.md` fixes what the files, the model and the scores mean. The policy `ours`
//! is [`scaling::decide`] itself. Time is a number of seconds, random streams are separate, and
//! a run depends on nothing but its scenario, seed and policy.
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts of tasks and pods are far below 2^32"
)]

mod arrivals;
mod catalogue;
mod distribution;
mod faults;
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

pub use catalogue::{Name, Unknown};
pub use faults::Faults;
pub use observation::{Observation, TaskObservation};
pub use policy::{Policy, ScaleDown};
pub use scenario::{Scenario, Unusable};
pub use score::{Figures, Row, nearest_rank};
pub use study::{Options, Ran, Study};
pub use workload::Workload;
pub use world::{Moment, Outcome, Trace, run};
