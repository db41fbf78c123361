//! Processes in place of pods: each is a handler and, within this process, a sidecar.

use std::{
    collections::BTreeMap,
    process::Stdio,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    net::TcpListener,
    process::{Child, Command},
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;
use worker_sidecar::{
    config::{self, Config, HandlerConfig, Probe},
    local_api,
    pipeline::Sidecar,
};

use crate::sample::Seen;

/// A handler that ends by itself is started again after this long.
const RESTART: Duration = Duration::from_secs(1);

/// A command whose handler ends so often, and never works, is not tried any more.
const TRIES: u32 = 3;

/// A handler that runs and is not ready after this long is told, once.
const SILENT: Duration = Duration::from_secs(5);

/// What every pod of a worker is made of.
#[derive(Debug, Clone)]
pub(crate) struct PodTemplate {
    /// The worker's name.
    pub(crate) name: String,
    /// How the handler is started, as a shell has it.
    pub(crate) command: String,
    /// The handler's environment, from the manifest.
    pub(crate) env: Vec<(String, String)>,
    /// What the sidecar is told, as on a cluster.
    pub(crate) sidecar: BTreeMap<&'static str, String>,
}

/// A worker's pods.
#[derive(Debug)]
pub(crate) struct Pool {
    template: PodTemplate,
    pods: Vec<Pod>,
    /// Some handler was ready: what it is started by is right.
    worked: bool,
}

#[derive(Debug)]
struct Pod {
    id: u64,
    created: Instant,
    started_up: Option<Duration>,
    leaving: bool,
    port: u16,
    is_told: bool,
    sidecar: Arc<Sidecar>,
    ends: Arc<Ends>,
    life: JoinHandle<()>,
}

/// How often a pod's handler has ended by itself, and how the last time.
#[derive(Debug, Default)]
struct Ends(Mutex<(u32, String)>);

impl Ends {
    fn add(&self, how: &str) {
        let mut ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *ends = (ends.0 + 1, how.to_owned());
    }

    fn get(&self) -> (u32, String) {
        let ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ends.clone()
    }
}

impl Pool {
    /// No pods yet.
    pub(crate) fn new(template: PodTemplate) -> Self {
        Self {
            template,
            pods: Vec::new(),
            worked: false,
        }
    }

    /// Makes it so many pods: new ones are started; of those there are, the ones that were never
    /// ready leave first, then the idle ones, then the youngest.
    pub(crate) fn scale(&mut self, replicas: u32) -> Result<()> {
        let staying = self.pods.iter().filter(|p| !p.leaving).count();
        let wanted = usize::try_from(replicas)?;
        for _ in staying..wanted {
            self.pods.push(Pod::start(&self.template)?);
        }
        let mut candidates: Vec<&mut Pod> = self.pods.iter_mut().filter(|p| !p.leaving).collect();
        candidates.sort_by_key(|p| {
            (
                p.started_up.is_some(),
                p.sidecar.stats().in_flight > 0,
                std::cmp::Reverse(p.id),
            )
        });
        for pod in candidates.into_iter().take(staying.saturating_sub(wanted)) {
            pod.leave();
        }
        Ok(())
    }

    /// The pods as they are; those that have ended are forgotten.
    pub(crate) fn look(&mut self) -> Vec<Seen> {
        self.pods.retain(|p| !p.life.is_finished());
        let worked = &mut self.worked;
        let look = |p: &mut Pod| {
            let stats = p.sidecar.stats();
            // Only a handler that is ready is polled for, also where it was so between two looks.
            *worked |= stats.handler_ready
                || stats.polls_in_flight > 0
                || stats.tasks.iter().any(|t| t.polls > 0);
            let age = p.created.elapsed();
            if stats.handler_ready && p.started_up.is_none() {
                p.started_up = Some(age);
            }
            Seen {
                id: p.id,
                age,
                started_up: p.started_up,
                leaving: p.leaving,
                stats,
            }
        };
        self.pods.iter_mut().map(look).collect()
    }

    /// An error where the command that handlers are started by is no good: they end again and again,
    /// and none has ever been ready.
    pub(crate) fn can_work(&self) -> Result<()> {
        let ends = self.pods.iter().map(|p| p.ends.get());
        let most = ends.max_by_key(|(times, _)| *times);
        match most {
            Some((times, how)) if times >= TRIES && !self.worked => bail!(
                "the handler of {name} has ended {times} times, the last time with {how}, and was never ready; \
                 it is started by `{command}`: write a command that runs here and listens on $PORT, \
                 such as --command {name}='python3 handler.py'",
                name = self.template.name,
                command = self.template.command,
            ),
            _ => Ok(()),
        }
    }

    /// Of each handler that runs and has not got ready for a while, once, what it does not do.
    pub(crate) fn silent(&mut self) -> Vec<String> {
        let is_silent = |pod: &&mut Pod| {
            let is_new = pod.started_up.is_none() && !pod.leaving && !pod.is_told;
            is_new && pod.created.elapsed() >= SILENT && pod.ends.get().0 == 0
        };
        let silent = self.pods.iter_mut().filter(is_silent);
        let told = silent.map(|pod| {
            pod.is_told = true;
            format!(
                "[{}-{}] not ready for {} s: its readiness probe, or a connection to port {port}, fails; \
                 the handler is to listen on $PORT, which is {port} here",
                self.template.name,
                pod.id,
                SILENT.as_secs(),
                port = pod.port,
            )
        });
        told.collect()
    }

    /// No pod takes more work.
    pub(crate) fn leave(&mut self) {
        for pod in &mut self.pods {
            pod.leave();
        }
    }

    /// Ends all pods, each after the tasks it has.
    pub(crate) async fn drain(mut self) {
        self.leave();
        for pod in self.pods {
            let _ = pod.life.await;
        }
    }
}

impl Pod {
    fn start(template: &PodTemplate) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{id}", template.name);
        let port = free_port()?;
        let config = config(template, name.clone(), port)?;
        let grace = config.grace;
        let sidecar = Sidecar::new(config, &prometheus::Registry::new())?;
        let local = std::net::TcpListener::bind("127.0.0.1:0")?;
        local.set_nonblocking(true)?;
        let ends = Arc::<Ends>::default();
        let process = Process {
            name,
            ends: ends.clone(),
            command: template.command.clone(),
            env: template.env.clone(),
            port,
            local_api: operator::worker::local_api(local.local_addr()?.port()),
        };
        let local = TcpListener::from_std(local)?;
        let life = tokio::spawn(live(sidecar.clone(), process, local, grace));
        Ok(Self {
            id,
            created: Instant::now(),
            started_up: None,
            leaving: false,
            port,
            is_told: false,
            sidecar,
            ends,
            life,
        })
    }

    fn leave(&mut self) {
        self.leaving = true;
        self.sidecar.begin_shutdown();
    }
}

