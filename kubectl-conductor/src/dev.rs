//! `kubectl conductor dev`: the loop around the pools.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use api::ConductorWorker;
use conductor_client::{ApiBase, Client, QueueName};
use embedded_conductor::Embedded;
use jiff::Timestamp;
use operator::worker::{Defaults, Worker};
use scaling::{Policy, State, TaskPolicy};
use tokio_util::sync::CancellationToken;

use crate::{
    load::{self, LoadOptions},
    manifest::Manifests,
    pool::{PodTemplate, Pool},
    report::{Progress, Summary},
    sample::{Before, sample},
};

/// The annotation of a worker that says how its handler is started here.
const COMMAND: &str = "conductor-oss.org/dev-command";

/// What is to be done.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) files: Vec<PathBuf>,
    pub(crate) commands: Vec<String>,
    pub(crate) load: Option<LoadOptions>,
    pub(crate) listen: SocketAddr,
    pub(crate) tick: Duration,
}

/// Runs until the load is done, or until Ctrl-C. True if the load, where there was one, went well.
pub(crate) async fn run(options: Options) -> Result<bool> {
    let mut manifests = Manifests::default();
    for file in &options.files {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        manifests.add(&file.display().to_string(), &text)?;
    }
    ensure!(
        !manifests.workers.is_empty(),
        "no ConductorWorker in the files; name one that has kind: ConductorWorker"
    );
    for note in &manifests.notes {
        eprintln!("note: {note}");
    }

    let conductor = Embedded::start(embedded_conductor::Options {
        listen: options.listen,
        ..Default::default()
    })
    .await
    .with_context(|| format!("an in-memory Conductor on {}", options.listen))?;
    let base = ApiBase::parse(&conductor.base())?;
    let client = Client::new(base.clone())?;
    let to_start = manifests.workflows_to_start();
    if !manifests.tasks.is_empty() {
        client.register_task_defs(&manifests.tasks).await?;
    }
    let mut definitions = manifests.workflows.clone();
    definitions.extend(
        to_start
            .iter()
            .filter(|w| !manifests.workflows.contains(w))
            .cloned(),
    );
    client.register_workflow_defs(&definitions).await?;

    let mut crews = Vec::new();
    for manifest in &manifests.workers {
        crews.push(Crew::new(
            manifest,
            &base,
            &options.commands,
            manifests.workers.len(),
        )?);
    }
    println(&format!(
        "Conductor listens at {base}; Ctrl-C drains and ends"
    ));

    let (stop, over) = (CancellationToken::new(), CancellationToken::new());
    let loaded = options.load.map(|l| {
        let load = load::run(client.clone(), to_start, l, stop.clone(), over.clone());
        tokio::spawn(load)
    });
    let loaded = tend(&client, &mut crews, loaded, options.tick, &stop).await?;
    let most_replicas = crews.iter_mut().map(Crew::most).max().unwrap_or(0);
    for crew in &mut crews {
        crew.pool.leave();
    }
    for crew in crews.drain(..) {
        tokio::select! {
            () = crew.pool.drain() => (),
            () = runtime::shutdown_signal() => bail!("ended without waiting for running tasks"),
        }
    }
    // Only now everything has ended that will.
    over.cancel();
    let summary = match loaded {
        Loaded::None => None,
        Loaded::Ended(summary) => Some(summary),
        Loaded::Stopped(loading) => Some(loading.await??),
    };
    conductor.stop().await;
    let Some(summary) = summary else {
        return Ok(true);
    };
    let summary = Summary {
        most_replicas,
        ..summary
    };
    println(&summary.text());
    Ok(summary.is_success())
}

type Loading = tokio::task::JoinHandle<Result<Summary>>;

/// What became of the load.
enum Loaded {
    /// There was none.
    None,
    Ended(Summary),
    /// It starts nothing any more; what it has started may go on.
    Stopped(Loading),
}

/// Samples, decides and scales, tick by tick, until the load is done or Ctrl-C.
async fn tend(
    client: &Client,
    crews: &mut [Crew],
    mut loading: Option<Loading>,
    tick: Duration,
    stop: &CancellationToken,
) -> Result<Loaded> {
    let started = Instant::now();
    let mut ticks = tokio::time::interval(tick);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // One future for all ticks: a signal that comes while none listens would be missed.
    let mut told = std::pin::pin!(runtime::shutdown_signal());
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                for crew in crews.iter_mut() {
                    if let Some(line) = crew.tick(client, started).await? {
                        println(&line);
                    }
                }
            }
            summary = ended(&mut loading) => return Ok(Loaded::Ended(summary?)),
            () = &mut told => {
                println("draining; Ctrl-C again ends at once");
                stop.cancel();
                return Ok(loading.map_or(Loaded::None, Loaded::Stopped));
            }
        }
    }
}

