//! The trials: the matrix, and the cases that need a load of their own.

use std::{
    io::Write as _,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result, ensure};
use harness::{Backend, Server};
use libtest_mimic::{Arguments, Conclusion, Failed, Trial};
use tokio::{
    runtime::Handle,
    sync::{OnceCell, RwLock},
};

use crate::{
    cases,
    profile::Profile,
    programs::Programs,
    report::{Row, markdown},
    scenario::{self, Scenario},
    trial::{self, Stage},
};

/// Trials at once in the short form: they mostly wait. The long one measures, so there it
/// is one.
const AT_ONCE: usize = 10;

/// What the trials share.
pub(crate) struct Suite {
    pub(crate) programs: Programs,
    pub(crate) profile: Profile,
    rows: Mutex<Vec<Row>>,
    real: OnceCell<Result<Arc<Server>, String>>,
    /// A trial that takes the real server away has it alone.
    alone: RwLock<()>,
}

/// A trial beside the matrix.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) run: fn(Arc<Suite>, Stage) -> cases::Running,
}

impl Suite {
    pub(crate) async fn double() -> Result<Stage> {
        Ok(Stage::Double(Box::new(Server::embedded().await?)))
    }

    async fn real(&self) -> Result<Stage> {
        let started = self.real.get_or_init(async || {
            let server = Server::real(Backend::Redis).await;
            server.map(Arc::new).map_err(|error| format!("{error:#}"))
        });
        let server = started.await.clone().map_err(anyhow::Error::msg)?;
        Ok(Stage::Real(server))
    }

    async fn run(&self, name: &str, scenario: &Scenario, real: bool) -> Result<()> {
        let (alone, shared);
        let stage = if real {
            if scenario.takes_the_server() {
                alone = self.alone.write().await;
                let _ = &alone;
            } else {
                shared = self.alone.read().await;
                let _ = &shared;
            }
            self.real().await?
        } else {
            Self::double().await?
        };
        let row = trial::run(stage, &self.programs, &self.profile, name, scenario).await?;
        let broken = row.broken.join("; ");
        self.rows
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(row);
        ensure!(broken.is_empty(), "{broken}");
        Ok(())
    }
}

/// Runs the trials that the arguments choose, and writes the report.
pub fn run(programs: Programs) -> Conclusion {
    match try_run(programs) {
        Ok(conclusion) => conclusion,
        Err(error) => {
            eprintln!("faults: {error:#}");
            std::process::exit(101);
        }
    }
}

fn try_run(programs: Programs) -> Result<Conclusion> {
    let profile = Profile::read()?;
    let mut arguments = Arguments::from_args();
    let at_once = if profile.long { 1 } else { AT_ONCE };
    arguments.test_threads.get_or_insert(at_once);
    let runtime = tokio::runtime::Runtime::new().context("no runtime")?;
    runtime::install_tls_provider();
    let suite = Arc::new(Suite {
        programs,
        profile,
        rows: Mutex::default(),
        real: OnceCell::new(),
        alone: RwLock::new(()),
    });
    let trials = trials(&suite, runtime.handle());
    let seed = profile.seed;
    if !arguments.list {
        say(&format!("FAULTS_SEED={seed} makes the same choices"));
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    let rows = std::mem::take(&mut *suite.rows.lock().unwrap_or_else(PoisonError::into_inner));
    if !rows.is_empty() {
        let report = markdown(rows, seed, profile.lease_seconds);
        std::fs::create_dir_all(&suite.programs.output)?;
        std::fs::write(suite.programs.output.join("report.md"), &report)?;
        say(&report);
    }
    // Servers end when they are dropped; within the runtime that they were started in.
    drop(suite);
    drop(runtime);
    Ok(conclusion)
}

fn say(text: &str) {
    // Nobody is left to tell that standard output is closed.
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn trials(suite: &Arc<Suite>, runtime: &Handle) -> Vec<Trial> {
    let mut trials = Vec::new();
    // The longest first, so that nothing waits for them at the end.
    for case in cases::ALL {
        let name = format!("double::{}", case.name);
        let (suite, runtime) = (suite.clone(), runtime.clone());
        trials.push(Trial::test(name, move || {
            let result = runtime.block_on(async {
                let stage = Suite::double().await?;
                (case.run)(suite.clone(), stage).await
            });
            result.map_err(failed)
        }));
    }
    for real in [true, false] {
        for scenario in scenario::all() {
            let runs = if real {
                suite.profile.long || scenario.short_on_real
            } else {
                !scenario.needs_real()
            };
            if runs {
                trials.push(trial(suite, runtime, scenario, real));
            }
        }
    }
    trials
}

fn trial(suite: &Arc<Suite>, runtime: &Handle, scenario: Scenario, real: bool) -> Trial {
    let (suite, runtime) = (suite.clone(), runtime.clone());
    let server = if real { "redis" } else { "double" };
    let name = format!("{server}::{}", scenario.name);
    Trial::test(name.clone(), move || {
        let result = runtime.block_on(suite.run(&name, &scenario, real));
        result.map_err(failed)
    })
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: anyhow::Error) -> Failed {
    Failed::from(format!("{error:#}"))
}
