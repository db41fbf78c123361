//! Workers on a real cluster while everything breaks.
//!
//! The cases share one cluster and take turns. On a failure the logs of everything are under
//! target/chaos/logs; `KEEP=1` leaves the cluster up.

use std::process::ExitCode;

use chaos::{output, world::KEYS};
use cluster::CHART;
use live::stage::Stage;

mod cases;

fn main() -> ExitCode {
    let cases = match cases::all() {
        Ok(cases) => cases,
        Err(error) => {
            eprintln!("chaos: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let up = || {
        let stage = Stage::up()?;
        // The operator may read the workers' keys.
        let names = format!("rbac.secretNames={{{KEYS}}}");
        stage.bed.install(CHART, &[&names])?;
        Ok(stage)
    };
    cluster::run(up, cases, &output::folder().join("logs"))
}
