//! A Conductor server in memory: the API that workers, operators and their tests need.
//!
//! It runs workflows of SIMPLE tasks in sequence and answers as Conductor 3.32 does, client
//! mistakes included; tests/conformance runs one suite against both. What it does not
//! support it refuses, saying so. It keeps nothing when it ends.
//!
//! ```text
//! server (sockets, faults) ──> http (routes, JSON, long polls) ──> state (pure: no clock)
//! ```
//!
//! With [`Options::auth`] it gives out tokens at `/token` and wants one in `X-Authorization`,
//! as Orkes servers do; open-source Conductor has no such thing.
//!
//! Where it differs from a Conductor on purpose:
//! - time-outs are found at once, as a Conductor on Redis does; on SQL it can take minutes;
//! - payloads that are stored outside stay in memory too, and nobody can fetch them;
//! - logs are kept, as with indexing on;
//! - expressions are names and indexes, not all of `JSONPath`;
//! - of the workflows that have ended the last [`Options::keep_ended`] are kept.

mod faults;
mod http;
mod server;
mod shared;
mod state;
mod tokens;

pub use faults::{Fault, Faults, On};
pub use server::{Embedded, Options};
pub use shared::Moved;
pub use state::{BatchFill, Counts, Move};
pub use tokens::{Auth, TokenCounts, Tokens};
