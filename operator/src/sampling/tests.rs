//! The loops, against an in-memory Conductor.

use conductor_client::{ApiBase, Client, StartWorkflow, TaskDef, WorkflowDef};
use embedded_conductor::{Embedded, Fault, On, Options};
use kube::{core::DeserializeGuard, runtime::watcher};
use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::worker::Defaults;

const SOON: Duration = Duration::from_secs(30);

/// Sampling of a few workers, each with one task type of its name.
struct Bed {
    server: Embedded,
    sampling: Arc<Sampling>,
    woken: UnboundedReceiver<Key>,
}

fn key(name: &str) -> Key {
    Key {
        namespace: "shop".to_owned(),
        name: name.to_owned(),
    }
}

impl Bed {
    async fn new(names: &[&str], requests_per_second: f64) -> Self {
        runtime::install_tls_provider();
        let server = Embedded::start(Options::default()).await.unwrap();
        let defaults = Defaults {
            conductor_url: Some(ApiBase::parse(&server.base()).unwrap()),
            sidecar_image: "sidecar".to_owned(),
            sidecar_image_pull_policy: "Never".to_owned(),
        };
        let (stores, mut writers) = Stores::new(defaults);
        for name in names {
            let worker = json!({
                "apiVersion": "conductor-oss.org/v1alpha1", "kind": "ConductorWorker",
                "metadata": {"name": name, "namespace": "shop", "uid": name, "generation": 1},
                "spec": {
                    "tasks": [{"name": name}], "scaling": {"maxWait": "30s"},
                    "template": {"spec": {"containers": [{"name": "app", "image": "greet:dev"}]}},
                },
            });
            let worker = DeserializeGuard(Ok(serde_json::from_value(worker).unwrap()));
            let there = watcher::Event::Apply(worker);
            writers.workers.apply_watcher_event(&there);
        }
        let stores = Arc::new(stores);
        let kubernetes = kube::Config::new("http://127.0.0.1:9".parse().unwrap());
        let references = References::new(kube::Client::try_from(kubernetes).unwrap());
        let (wake, woken) = unbounded_channel();
        let pace = Pace {
            tick: Duration::from_millis(100),
            requests_per_second,
            scrapes_per_second: 100.0,
            whole_pools: 50,
        };
        let sampling = Sampling::new(stores, references, pace, Clock::start(), wake);
        Self {
            server,
            sampling: Arc::new(sampling),
            woken,
        }
    }

    fn client(&self) -> Client {
        Client::new(ApiBase::parse(&self.server.base()).unwrap()).unwrap()
    }

    /// A worker's next round.
    async fn round(&mut self, name: &str) -> Round {
        let worker = self.sampling.workers().into_iter();
        let worker = worker
            .map(|(_, worker)| worker)
            .find(|w| w.tasks[0].queue.task_type() == name);
        let worker = worker.unwrap();
        let next = async {
            loop {
                let woken = self.woken.recv().await.unwrap();
                if woken == key(name)
                    && let Some(round) = self.sampling.take(&woken, &worker)
                {
                    return round;
                }
            }
        };
        tokio::time::timeout(SOON, next).await.unwrap()
    }

    /// The next round that is as it should be.
    async fn round_where(&mut self, name: &str, is_right: impl Fn(&Round) -> bool) -> Round {
        let next = async {
            loop {
                let round = self.round(name).await;
                if is_right(&round) {
                    return round;
                }
            }
        };
        tokio::time::timeout(SOON, next).await.unwrap()
    }
}

fn reading<'a>(round: &'a Round, name: &str) -> &'a QueueReading {
    &round.queues[&QueueName::new(name, None)]
}

#[tokio::test]
async fn sizes_and_limits_are_read_and_failures_are_facts() {
    let mut bed = Bed::new(&["greet", "other"], 1000.0).await;
    let client = bed.client();
    let def = TaskDef {
        concurrent_exec_limit: Some(4),
        rate_limit_per_frequency: Some(9),
        rate_limit_frequency_in_seconds: Some(60),
        ..TaskDef::named("greet")
    };
    client.register_task_defs(&[def]).await.unwrap();
    let workflow = WorkflowDef::sequence("w", [("greet", "greet")]);
    client.register_workflow_defs(&[workflow]).await.unwrap();
    for _ in 0..3 {
        let start = StartWorkflow {
            name: "w".to_owned(),
            ..StartWorkflow::default()
        };
        client.start_workflow(&start).await.unwrap();
    }
    let running = tokio::spawn(bed.sampling.clone().run());

    let round = bed
        .round_where("greet", |round| !round.limits.is_empty())
        .await;
    assert_eq!(reading(&round, "greet").size.unwrap().1, 3);
    assert_eq!(round.limits["greet"].at_once, Some(4));
    assert_eq!(round.limits["greet"].rate.unwrap().count, 9);
    assert!(round.pollers.is_empty());
    let round = bed.round("other").await;
    assert_eq!(reading(&round, "other").size.unwrap().1, 0);
    assert!(!round.queues.contains_key(&QueueName::new("greet", None)));

    bed.server.faults().set(Fault::Status(503), On::Queues);
    let is_failing = |round: &Round| reading(round, "greet").failing.is_some();
    let round = bed.round_where("greet", is_failing).await;
    let failing = reading(&round, "greet").failing.clone().unwrap();
    assert_eq!(failing.kind, Failure::Unreachable);
    assert_eq!(reading(&round, "greet").size.unwrap().1, 3, "the last one");
    bed.server.faults().clear();
    bed.round_where("greet", |round| !is_failing(round)).await;
    running.abort();
}

#[tokio::test]
async fn where_requests_are_few_sizes_come_first() {
    // One request in a tick, and no more: task definitions have to wait.
    let mut bed = Bed::new(&["greet"], 0.1).await;
    let running = tokio::spawn(bed.sampling.clone().run());
    let round = bed.round("greet").await;
    assert!(reading(&round, "greet").size.is_some() && round.limits.is_empty());
    // Nothing failed: its turn does not come.
    let round = bed.round("greet").await;
    assert!(reading(&round, "greet").failing.is_none());
    running.abort();
}
