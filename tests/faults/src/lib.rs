//! What becomes of tasks when the network, a server or a program fails.
//!
//! ```text
//! load ──────────────────────────────> Conductor <──┐
//!                                                   │ proxy <── sidecar ──> handler ──> ledger
//! scenario ── trouble ──> one of these parts        │ (fault)   (process)   (process)   (file)
//! judge (pure) <── workflows as the server has them, the ledger, the proxy's traffic
//!   └──> report: target/faults/report.md
//! ```
//!
//! `cargo test -p faults` runs the short form, `make faults` the long one. Each fault is a
//! test: `double::lost_poll_answers` on the in-memory Conductor, `redis::…` on the real one.
//!
//! | variable | |
//! | --- | --- |
//! | `FAULTS=long` | 10,000 tasks a fault, and every fault on the real server too |
//! | `FAULTS_TASKS` | tasks a fault, in place of 300 or 10,000 |
//! | `FAULTS_SEED` | the choices of an earlier run; each run prints its own |

pub mod fault;
pub mod ledger;
pub mod programs;
pub mod proxy;

mod cases;
mod judge;
mod load;
mod profile;
mod report;
mod scenario;
mod suite;
mod trial;
mod wire;

pub use suite::run;
