//! What is measured, one file each. Every measurement starts a server and a worker of its own.

pub mod churn;
pub mod idle;
pub mod instructions;
pub mod light;
pub mod memory;
pub mod shutdown;
pub mod throughput;

/// The task type of the measurements.
pub const TASK: &str = "bench";

/// How many tasks at once, and in a batch.
pub const SLOTS: usize = 64;

/// The input's size in bytes.
pub const INPUT: usize = 1_000;
