//! The autoscalers: the one that ships, and those of others as they are documented.

mod hpa;
mod keda;
mod ours;

pub use hpa::Hpa;
pub use keda::{Keda, Metric};
pub use ours::Ours;
