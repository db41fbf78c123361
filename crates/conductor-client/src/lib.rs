//! Conductor's HTTP API, as far as workers, the operator and their tests need it.
//!
//! ```text
//! ApiBase ──> Client ──> poll, batch_poll ──> Task (raw JSON kept)
//!                   ──> update_task(TaskResult), extend_lease, log_task
//!                   ──> queue_sizes, poll_data, task_def          (operator)
//!                   ──> register_*, start_workflow, get_workflow  (tests, dev)
//! ```
//!
//! Methods are named after Conductor's endpoints. Every failure is an [`Error`] with a
//! [`Kind`] that says what to do about it. Nothing here retries, waits or logs: that is
//! the caller's decision.
//!
//! A program that uses this crate installs a rustls crypto provider first
//! (`runtime::install_tls_provider`), since reqwest is built without one.

mod base;
mod client;
mod error;
mod metadata;
mod task;
mod workflow;

pub use base::{ApiBase, InvalidBase};
pub use client::{BatchPoll, Client, LONG_POLL_MAX, MAX_BATCH};
pub use error::{Error, Kind};
pub use metadata::{PollData, QueueName, TaskDef, TimeoutPolicy, WorkflowDef, WorkflowTask};
pub use task::{Malformed, Task, TaskLog, TaskResult, TaskStatus, UpdateStatus};
pub use workflow::{StartWorkflow, Workflow, WorkflowStatus};
