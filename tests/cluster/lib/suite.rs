//! Cases on a cluster: they share it and take turns.

use std::{
    path::Path,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};

use crate::Bed;

/// A case by its name.
pub type Case<S> = (String, Box<dyn FnOnce(&S) -> Result<()> + Send>);

/// Runs the cases that the command line names on what `up` starts, one after another. On a
/// failure the logs of everything are copied to `logs`. `KEEP=1` leaves the cluster up.
pub fn run<S: Send + 'static>(
    up: impl FnOnce() -> Result<S>,
    cases: Vec<Case<S>>,
    logs: &Path,
) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(cases, None)).exit_code();
    }
    let stage = match up() {
        Ok(stage) => Arc::new(Mutex::new(stage)),
        Err(error) => {
            eprintln!("the test bed did not come up: {error:?}");
            down();
            return ExitCode::FAILURE;
        }
    };
    let conclusion = libtest_mimic::run(&arguments, trials(cases, Some(&stage)));
    if conclusion.has_failed() {
        match Bed::logs(&logs.to_string_lossy()) {
            Ok(()) => eprintln!("logs are in {}", logs.display()),
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

fn trials<S: Send + 'static>(cases: Vec<Case<S>>, stage: Option<&Arc<Mutex<S>>>) -> Vec<Trial> {
    let trial = |(name, case): Case<S>| {
        let stage = stage.cloned();
        Trial::test(name, move || {
            let stage = stage.as_ref().ok_or("no cluster")?;
            let stage = stage.lock().unwrap_or_else(PoisonError::into_inner);
            case(&stage).map_err(|error| Failed::from(format!("{error:?}")))
        })
    };
    cases.into_iter().map(trial).collect()
}
