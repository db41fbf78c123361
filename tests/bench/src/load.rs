//! A contender at work: its processes on their core.

use std::{process::Stdio, time::Duration};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::{
    net::TcpStream,
    process::{Child, Command},
    time::Instant,
};

use crate::{
    contender::{Contender, Kind},
    usage::{Used, tree, used},
};

/// The cores: one for the driver and the server, one for the worker and its handler.
#[derive(Debug, Clone, Copy)]
pub struct Cores {
    /// The driver's and the server's.
    pub ours: usize,
    /// The worker's.
    pub worker: usize,
}

/// What all contenders are told alike.
#[derive(Debug, Clone, Copy)]
pub struct Work<'a> {
    /// The task types.
    pub types: &'a [&'a str],
    /// How many tasks at once, and in a batch.
    pub concurrency: usize,
    /// How long a task takes.
    pub takes: Duration,
}

/// A worker that runs, and its handler.
#[derive(Debug)]
pub struct Running {
    worker: Program,
    handler: Option<Program>,
    control: u16,
    /// Another program runs the worker.
    under: bool,
}

/// What a worker has used: alone and with its handler.
#[derive(Debug, Clone, Copy)]
pub struct Share {
    /// The worker.
    pub worker: Used,
    /// The worker and its handler.
    pub with_handler: Used,
}

/// How long a handler or a worker may take to start or end.
const PATIENCE: Duration = Duration::from_secs(60);

impl Running {
    /// Starts the handler, if there is one, and then the worker, which polls this Conductor.
    pub async fn start(
        contender: &Contender,
        conductor: &str,
        cores: Cores,
        work: Work<'_>,
    ) -> Result<Self> {
        Self::start_under(&[], contender, conductor, cores, work).await
    }

    /// The same with the worker (not its handler) run by another program, `under`.
    pub async fn start_under(
        under: &[String],
        contender: &Contender,
        conductor: &str,
        cores: Cores,
        work: Work<'_>,
    ) -> Result<Self> {
        let port = free_port()?;
        let control = free_port()?;
        let handler = match contender.handler() {
            None => None,
            Some(kind) => {
                let mut command = pinned(&[], &kind.program()?, cores);
                command.env("PORT", port.to_string());
                tell(&mut command, work);
                let mut handler = Program(command.spawn()?);
                listens(port, &mut handler.0).await?;
                Some(handler)
            }
        };
        let mut command = pinned(under, &contender.program()?, cores);
        tell(&mut command, work);
        command
            .env("CONDUCTOR_SERVER_URL", conductor)
            .env("BENCH_TASK", work.types[0])
            .env("HANDLER_PORT", port.to_string());
        if matches!(contender.kind, Kind::Defaults { .. }) {
            command.env("BENCH_DEFAULTS", "1");
        }
        if matches!(contender.kind, Kind::Sidecar(_)) {
            let tasks: Vec<_> = work
                .types
                .iter()
                .map(|name| serde_json::json!({ "name": name }))
                .collect();
            command
                .env("CONDUCTOR_TASKS", serde_json::to_string(&tasks)?)
                .env("CONDUCTOR_CONCURRENCY", work.concurrency.to_string())
                .env("LISTEN", format!("127.0.0.1:{control}"))
                .env("LOG_LEVEL", "warn");
        }
        Ok(Self {
            worker: Program(command.spawn()?),
            handler,
            control,
            under: !under.is_empty(),
        })
    }

    /// What it has used until now.
    pub fn used(&self) -> Result<Share> {
        let worker = used(self.worker.id()?)?;
        let mut with_handler = worker;
        if let Some(handler) = &self.handler {
            let handler = used(handler.id()?)?;
            with_handler.cpu += handler.cpu;
            with_handler.resident += handler.resident;
        }
        Ok(Share {
            worker,
            with_handler,
        })
    }

    /// Ends it as a pod's end does: SIGTERM to a worker; the sidecar hears `terminating`
    /// first, its handler gets TERM once nothing is in work, and it itself last.
    pub async fn end_as_pod(&mut self, contender: &Contender) -> Result<()> {
        if matches!(contender.kind, Kind::Sidecar(_)) {
            let told = Command::new(contender.program()?)
                .arg("terminating")
                .env("LISTEN", format!("127.0.0.1:{}", self.control))
                .status()
                .await?;
            anyhow::ensure!(told.success(), "terminating: {told}");
            let drain = format!("http://127.0.0.1:{}/drain", self.control);
            reqwest::get(drain).await?.error_for_status()?;
        }
        if contender.kind == Kind::Floor {
            self.worker.terminate(self.under).await?;
        }
        if let Some(handler) = &mut self.handler {
            handler.terminate(false).await?;
        }
        if contender.kind != Kind::Floor {
            self.worker.terminate(self.under).await?;
        }
        Ok(())
    }
}

/// A program and what it has started: a process group. It ends when this is dropped.
#[derive(Debug)]
struct Program(Child);

impl Program {
    fn id(&self) -> Result<u32> {
        self.0.id().context("a program has ended")
    }

    /// SIGTERM, and KILL to what is left after a minute; what it has started ends with it, as
    /// in a container. `under`: another program may have started it as its child; then the
    /// child is told, and the other ends by itself.
    async fn terminate(&mut self, under: bool) -> Result<()> {
        let root = self.id()?;
        let tree = tree(root)?;
        let wrapped = under && tree.len() > 1;
        for pid in tree.into_iter().filter(|pid| (*pid == root) != wrapped) {
            // It may have ended by itself.
            let _ = pid_of(pid).map(|pid| kill_process(pid, Signal::TERM));
        }
        let ended = tokio::time::timeout(PATIENCE, self.0.wait()).await;
        kill_all(root);
        if ended.is_err() {
            self.0.wait().await?;
        }
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(root) = self.0.id() {
            kill_all(root);
        }
    }
}

/// KILL to a program and all it has started.
fn kill_all(root: u32) {
    // They may have ended by themselves.
    let _ = pid_of(root).map(|root| kill_process_group(root, Signal::KILL));
}

fn pid_of(pid: u32) -> Option<Pid> {
    Pid::from_raw(pid.try_into().ok()?)
}

/// The same settings for everybody.
fn tell(command: &mut Command, work: Work<'_>) {
    command
        .env("BENCH_CONCURRENCY", work.concurrency.to_string())
        .env("BENCH_MS", work.takes.as_millis().to_string());
}

/// A program on the worker's core. Its output goes to ours.
fn pinned(under: &[String], program: &std::path::Path, cores: Cores) -> Command {
    let mut command = Command::new("taskset");
    command
        .args(["-c", &cores.worker.to_string()])
        .args(under)
        .arg(program)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        // A group of its own, which can be ended as a whole.
        .process_group(0);
    command
}

fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    Ok(listener.local_addr()?.port())
}

async fn listens(port: u16, child: &mut Child) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        if let Some(status) = child.try_wait()? {
            anyhow::bail!("the handler has ended: {status}");
        }
        anyhow::ensure!(Instant::now() < end, "the handler does not listen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
