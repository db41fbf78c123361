//! Conductor's HTTP API, as far as workers, the operator and their tests need it.
//!
//! ```text
//! ApiBase ──> Connection ──> Client ──> poll, batch_poll ──> Task (raw JSON kept)
//!             (keys, CA, …)         ──> update_task(TaskResult), extend_lease, log_task
//!                                   ──> queue_sizes, poll_data, task_def          (operator)
//!                                   ──> register_*, start_workflow, get_workflow  (tests, dev)
//!                                   ──> forward, unread           (a sidecar's local API)
//! Client ──> link (sends) ──reads──> HTTP client and token of the moment
//!              └─ needs another ──> keeper (one task) ──buys──> token; reads files again
//! ```
//!
//! Methods are named after Conductor's endpoints. Every failure is an [`Error`] with a
//! [`Kind`] that says what to do about it. No call is retried, delayed or logged here: that is
//! the caller's decision. The one exception is the token of a [`Connection`] with
//! credentials: a call waits for the first, and one whose token the server refuses is sent
//! once more with a new one. Tokens are bought in the background, ahead of their end, by one
//! request at a time; what fails there is logged, tried again after a pause, and is the
//! failure of the calls that need it.
//!
//! Keys, tokens and certificates are in no `Debug`, no error and no log line.
//!
//! A program that uses this crate installs a rustls crypto provider first
//! (`runtime::install_tls_provider`), since reqwest is built without one.

mod base;
mod client;
mod connection;
mod error;
mod forward;
mod keeper;
mod link;
mod material;
mod metadata;
mod skip;
mod task;
mod token;
mod workflow;

pub use base::{ApiBase, InvalidBase};
pub use client::{BatchPoll, Client, LONG_POLL_MAX, MAX_BATCH, queue_chunks};
pub use connection::{Connection, Credentials, InvalidConnection, Pem};
pub use error::{Error, Kind};
pub use forward::{Forward, Forwarded};
pub use metadata::{PollData, QueueName, TaskDef, TimeoutPolicy, WorkflowDef, WorkflowTask};
pub use task::{Malformed, Task, TaskLog, TaskResult, TaskStatus, UpdateStatus};
pub use workflow::{StartWorkflow, Workflow, WorkflowStatus};