async fn ended(loading: &mut Option<Loading>) -> Result<Summary> {
    match loading {
        Some(loading) => loading.await?,
        None => std::future::pending().await,
    }
}

/// A worker with its pods and the memory of its decisions.
struct Crew {
    name: String,
    queues: Vec<QueueName>,
    policy: Option<Policy>,
    worker: Worker,
    fixed: u32,
    slots: u32,
    replicas: u32,
    most: u32,
    pool: Pool,
    before: Before,
    state: Option<State>,
    said: Option<String>,
    said_at: Instant,
    done: u64,
}

impl Crew {
    fn new(
        manifest: &ConductorWorker,
        base: &ApiBase,
        commands: &[String],
        workers: usize,
    ) -> Result<Self> {
        let name = manifest
            .metadata
            .name
            .clone()
            .unwrap_or_else(|| "worker".to_owned());
        let mut spec = manifest.spec.clone();
        // Here there is one Conductor, wherever the manifest's is.
        spec.connection = None;
        let defaults = Defaults {
            conductor_url: Some(base.clone()),
            sidecar_image: "none".to_owned(),
            sidecar_image_pull_policy: "Never".to_owned(),
        };
        let worker =
            Worker::parse(&spec, &defaults).with_context(|| format!("ConductorWorker {name}"))?;
        let handler = container(&worker).with_context(|| format!("ConductorWorker {name}"))?;
        let command = command(&name, manifest, handler, commands, workers)?;
        let template = PodTemplate {
            name: name.clone(),
            command,
            env: environment(&name, handler),
            sidecar: worker.sidecar_env().into_iter().collect::<BTreeMap<_, _>>(),
        };
        let policy = worker.bounds().map(|b| Policy {
            max_wait: b.max_wait,
            drain_within: b.drain_within,
            min: b.min,
            max: b.max,
            slots: worker.slots,
            tasks: worker
                .tasks
                .iter()
                .map(|t| TaskPolicy {
                    cap: t.concurrency,
                    exec_limit: None,
                    rate_limit: None,
                })
                .collect(),
        });
        let decides = matches!(worker.scale, operator::worker::Scale::Auto(_)) && !worker.suspend;
        Ok(Self {
            name,
            queues: worker.tasks.iter().map(|t| t.queue.clone()).collect(),
            policy: policy.filter(|_| decides),
            fixed: if worker.suspend {
                0
            } else {
                manifest.spec.replicas.unwrap_or(0)
            },
            slots: worker.slots,
            replicas: 0,
            most: 0,
            pool: Pool::new(template),
            before: Before::default(),
            state: None,
            said: None,
            said_at: Instant::now(),
            done: 0,
            worker,
        })
    }

    /// Most pods that were ready at one time, as far as was looked, with this moment.
    fn most(&mut self) -> u32 {
        let ready = self.pool.look();
        let ready = ready.iter().filter(|pod| pod.is_ready()).count();
        self.most.max(u32::try_from(ready).unwrap_or(u32::MAX))
    }

    /// One tick: sample, decide, scale. A line when there is something to say.
    async fn tick(&mut self, client: &Client, started: Instant) -> Result<Option<String>> {
        let sizes = client.queue_sizes(&self.queues).await.ok();
        let queues: Vec<Option<u64>> = self
            .queues
            .iter()
            .map(|q| sizes.as_ref().and_then(|s| s.get(q).copied()))
            .collect();
        let pods = self.pool.look();
        self.pool.can_work()?;
        for note in self.pool.silent() {
            eprintln!("{note}");
        }
        let (seen, done) = sample(self.replicas, &queues, &pods, &mut self.before);
        self.done += done;
        let decision = match &self.policy {
            None => {
                self.replicas = self.fixed;
                "replicas as the manifest has them".to_owned()
            }
            Some(policy) => {
                let now = scaling::Instant::at(started.elapsed());
                let state = self.state.take().unwrap_or_else(|| State::restarted(now));
                // A schedule may hold now.
                let bounds = self.worker.bounds_at(Timestamp::now());
                let policy = Policy {
                    min: bounds.map_or(policy.min, |b| b.min),
                    ..policy.clone()
                };
                let (decision, state) = scaling::decide(&policy, state, &seen, now);
                self.state = Some(state);
                self.replicas = decision.replicas;
                format!("{} ({})", decision.reason, decision.message())
            }
        };
        self.pool.scale(self.replicas)?;
        self.most = self.most.max(seen.ready);

        let busy: u32 = seen.tasks.iter().map(|t| t.running + t.leaving).sum();
        let queue = queues.iter().copied().sum::<Option<u64>>();
        let quiet = busy == 0 && done == 0 && queue == Some(0) && seen.ready == self.replicas;
        // While nothing moves, one line is enough.
        if quiet && self.said.as_ref() == Some(&decision) {
            return Ok(None);
        }
        let since = self.said_at.elapsed().as_secs_f64().max(1e-3);
        #[expect(clippy::cast_precision_loss, reason = "tasks of one tick")]
        let done_per_second = std::mem::take(&mut self.done) as f64 / since;
        self.said_at = Instant::now();
        self.said = Some(decision.clone());
        let progress = Progress {
            seconds: started.elapsed().as_secs(),
            worker: self.name.clone(),
            queue,
            ready: seen.ready,
            desired: self.replicas,
            busy,
            slots: seen.ready * self.slots,
            done_per_second,
            decision,
        };
        Ok(Some(progress.line()))
    }
}

