//! Workers on a real cluster while everything breaks.
//!
//! The cases share one cluster and take turns. On a failure the logs of everything are under
//! target/chaos/logs; `KEEP=1` leaves the cluster up.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use chaos::{output, world::KEYS};
use cluster::{CHART, root};
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
        // A run that was interrupted may have left it on, and nothing comes up under it.
        cut_off()?;
        let stage = Stage::up()?;
        // The operator may read the workers' keys.
        let names = format!("rbac.secretNames={{{KEYS}}}");
        stage.bed.install(CHART, &[&names])?;
        Ok(stage)
    };
    cluster::run(up, cases, &output::folder().join("logs"))
}

/// The pods' network is whole again, where it was cut.
fn cut_off() -> Result<()> {
    let whole = Command::new(root().join("tests/cluster/cut"))
        .arg("off")
        .status()
        .context("tests/cluster/cut could not be started")?;
    ensure!(whole.success(), "tests/cluster/cut off: {whole}");
    Ok(())
}
