//! The autoscaler on a real cluster: what it promises, and what others make of the same load.
//!
//! The cases share one cluster and take turns. On a failure the logs of everything are under
//! target/live/logs; `KEEP=1` leaves the cluster up.

use std::process::ExitCode;

use live::{results, stage::Stage};

mod cases;

fn main() -> ExitCode {
    cluster::run(Stage::up, cases::all(), &results::folder().join("logs"))
}
