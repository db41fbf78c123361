//! Polls Conductor, forwards tasks to the handler beside it, reports the results.
//!
//! ```text
//!            ┌ slots ┐
//! Conductor ─┤ poll  ├─> (Task, Slot) ─> execute ─> Outcome ─> report ─> Conductor
//!            └ rule  ┘        └────── lease ──────────────────────┘    (slot dropped last)
//! handler: ready? ┘                     outcome: the status table
//! handler ──> local_api ──> Conductor    (may end a task by itself: held)
//! ```
//!
//! A slot is taken before a poll and travels with the task that the poll brings, so that a
//! task never waits in memory while its lease runs. A poll in the air is never cancelled:
//! the server would hand its task to nobody. [`rule`], [`outcome`], [`task_result`], [`result`], [`reason`],
//! [`payload`], [`backoff`], [`breaker`], [`record`], [`trace`] and [`sketch`] decide and do nothing else; [`pipeline`] alone
//! spawns, and `log_lines` what follows a report.
//!
//! # Settings
//!
//! Each has an environment variable; `worker-sidecar --help` says more.
//!
//! | flag | variable | default |
//! | --- | --- | --- |
//! | `--conductor-url` | `CONDUCTOR_SERVER_URL` | required |
//! | `--auth-dir` | `CONDUCTOR_AUTH_DIR` | no authentication |
//! | `--auth-key`, `--auth-secret` | `CONDUCTOR_AUTH_KEY`, `CONDUCTOR_AUTH_SECRET` | no authentication |
//! | `--ca-file` | `CONDUCTOR_CA_FILE` | the system's |
//! | `--client-cert-file` | `CONDUCTOR_CLIENT_CERT_FILE` | none |
//! | `--client-key-file` | `CONDUCTOR_CLIENT_KEY_FILE` | none |
//! | `--headers` | `CONDUCTOR_HEADERS` | none |
//! | `--tasks` | `CONDUCTOR_TASKS` | required |
//! | `--concurrency` | `CONDUCTOR_CONCURRENCY` | 1 |
//! | `--worker-id` | `CONDUCTOR_WORKER_ID` | the host's name |
//! | `--handler-port` | `HANDLER_PORT` | 8080 |
//! | `--handler-probe` | `HANDLER_PROBE` | tcp |
//! | `--payload` | `HANDLER_PAYLOAD` | task |
//! | `--terminal-status-codes` | `HANDLER_TERMINAL_STATUS_CODES` | 400-407,409-424,426-428,430-499 |
//! | `--payload-limit` | `PAYLOAD_LIMIT` | 10Mi |
//! | `--grace-period` | `GRACE_PERIOD` | 30s |
//! | `--spool-dir` | `SPOOL_DIR` | none |
//! | `--spool-size` | `SPOOL_SIZE` | 64Mi |
//! | `--failure-breaker` | `FAILURE_BREAKER` | 90%/20 |
//! | `--listen` | `LISTEN` | 0.0.0.0:2112 |
//! | `--cordon-public-key` | `CORDON_PUBLIC_KEY` | none: nobody may cordon it |
//! | `--cordon-public-key-file` | `CORDON_PUBLIC_KEY_FILE` | none |
//! | `--pod-uid` | `POD_UID` | none |
//! | `--local-api-port` | `LOCAL_API_PORT` | 2113; 0 is none |
//! | `--log-level` | `LOG_LEVEL` | info |
//! | `--log-format` | `LOG_FORMAT` | text |
//!
//! Proxies are taken from `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, for Conductor alone.
//!
//! # In another program
//!
//! [`pipeline::Sidecar`] keeps no global state: a process may run many, each with its own
//! [`config::Config`] and metrics registry.

pub mod args;
pub mod config;
pub mod pipeline;

pub mod poll;
pub mod rule;
pub mod slots;

pub mod brake;
pub mod breaker;
pub mod lane;

mod attend;

pub mod execute;
pub mod handler;
pub mod outcome;
pub mod payload;
pub mod reason;
pub mod task_result;
pub mod trace;

pub mod gate;
pub mod held;
pub mod lease;
mod letter;
pub mod local_api;
mod log_lines;
pub mod presence;
pub mod record;
pub mod report;
pub mod result;
pub mod spool;

pub mod backoff;
pub mod control;
pub mod cordon;
pub mod metrics;
pub mod shutdown;
pub mod sketch;
pub mod stats;
