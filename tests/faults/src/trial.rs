//! One fault from beginning to end.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, anyhow, ensure};
use conductor_client::TaskDef;
use futures::{StreamExt as _, TryStreamExt as _};
use harness::{Server, Stop, eventually, unique};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::{
    judge::{Fate, Seen, judge},
    ledger::{Ledger, now_ms},
    load::{Load, request},
    profile::Profile,
    programs::{Polled, Program, Programs, Sidecar, free_port},
    proxy::Proxy,
    report::Row,
    scenario::{KILLS, Scenario, Trouble},
};

/// Everything recovers within this time, however slow the machine is.
const RECOVERS: Duration = Duration::from_secs(60);

/// Attempts that a lost lease or a killed handler may use up.
const RETRIES: u32 = 20;

/// Workflows read at once.
const READERS: usize = 16;

/// The sidecar's folder for results, in the rig's.
const SPOOL: &str = "spool";

/// The server a trial runs against.
#[derive(Debug)]
pub(crate) enum Stage {
    /// One of its own, in memory.
    Double(Box<Server>),
    /// The real one, which trials share.
    Real(Arc<Server>),
}

impl Stage {
    fn server(&self) -> &Server {
        match self {
            Self::Double(server) => server,
            Self::Real(server) => server,
        }
    }

    /// The server in memory, for a case that puts everything around it itself.
    pub(crate) fn into_double(self) -> Result<Server> {
        match self {
            Self::Double(server) => Ok(*server),
            Self::Real(_) => anyhow::bail!("this needs the server in memory"),
        }
    }

    fn is_real(&self) -> bool {
        matches!(self, Self::Real(_))
    }
}

/// A sidecar with everything around it.
pub(crate) struct Rig {
    pub(crate) stage: Stage,
    pub(crate) proxy: Proxy,
    pub(crate) sidecar: Program,
    pub(crate) handler: Program,
    /// The task types, which are the workflows' names too.
    pub(crate) tasks: Vec<String>,
    /// The port of the sidecar's own endpoints.
    pub(crate) port: u16,
    ledger: PathBuf,
    dir: TempDir,
}

/// How a rig is set up.
pub(crate) struct Setup<'a> {
    pub(crate) name: &'a str,
    pub(crate) lease_seconds: u64,
    pub(crate) seed: u64,
    /// The slots of each task type.
    pub(crate) slots: &'a [usize],
}

impl Rig {
    /// Registers the task types and starts the proxy; `before` may set a fault or start
    /// workflows before the sidecar begins.
    pub(crate) async fn start(
        stage: Stage,
        programs: &Programs,
        setup: &Setup<'_>,
        before: impl AsyncFnOnce(&Server, &Proxy, &[String]) -> Result<()>,
    ) -> Result<Self> {
        let server = stage.server();
        let mut tasks = Vec::new();
        for _ in setup.slots {
            let def = TaskDef {
                retry_count: Some(RETRIES),
                retry_delay_seconds: Some(0),
                response_timeout_seconds: Some(setup.lease_seconds),
                ..TaskDef::named(unique("faults"))
            };
            tasks.push(server.register_def(def).await?);
        }
        let proxy = Proxy::start(server.base(), setup.seed).await?;
        before(server, &proxy, &tasks).await?;
        let dir = TempDir::with_prefix("faults-")?;
        let ledger = dir.path().join("ledger");
        let (port, handler_port) = (free_port()?, free_port()?);
        let handler = programs.handler(setup.name, handler_port, &ledger)?;
        let alone = setup.slots.len() == 1;
        let polled: Vec<Polled<'_>> = tasks
            .iter()
            .zip(setup.slots)
            .map(|(name, slots)| Polled {
                name,
                concurrency: (!alone).then_some(*slots),
            })
            .collect();
        let sidecar = programs.sidecar(
            setup.name,
            &Sidecar {
                conductor: &proxy.base(),
                tasks: &polled,
                slots: setup.slots.iter().sum(),
                handler: handler_port,
                port,
                spool: &dir.path().join(SPOOL),
            },
        )?;
        Ok(Self {
            stage,
            proxy,
            sidecar,
            handler,
            tasks,
            port,
            ledger,
            dir,
        })
    }