/// The sidecar's settings from what it would be told on a cluster; only the port differs, since
/// pods here share one address.
fn config(template: &PodTemplate, worker_id: String, port: u16) -> Result<Config> {
    let told = |name: &str| template.sidecar.get(name).map(String::as_str);
    let conductor = told("CONDUCTOR_SERVER_URL")
        .context("no address of Conductor")?
        .parse()?;
    let tasks = config::parse_tasks(told("CONDUCTOR_TASKS").unwrap_or_default())?;
    let mut config = Config::new(conductor, tasks, worker_id);
    config.slots = told("CONDUCTOR_CONCURRENCY").unwrap_or("1").parse()?;
    config.grace = config::parse_duration(told("GRACE_PERIOD").unwrap_or("30s"))?;
    config.handler = HandlerConfig::new(port);
    config.handler.payload = told("HANDLER_PAYLOAD").unwrap_or("task").parse()?;
    if let Some(codes) = told("HANDLER_TERMINAL_STATUS_CODES") {
        config.handler.terminal = codes.parse()?;
    }
    let declared: u16 = told("HANDLER_PORT").unwrap_or("8080").parse()?;
    // A probe on another port than the handler's has no counterpart here.
    let probe = Probe::parse(told("HANDLER_PROBE").unwrap_or("tcp"), declared)?;
    if let Some(probe) = probe.moved(declared, port) {
        config.handler.probe = probe;
    }
    Ok(config)
}

