//! Cases that need a load of their own.

use std::{path::Path, pin::Pin, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use conductor_client::{QueueName, TaskStatus, WorkflowStatus};
use futures::{StreamExt as _, TryStreamExt as _};
use harness::{Server, eventually, unique};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::{
    fault::{Fault, On},
    judge::Fate,
    ledger::Executions,
    load::request,
    programs::{Polled, Sidecar, free_port},
    proxy::Proxy,
    suite::{Case, Suite},
    trial::{Rig, Setup, Stage},
};

/// A case that runs.
pub(crate) type Running = Pin<Box<dyn Future<Output = Result<()>>>>;

/// All of them.
pub(crate) const ALL: [Case; 4] = [
    Case {
        name: "sdks_keep_results_in_memory_a_kill_while_conductor_is_away",
        run: |suite, stage| Box::pin(killed_while_away(suite, stage)),
    },
    Case {
        name: "python_sdk_267_memory_does_not_grow_with_tasks",
        run: |suite, stage| Box::pin(memory(suite, stage)),
    },
    Case {
        name: "sdks_give_results_up_conductor_away_with_longer_leases",
        run: |suite, stage| Box::pin(away(suite, stage)),
    },
    Case {
        name: "sdks_lose_all_sigterm_with_64_tasks_in_flight_and_64_in_an_open_poll",
        run: |suite, stage| Box::pin(sigterm(suite, stage)),
    },
];

const AT_WORK: usize = 64;
const TAKES: Duration = Duration::from_secs(2);
/// Where all must be under way at once after they were started one by one.
const TAKES_LONGER: Duration = Duration::from_secs(6);
const SOON: Duration = Duration::from_secs(60);

/// What may come on top once everything has been used: the allocator's own rounding.
const GROWTH_KIB: u64 = 1024;

/// The same number of tasks again and again: the first time fills pools and caches.
async fn memory(suite: Arc<Suite>, stage: Stage) -> Result<()> {
    let server = stage.into_double()?;
    let tasks = suite.profile.churn;
    let task = server.register(&unique("faults")).await?;
    let (port, handler_port) = (free_port()?, free_port()?);
    let name = "double::memory";
    let programs = &suite.programs;
    let _handler = programs.handler(name, handler_port, Path::new("/dev/null"))?;
    let spool = TempDir::with_prefix("faults-")?;
    let mut sidecar = programs.sidecar(
        name,
        &Sidecar {
            conductor: server.base(),
            tasks: &[Polled {
                name: &task,
                concurrency: None,
            }],
            slots: suite.profile.slots,
            handler: handler_port,
            port,
            spool: spool.path(),
        },
    )?;
    churn(&server, &task, tasks).await?;
    let before = sidecar.resident_kib()?;
    churn(&server, &task, tasks).await?;
    let after = sidecar.resident_kib()?;
    sidecar.still_runs()?;
    ensure!(
        after <= before + GROWTH_KIB,
        "{before} KiB after {tasks} tasks, {after} KiB after as many again"
    );
    server.stop().await
}

/// So many tasks that take no time.
async fn churn(server: &Server, task: &str, tasks: u64) -> Result<()> {
    let embedded = server.as_embedded().context("it is in memory")?;
    let wanted = embedded.counts().completed + tasks;
    let starts = futures::stream::iter(0..tasks).map(anyhow::Ok);
    starts
        .try_for_each_concurrent(16, async |_| {
            server.client().start_workflow(&request(task, 0)).await?;
            Ok(())
        })
        .await?;
    // Only a machine that does next to nothing takes longer: a minute and 1 ms a task.
    eventually(
        "all are done",
        SOON + Duration::from_millis(tasks),
        async || match embedded.counts().completed {
            done if done >= wanted => Ok(()),
            done => Err(format!("{done} of {wanted}")),
        },
    )
    .await
}

/// Each slot has a result that nobody takes, for as long as the server is away; leases are
/// longer. What was started meanwhile is done afterwards.
async fn away(suite: Arc<Suite>, stage: Stage) -> Result<()> {
    let time = suite.profile.away;
    let setup = Setup {
        name: "double::conductor_away",
        lease_seconds: time.as_secs() + 120,
        seed: suite.profile.seed,
        slots: &[AT_WORK],
    };
    let nothing = async |_: &Server, _: &Proxy, _: &[String]| Ok(());
    let mut rig = Rig::start(stage, &suite.programs, &setup, nothing).await?;
    let mut ids = Rig::start_workflows(rig.server(), &rig.tasks[0], AT_WORK, TAKES_LONGER).await?;
    rig.at_work(AT_WORK).await?;
    rig.proxy.close().await;
    sleep(time).await;
    ensure!(
        rig.ledger()?.running() == 0,
        "all calls have ended meanwhile"
    );
    ids.extend(Rig::start_workflows(rig.server(), &rig.tasks[0], AT_WORK, TAKES_LONGER).await?);
    rig.proxy.open().await?;
    let fates = rig.fates(&ids, SOON + TAKES_LONGER).await?;
    once_each(&fates)?;
    rig.stop().await
}

/// The results are on disk when the sidecar is killed: the next process sends them.
async fn killed_while_away(suite: Arc<Suite>, stage: Stage) -> Result<()> {
    let setup = Setup {
        name: "double::killed_while_away",
        lease_seconds: 600,
        seed: suite.profile.seed,
        slots: &[AT_WORK],
    };
    let nothing = async |_: &Server, _: &Proxy, _: &[String]| Ok(());
    let mut rig = Rig::start(stage, &suite.programs, &setup, nothing).await?;
    let ids = Rig::start_workflows(rig.server(), &rig.tasks[0], AT_WORK, TAKES_LONGER).await?;
    rig.at_work(AT_WORK).await?;
    rig.proxy.close().await;
    eventually("all results are on disk", SOON, async || {
        match rig.spooled() {
            Ok(AT_WORK) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    rig.sidecar.kill().await?;
    rig.proxy.open().await?;
    rig.sidecar.restart()?;
    let fates = rig.fates(&ids, SOON).await?;
    once_each(&fates)?;
    rig.stop().await
}

/// As at a pod's end. The poll is in the air: the server has given its tasks out, and the
/// answer arrives after the signal.
async fn sigterm(suite: Arc<Suite>, stage: Stage) -> Result<()> {
    let setup = Setup {
        name: "double::sigterm",
        lease_seconds: 600,
        seed: suite.profile.seed,
        slots: &[AT_WORK, AT_WORK],
    };
    let mut ids = Vec::new();
    let prepare = async |server: &Server, proxy: &Proxy, tasks: &[String]| {
        proxy.set(Fault::Hold, On::PollsOf(tasks[1].clone()), 1.0);
        for task in tasks {
            ids.extend(Rig::start_workflows(server, task, AT_WORK, TAKES).await?);
        }
        Ok(())
    };
    let mut rig = Rig::start(stage, &suite.programs, &setup, prepare).await?;
    rig.at_work(AT_WORK).await?;
    let held = QueueName::new(&*rig.tasks[1], None);
    let client = rig.server().client();
    eventually("the open poll has its tasks", SOON, async || {
        match client.queue_size(&held).await {
            Ok(0) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    ensure!(
        rig.ledger()?.running() == AT_WORK,
        "the tasks of the open poll came too soon, or the others have ended"
    );
    rig.sidecar.signal(Signal::TERM)?;
    let own = format!("127.0.0.1:{}", rig.port);
    eventually("the sidecar knows", SOON, async || {
        match status_of(&own, "/readyz").await {
            Ok(503) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    rig.proxy.clear();
    let ended = tokio::time::timeout(SOON, rig.sidecar.ended()).await;
    let status = ended.context("the sidecar did not end")??;
    ensure!(status.success(), "the sidecar ended: {status}");
    // It has ended: whatever is not done by now never will be.
    let fates = rig.fates(&ids, Duration::from_secs(1)).await?;
    once_each(&fates)?;
    rig.handler.kill().await
}

/// The status of an answer to a GET, without an HTTP client.
async fn status_of(address: &str, path: &str) -> Result<u16> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.0\r\nhost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let status = answer.split(' ').nth(1).context("no status line")?;
    Ok(status.parse()?)
}

/// Every workflow is COMPLETED by one attempt that was executed once.
fn once_each(fates: &[Fate]) -> Result<()> {
    let once = Executions {
        started: 1,
        ended: 1,
        after_end: 0,
    };
    for fate in fates {
        ensure!(
            fate.status == WorkflowStatus::Completed
                && fate.executions == once
                && fate.attempts.len() == 1
                && fate.attempts[0].status == TaskStatus::Completed,
            "{fate:?}"
        );
    }
    Ok(())
}
