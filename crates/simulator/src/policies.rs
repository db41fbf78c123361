//! The autoscalers: the one that ships, and those of others as they are documented.

mod aws_bpi;
mod azure_tbs;
mod flink_like;
mod hpa;
mod hpa_in_flight;
mod keda;
mod kpa;
mod ours;

pub use aws_bpi::AwsBpi;
pub use azure_tbs::AzureTbs;
pub use flink_like::FlinkLike;
pub use hpa::Hpa;
pub use hpa_in_flight::HpaInFlight;
pub use keda::{Keda, Metric};
pub use kpa::{Concurrency, Kpa};
pub use ours::Ours;