    pub(crate) fn server(&self) -> &Server {
        self.stage.server()
    }

    pub(crate) fn ledger(&self) -> Result<Ledger> {
        Ledger::read(&self.ledger)
    }

    /// How many results are on the sidecar's disk.
    pub(crate) fn spooled(&self) -> Result<usize> {
        let mut results = 0;
        for entry in std::fs::read_dir(self.dir.path().join(SPOOL))? {
            results += usize::from(entry?.path().extension().is_some_and(|e| e == "result"));
        }
        Ok(results)
    }

    /// Starts so many workflows of a task type, each task taking so long; their ids.
    pub(crate) async fn start_workflows(
        server: &Server,
        workflow: &str,
        count: usize,
        takes: Duration,
    ) -> Result<Vec<String>> {
        let millis = u64::try_from(takes.as_millis())?;
        let mut ids = Vec::with_capacity(count);
        for _ in 0..count {
            let start = request(workflow, millis);
            ids.push(server.client().start_workflow(&start).await?);
        }
        Ok(ids)
    }

    /// Waits until so many calls of the handler are under way.
    pub(crate) async fn at_work(&mut self, calls: usize) -> Result<()> {
        eventually("calls under way", RECOVERS, async || {
            self.still_runs()?;
            match self.ledger()?.running() {
                running if running == calls => Ok(()),
                running => Err(anyhow!("{running}")),
            }
        })
        .await
    }

    /// An error if one of the programs ended by itself: where its log is.
    fn still_runs(&mut self) -> Result<()> {
        self.sidecar.still_runs()?;
        self.handler.still_runs()
    }

    /// What became of the workflows, once all have ended.
    pub(crate) async fn fates(&self, ids: &[String], within: Duration) -> Result<Vec<Fate>> {
        let end = Instant::now() + within;
        let client = self.server().client();
        let ended = async |id: &String| {
            let left = end.saturating_duration_since(Instant::now());
            eventually(&format!("workflow {id} has ended"), left, async || {
                let workflow = client.get_workflow(id, true).await;
                match workflow {
                    Ok(workflow) if workflow.status.is_terminal() => Ok(workflow),
                    Ok(workflow) => Err(format!("{:?}", workflow.status)),
                    Err(error) => Err(error.to_string()),
                }
            })
            .await
        };
        let workflows: Vec<_> = futures::stream::iter(ids)
            .map(ended)
            .buffer_unordered(READERS)
            .try_collect()
            .await?;
        let ledger = self.ledger()?;
        Ok(workflows
            .iter()
            .map(|w| Fate::of(w, ledger.of(&w.workflow_id)))
            .collect())
    }

    /// Ends the sidecar as a pod's end does, and waits for it. The server, if it is shared,
    /// goes on.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.proxy.clear();
        self.proxy.open().await?;
        self.sidecar.still_runs()?;
        self.sidecar.signal(Signal::TERM)?;
        let ended = tokio::time::timeout(RECOVERS, self.sidecar.ended()).await;
        let status = ended.context("the sidecar did not end")??;
        ensure!(status.success(), "the sidecar ended: {status}");
        self.handler.kill().await?;
        match self.stage {
            Stage::Double(server) => server.stop().await,
            Stage::Real(_) => Ok(()),
        }
    }

    /// The fault, from its beginning to its end. It takes at least `time`.
    async fn meet(&mut self, trouble: &Trouble, time: Duration) -> Result<()> {
        match trouble {
            Trouble::Wire(fault, on, share) => {
                self.proxy.set(fault.clone(), on.clone(), *share);
                sleep(time).await;
                self.proxy.clear();
            }
            Trouble::Refused => {
                self.proxy.close().await;
                sleep(time).await;
                self.proxy.open().await?;
            }
            Trouble::ServerKilled => match &mut self.stage {
                Stage::Double(server) => {
                    let embedded = server.as_embedded_mut().context("it is in memory")?;
                    embedded.go_away().await;
                    sleep(time).await;
                    embedded.come_back().await?;
                }
                Stage::Real(server) => restart(server, Stop::Killed).await?,
            },
            Trouble::ServerRestarted => match &self.stage {
                Stage::Double(_) => anyhow::bail!("only a real server can be restarted"),
                Stage::Real(server) => restart(server, Stop::Asked).await?,
            },
            Trouble::SidecarKilled => killed(&mut self.sidecar, time).await?,
            Trouble::SidecarFrozen => frozen(&self.sidecar, time).await?,
            Trouble::HandlerKilled => killed(&mut self.handler, time).await?,
            Trouble::HandlerHangs => frozen(&self.handler, time).await?,
        }
        Ok(())
    }
}