/// A port that is free now; whoever takes it in between makes the handler fail, and be started
/// again.
fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port())
}

/// A pod's life: the handler runs until the sidecar has drained.
async fn live(sidecar: Arc<Sidecar>, process: Process, local: TcpListener, grace: Duration) {
    let over = CancellationToken::new();
    let router = local_api::router(sidecar.clone());
    let serve = runtime::admin::serve(local, router, over.clone().cancelled_owned());
    let pod = async {
        work(sidecar, &process, grace).await;
        over.cancel();
    };
    if let ((), Err(error)) = tokio::join!(pod, serve) {
        eprintln!("[{}] the local task API: {error}", process.name);
    }
}

async fn work(sidecar: Arc<Sidecar>, process: &Process, grace: Duration) {
    let told = async { sidecar.shutdown_begun().await };
    let mut drained = std::pin::pin!(sidecar.clone().run(told));
    loop {
        let mut child = match process.spawn() {
            Ok(child) => child,
            Err(error) => {
                eprintln!("[{}] cannot be started: {error:#}", process.name);
                process.ends.add(&format!("{error:#}"));
                tokio::select! {
                    () = &mut drained => return,
                    () = tokio::time::sleep(RESTART) => continue,
                }
            }
        };
        tokio::select! {
            () = &mut drained => {
                child.end(grace).await;
                return;
            }
            status = child.leader.wait() => {
                let how = status.map_or_else(|e| e.to_string(), |s| s.to_string());
                eprintln!("[{}] the handler ended: {how}", process.name);
                process.ends.add(&how);
            }
        }
        if sidecar.is_draining() {
            drained.await;
            return;
        }
        tokio::select! {
            () = &mut drained => return,
            () = tokio::time::sleep(RESTART) => (),
        }
    }
}

/// How a pod's handler is started.
struct Process {
    name: String,
    ends: Arc<Ends>,
    command: String,
    env: Vec<(String, String)>,
    port: u16,
    local_api: String,
}

impl Process {
    fn spawn(&self) -> Result<Group> {
        let mut child = Command::new("sh")
            .arg("-c")
            .arg(format!("exec {}", self.command))
            .env("PORT", self.port.to_string())
            .env("CONDUCTOR_SERVER_URL", &self.local_api)
            .envs(self.env.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is for us: the handler gets its signal once its tasks are done.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| self.command.clone())?;
        let mut output = JoinSet::new();
        if let Some(stdout) = child.stdout.take() {
            output.spawn(show(self.name.clone(), stdout));
        }
        if let Some(stderr) = child.stderr.take() {
            output.spawn(show(self.name.clone(), stderr));
        }
        // Ends with the pipes, that is with the process.
        output.detach_all();
        Ok(Group::new(child))
    }
}

async fn show(name: String, output: impl AsyncRead + Unpin) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        eprintln!("[{name}] {line}");
    }
}

/// A handler's process and those that it started. Dropped, all of them are killed.
struct Group {
    leader: Child,
    id: Option<Pid>,
}

impl Group {
    fn new(leader: Child) -> Self {
        let id = leader
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        Self { leader, id }
    }

    /// Asks it to end, and makes it end when it does not.
    async fn end(mut self, grace: Duration) {
        if let Some(id) = self.id {
            let _ = kill_process_group(id, Signal::TERM);
        }
        let _ = tokio::time::timeout(grace, self.leader.wait()).await;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Whoever is left of the group; there is no such group once nobody is.
        if let Some(id) = self.id {
            let _ = kill_process_group(id, Signal::KILL);
        }
    }
}
