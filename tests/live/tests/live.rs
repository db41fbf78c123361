//! The autoscaler on a real cluster: what it promises, and what others make of the same load.
//!
//! The cases share one cluster and take turns. On a failure the logs of everything are under
//! target/live/logs; `KEEP=1` leaves the cluster up.

use std::{
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
};

use cluster::Bed;
use libtest_mimic::{Arguments, Failed, Trial};
use live::{results, stage::Stage};

mod cases;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(None)).exit_code();
    }
    let stage = match Stage::up() {
        Ok(stage) => Arc::new(Mutex::new(stage)),
        Err(error) => {
            eprintln!("the test bed did not come up: {error:?}");
            down();
            return ExitCode::FAILURE;
        }
    };
    let conclusion = libtest_mimic::run(&arguments, trials(Some(&stage)));
    if conclusion.has_failed() {
        let logs = results::folder().join("logs");
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

fn trials(stage: Option<&Arc<Mutex<Stage>>>) -> Vec<Trial> {
    let cases = cases::all().into_iter();
    let trial = |(name, case): cases::Case| {
        let stage = stage.cloned();
        Trial::test(name, move || {
            let stage = stage.as_ref().ok_or("no cluster")?;
            let stage = stage.lock().unwrap_or_else(PoisonError::into_inner);
            case(&stage).map_err(|error| Failed::from(format!("{error:?}")))
        })
    };
    cases.map(trial).collect()
}
