//! The main job on real parts: `helm install`, `kubectl apply`, workflows on a real Conductor.
//!
//! The cases share one cluster and follow one another; a case whose ground an earlier one did
//! not lay fails too. `KEEP=1` leaves the cluster up; on a failure the logs of everything are
//! under target/e2e-logs.

use std::{process::ExitCode, sync::Arc};

use cluster::{Bed, root};
use libtest_mimic::{Arguments, Failed, Trial};

mod cases;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(None)).exit_code();
    }
    let bed = match Bed::up() {
        Ok(bed) => Arc::new(bed),
        Err(error) => {
            eprintln!("the test bed did not come up: {error:?}");
            down();
            return ExitCode::FAILURE;
        }
    };
    let conclusion = libtest_mimic::run(&arguments, trials(Some(&bed)));
    if conclusion.has_failed() {
        let folder = root().join("target/e2e-logs");
        match Bed::logs(&folder.to_string_lossy()) {
            Ok(()) => eprintln!("logs are in {}", folder.display()),
            Err(error) => eprintln!("logs could not be copied: {error:#}"),
        }
    }
    if std::env::var_os("KEEP").is_none() {
        down();
    }
    conclusion.exit_code()
}

fn down() {
    if let Err(error) = Bed::down() {
        eprintln!("the test bed did not go down: {error:#}");
    }
}

fn trials(bed: Option<&Arc<Bed>>) -> Vec<Trial> {
    cases::ALL
        .iter()
        .map(|(name, case)| {
            let bed = bed.cloned();
            Trial::test(*name, move || {
                let bed = bed.as_ref().ok_or("no cluster")?;
                case(bed).map_err(|error| Failed::from(format!("{error:?}")))
            })
        })
        .collect()
}
