//! Workers under load on a real cluster with a real Conductor while everything breaks: which tasks
//! are lost, which are repeated, and why.
//!
//! ```text
//! seed ─> schedule ─┬─> run ── load ──> Conductor <── gate <── proxy <── pods ──> ledger
//!                   └─> act ── breaks ──┴─ any of these, and the cluster's own parts
//! checker (pure) <── workflows as Conductor has them, the ledger, what went wrong and when
//!   └──> report: target/chaos/{report.md,*.svg}
//! ```
//!
//! `cargo test -p chaos` runs the short form, as `make test` does; `make chaos` runs all of it. It needs a
//! cluster of our own, so root on Debian without a container engine.
//!
//! | variable | |
//! | --- | --- |
//! | `CHAOS=long` | all cases, and the long form of each |
//! | `CHAOS_SEED` | the choices of an earlier run; each run prints its own |
//! | `KEEP=1` | leaves the cluster up |

pub mod absence;
pub mod act;
pub mod bars;
pub mod checker;
pub mod course;
pub mod gate;
pub mod kind;
pub mod load;
pub mod output;
pub mod process;
pub mod retry;
pub mod run;
pub mod schedule;
pub mod setting;
pub mod stuck;
pub mod turns;
pub mod victim;
pub mod world;
