//! The main job on real parts: `helm install`, `kubectl apply`, workflows on a real Conductor.
//!
//! The cases share one cluster and follow one another; a case whose ground an earlier one did
//! not lay fails too. `KEEP=1` leaves the cluster up; on a failure the logs of everything are
//! under target/e2e-logs.

use std::process::ExitCode;

use cluster::{Bed, Case, root, run};

mod cases;

fn main() -> ExitCode {
    let boxed = |(name, case): &(&str, fn(&Bed) -> anyhow::Result<()>)| -> Case<Bed> {
        ((*name).to_owned(), Box::new(*case))
    };
    let all = cases::ALL.iter().map(boxed).collect();
    run(Bed::up, all, &root().join("target/e2e-logs"))
}
