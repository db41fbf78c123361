//! The sidecar and the handler as processes of their own.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::process::{Child, Command};

/// Where the programs are, and where what they say goes.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The sidecar's.
    pub sidecar: PathBuf,
    /// The handler's.
    pub handler: PathBuf,
    /// A folder for logs and the report.
    pub output: PathBuf,
}

/// A program that can be killed, frozen and started again. It is killed when this is dropped.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    log: PathBuf,
    child: Child,
}

/// A task type as the sidecar is told of it.
#[derive(Debug, Clone)]
pub struct Polled<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its share of the slots; none for all.
    pub concurrency: Option<usize>,
}

/// How a sidecar is started.
#[derive(Debug, Clone)]
pub struct Sidecar<'a> {
    /// The API's address.
    pub conductor: &'a str,
    /// What it polls.
    pub tasks: &'a [Polled<'a>],
    /// How many tasks at once.
    pub slots: usize,
    /// The handler's port.
    pub handler: u16,
    /// The port of its own endpoints.
    pub port: u16,
    /// Where it keeps results that were not taken yet.
    pub spool: &'a Path,
}

impl Programs {
    /// Starts a sidecar; `name` is its log's.
    pub fn sidecar(&self, name: &str, sidecar: &Sidecar<'_>) -> anyhow::Result<Program> {
        let tasks: Vec<_> = sidecar
            .tasks
            .iter()
            .map(|t| match t.concurrency {
                Some(n) => json!({"name": t.name, "concurrency": n}),
                None => json!({"name": t.name}),
            })
            .collect();
        let environment = vec![
            ("CONDUCTOR_SERVER_URL", sidecar.conductor.to_owned()),
            ("CONDUCTOR_TASKS", json!(tasks).to_string()),
            ("CONDUCTOR_CONCURRENCY", sidecar.slots.to_string()),
            ("CONDUCTOR_WORKER_ID", "faults".to_owned()),
            ("HANDLER_PORT", sidecar.handler.to_string()),
            ("LISTEN", format!("127.0.0.1:{}", sidecar.port)),
            // Its port is one for all of a machine, and trials run side by side.
            ("LOCAL_API_PORT", "0".to_owned()),
            ("SPOOL_DIR", sidecar.spool.display().to_string()),
        ];
        let log = self.log(&format!("{name}.sidecar"))?;
        Program::start(self.sidecar.clone(), Vec::new(), environment, log)
    }

    /// Starts a handler; `name` is its log's.
    pub fn handler(&self, name: &str, port: u16, ledger: &Path) -> anyhow::Result<Program> {
        let arguments = vec![
            "--port".to_owned(),
            port.to_string(),
            "--ledger".to_owned(),
            ledger.display().to_string(),
        ];
        let log = self.log(&format!("{name}.handler"))?;
        Program::start(self.handler.clone(), arguments, Vec::new(), log)
    }

    fn log(&self, name: &str) -> anyhow::Result<PathBuf> {
        let logs = self.output.join("logs");
        std::fs::create_dir_all(&logs)?;
        let log = logs.join(format!("{}.log", name.replace("::", ".")));
        File::create(&log)?;
        Ok(log)
    }
}

impl Program {
    fn start(
        path: PathBuf,
        arguments: Vec<String>,
        environment: Vec<(&'static str, String)>,
        log: PathBuf,
    ) -> anyhow::Result<Self> {
        let child = spawn(&path, &arguments, &environment, &log)?;
        Ok(Self {
            path,
            arguments,
            environment,
            log,
            child,
        })
    }

    /// As an out-of-memory kill does it.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().await?;
        Ok(())
    }

    /// Starts it again with the same settings, after [`Program::kill`].
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.child = spawn(&self.path, &self.arguments, &self.environment, &self.log)?;
        Ok(())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok());
        let pid = pid.and_then(Pid::from_raw);
        kill_process(pid.context("it has ended")?, signal)?;
        Ok(())
    }

    /// How much memory it holds, in KiB.
    pub fn resident_kib(&self) -> anyhow::Result<u64> {
        let id = self.child.id().context("it has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        Ok(kib.context("no VmRSS in its status")?.parse()?)
    }

    /// Waits for its end: how it ended.
    pub async fn ended(&mut self) -> anyhow::Result<std::process::ExitStatus> {
        Ok(self.child.wait().await?)
    }

    /// An error if it ended by itself.
    pub fn still_runs(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let log = self.log.display();
            anyhow::bail!("{} ended: {status}; see {log}", self.path.display());
        }
        Ok(())
    }
}

fn spawn(
    path: &Path,
    arguments: &[String],
    environment: &[(&'static str, String)],
    log: &Path,
) -> anyhow::Result<Child> {
    let log = File::options().append(true).open(log)?;
    Command::new(path)
        .args(arguments)
        .env_clear()
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {}", path.display()))
}

/// Ends this process when the one that started it ends, however that happens. To be called
/// first by a program of the suite.
pub fn end_with_parent() -> anyhow::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have ended before the call, and then nothing comes any more.
    let parent = rustix::process::getppid();
    anyhow::ensure!(
        parent.is_some_and(|parent| !parent.is_init()),
        "whoever started this has ended"
    );
    Ok(())
}

/// A port that is free and stays so between a program's two lives: below the range that the
/// kernel gives to connections.
pub fn free_port() -> anyhow::Result<u16> {
    for _ in 0..100 {
        let port = fastrand::u16(20_000..30_000);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    anyhow::bail!("no free port between 20000 and 30000")
}