async fn restart(server: &Arc<Server>, stop: Stop) -> Result<()> {
    let server = server.clone();
    tokio::task::spawn_blocking(move || {
        let real = server.as_real().context("it is not a real server")?;
        real.restart(stop)
    })
    .await?
}

/// Several times: each meets other tasks in other states.
async fn killed(program: &mut Program, time: Duration) -> Result<()> {
    for _ in 0..KILLS {
        program.kill().await?;
        program.restart()?;
        sleep(time / KILLS).await;
    }
    Ok(())
}

async fn frozen(program: &Program, time: Duration) -> Result<()> {
    program.signal(Signal::STOP)?;
    sleep(time).await;
    program.signal(Signal::CONT)
}

/// Runs a fault under a steady load.
pub(crate) async fn run(
    stage: Stage,
    programs: &Programs,
    profile: &Profile,
    name: &str,
    scenario: &Scenario,
) -> Result<Row> {
    // A real server's restart takes up to a minute.
    let lease_seconds = if stage.is_real() && scenario.takes_the_server() {
        240
    } else {
        profile.lease_seconds
    };
    let (rate, seed) = (profile.rate(stage.is_real()), profile.seed);
    // Two slots work off 200 tasks a second at the most, and less than is started.
    let (slots, rate) = if scenario.saturated {
        (2, rate.max(100.0) * 3.0)
    } else {
        (profile.slots, rate)
    };
    let setup = Setup {
        name,
        lease_seconds,
        seed,
        slots: &[slots],
    };
    let nothing = async |_: &Server, _: &Proxy, _: &[String]| Ok(());
    let mut rig = Rig::start(stage, programs, &setup, nothing).await?;
    let load = Load::start(
        rig.server().client(),
        &rig.tasks[0],
        profile.tasks,
        rate,
        seed,
    );

    // A quarter of the load shows how things are without the fault.
    eventually("the load flows", RECOVERS, async || {
        rig.still_runs()?;
        match rig.ledger()?.ends().len() {
            n if n >= profile.tasks / 4 => Ok(()),
            n => Err(anyhow!("{n}")),
        }
    })
    .await?;
    let (began, began_ms) = (Instant::now(), now_ms());
    rig.meet(&scenario.trouble, profile.fault).await?;
    let (ended, ended_ms) = (Instant::now(), now_ms());

    let ids = load.ids().await?;
    let lease = Duration::from_secs(lease_seconds);
    let fates = rig.fates(&ids, RECOVERS + lease).await?;
    let before = rig
        .proxy
        .most_in_a_second(began - Duration::from_secs(1), began);
    let during = rig.proxy.most_in_a_second(began, ended);
    let facts = Seen {
        fates,
        executed: rig.ledger()?.ends().to_vec(),
        fault: (began_ms, ended_ms),
        lease_seconds,
        slots,
        requests: (before, during),
    };
    let (figures, mut broken) = judge(&facts, scenario.may(slots));
    if let Err(error) = rig.stop().await {
        broken.push(format!("{error:#}"));
    }
    Ok(Row {
        name: name.to_owned(),
        fault_ms: ended_ms - began_ms,
        slots,
        figures,
        broken,
    })
}