/// The handler's container of the template.
fn container(worker: &Worker) -> Result<&serde_json::Value> {
    worker
        .template
        .get("spec")
        .and_then(|spec| spec["containers"].as_array())
        .and_then(|containers| {
            containers
                .iter()
                .find(|c| c["name"] == worker.handler.container.as_str())
        })
        .context("its template has no handler")
}

/// How the handler is started: by `--command`, by annotation, or as its container says.
fn command(
    name: &str,
    manifest: &ConductorWorker,
    container: &serde_json::Value,
    commands: &[String],
    workers: usize,
) -> Result<String> {
    for given in commands {
        match given.split_once('=') {
            Some((worker, command)) if worker == name => return Ok(command.to_owned()),
            // An = may be part of a command for the only worker there is.
            _ if workers == 1 => return Ok(given.clone()),
            _ => (),
        }
    }
    if let Some(command) = manifest
        .metadata
        .annotations
        .as_ref()
        .and_then(|a| a.get(COMMAND))
    {
        return Ok(command.clone());
    }
    let words: Vec<&str> = ["command", "args"]
        .iter()
        .filter_map(|key| container[*key].as_array())
        .flatten()
        .filter_map(serde_json::Value::as_str)
        .collect();
    if container["command"].is_array() && !words.is_empty() {
        return Ok(words
            .iter()
            .map(|w| format!("'{}'", w.replace('\'', r"'\''")))
            .collect::<Vec<_>>()
            .join(" "));
    }
    bail!(
        "how is the handler of {name} started on this machine? Write --command {name}='python3 handler.py', \
         or the annotation {COMMAND} in its manifest"
    )
}

/// The plain variables of the container; those from elsewhere in a cluster are named and left out.
fn environment(name: &str, container: &serde_json::Value) -> Vec<(String, String)> {
    let mut env = Vec::new();
    for variable in container["env"].as_array().into_iter().flatten() {
        let key = variable["name"].as_str().unwrap_or_default();
        match variable["value"].as_str() {
            // The port is this machine's to give.
            Some(_) if key == "PORT" => (),
            Some(value) => env.push((key.to_owned(), value.to_owned())),
            None => eprintln!("note: {name}: {key} comes from the cluster and is not set here"),
        }
    }
    env
}

#[expect(clippy::print_stdout, reason = "what the command is for")]
fn println(line: &str) {
    println!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKER: &str = "
apiVersion: conductor-oss.org/v1alpha1
kind: ConductorWorker
metadata: {name: greet}
spec:
  tasks: [{name: greet}]
  scaling: {maxWait: 10s}
  template: {spec: {containers: [{name: app, image: greet}]}}
";

    #[tokio::test(flavor = "multi_thread")]
    async fn a_command_that_never_works_ends_it_and_is_named() {
        runtime::install_tls_provider();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("worker.yaml");
        std::fs::write(&file, WORKER).unwrap();
        let options = Options {
            files: vec![file],
            commands: vec!["no-such-program --flag".to_owned()],
            load: Some(LoadOptions {
                count: 1,
                rate: None,
                input: "{}".to_owned(),
            }),
            listen: "127.0.0.1:0".parse().unwrap(),
            tick: Duration::from_millis(100),
        };
        let ended = tokio::time::timeout(Duration::from_secs(60), run(options)).await;
        let error = ended.expect("it ends").unwrap_err().to_string();
        assert!(
            error.contains("handler of greet") && error.contains("`no-such-program --flag`"),
            "{error}"
        );
        assert!(error.contains("127"), "{error}");
    }
}
