//! Reads what cannot be watched: queue sizes from Conductor, statistics from sidecars.
//!
//! ```text
//! run ─> one loop per Conductor server and identity, each tick:
//!          the connection's Secrets, when due
//!          queue sizes (one call for all its workers) ─┐
//!          task definitions, once a minute            ─┼─> note ─> wake its workers
//!          /stats of all its workers' pods            ─┘
//! reconcile ─> take: the round of one worker, once
//! ```
//!
//! What fails is noted, and is a fact like any other.

mod conductor;
mod pods;
mod queues;
mod round;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use conductor_client::QueueName;
use tokio::{
    sync::mpsc::UnboundedSender,
    task::{Id, JoinSet},
    time::{MissedTickBehavior, interval},
};

use self::{
    conductor::Conductor,
    pods::{Pods, Target},
    queues::Server,
};
use crate::{
    clock::Clock,
    controller::observed::{Key, Share},
    references::{Identity, References},
    stores::{Stores, is_alive, key_of, labelled},
    worker::Worker,
};

pub use round::{Failure, Growth, PodReading, QueueReading, Round, TaskReading, Unavailable};

/// How often servers that have no loop yet are looked for.
const LOOK: Duration = Duration::from_millis(500);

/// How long an answer of Conductor is waited for, at least.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was sampled, and the loops that do it.
#[derive(Debug)]
pub struct Sampling {
    stores: Arc<Stores>,
    references: Arc<References>,
    tick: Duration,
    clock: Clock,
    wake: UnboundedSender<Key>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    servers: HashMap<Identity, Server>,
    workers: HashMap<Key, Seat>,
}

/// What was seen of one worker.
#[derive(Debug, Default)]
struct Seat {
    pods: Pods,
    /// When its last round was complete, until that round is taken.
    due: Option<scaling::Instant>,
}

impl Sampling {
    /// Nothing is sampled yet. Workers whose round is complete go to `wake`.
    pub fn new(
        stores: Arc<Stores>,
        references: References,
        tick: Duration,
        clock: Clock,
        wake: UnboundedSender<Key>,
    ) -> Self {
        Self {
            stores,
            references: Arc::new(references),
            tick,
            clock,
            wake,
            seen: Mutex::default(),
        }
    }

    /// A worker's round, unless it was taken already.
    pub fn take(&self, key: &Key, worker: &Worker) -> Option<Round> {
        let mut seen = self.seen();
        let Seen { servers, workers } = &mut *seen;
        let seat = workers.get_mut(key)?;
        let server = servers.get(&Identity::of(key, worker))?;
        let at = seat.due.take()?;
        Some(Round {
            at,
            queues: server.queues_of(worker),
            limits: server.limits_of(worker),
            pods: seat.pods.readings(),
            growth: seat.pods.spend(),
        })
    }

    /// Which of a worker's queues others serve too.
    pub fn shares(&self, key: &Key, worker: &Worker) -> BTreeMap<QueueName, Share> {
        let seen = self.seen();
        let there = seen
            .servers
            .iter()
            .filter(|(identity, _)| *identity.base() == worker.connection.base);
        let identities: Vec<&Server> = there.map(|(_, server)| server).collect();
        queues::shares_of(&identities, key, worker)
    }

    /// Forgets workers that are gone.
    pub fn forget_gone(&self) {
        self.seen().workers.retain(|key, _| self.stores.has(key));
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // === the loops ===

    /// Samples until it is dropped, and its loops with it.
    pub async fn run(self: Arc<Self>) {
        let mut loops = JoinSet::new();
        let mut sampled: HashMap<Identity, Id> = HashMap::new();
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = look.tick() => {
                    for (key, worker) in self.workers() {
                        sampled.entry(Identity::of(&key, &worker)).or_insert_with_key(|identity| {
                            loops.spawn(self.clone().sample(identity.clone())).id()
                        });
                    }
                }
                Some(ended) = loops.join_next_with_id() => {
                    let id = match ended {
                        Ok((id, identity)) => {
                            self.seen().servers.remove(&identity);
                            id
                        }
                        // It is started again, and what it read last is kept.
                        Err(error) => {
                            tracing::error!(%error, "a sampling loop broke");
                            error.id()
                        }
                    };
                    sampled.retain(|_, other| *other != id);
                }
            }
        }
    }

    /// One identity's loop, until no worker has it.
    async fn sample(self: Arc<Self>, identity: Identity) -> Identity {
        let http = match pods::client() {
            Ok(http) => http,
            Err(error) => {
                tracing::error!(%error, "no HTTP client can be made");
                tokio::time::sleep(PATIENCE).await;
                return identity;
            }
        };
        let mut conductor = Conductor::new(identity.clone(), self.references.clone());
        let mut tick = interval(self.tick);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let workers: Vec<(Key, Arc<Worker>)> = self
                .workers()
                .into_iter()
                .filter(|(key, worker)| Identity::of(key, worker) == identity)
                .collect();
            if workers.is_empty() {
                return identity;
            }
            self.round(&identity, &workers, &mut conductor, &http).await;
        }
    }

    async fn round(
        &self,
        identity: &Identity,
        workers: &[(Key, Arc<Worker>)],
        conductor: &mut Conductor,
        http: &reqwest::Client,
    ) {
        let began = self.clock.now().clock;
        let asked = queues_of(workers);
        let mut targets = self.targets(workers);
        let due = {
            let mut seen = self.seen();
            let server = seen.servers.entry(identity.clone()).or_default();
            server.limits_due(&asked, began)
        };
        let patience = self.tick.max(PATIENCE);
        let all = targets.values().flat_map(|t| t.asked.clone()).collect();
        // What arrives is dated at once: it may have to wait for the slowest.
        let asking = async {
            match conductor.client(patience).await {
                Ok(client) => tokio::join!(
                    async {
                        let sizes = queues::sizes(&client, &asked, patience).await;
                        (sizes, self.clock.now().clock)
                    },
                    queues::limits(&client, &due, patience),
                ),
                Err(failed) => ((Err(failed), self.clock.now().clock), BTreeMap::new()),
            }
        };
        let (((sizes, read_at), limits), mut answers) =
            tokio::join!(asking, pods::ask(http, all, self.clock, patience));
        conductor.note(&sizes);

        let now = self.clock.now().clock;
        let mut seen = self.seen();
        let Seen {
            servers,
            workers: seats,
        } = &mut *seen;
        let server = servers.entry(identity.clone()).or_default();
        server.note_sizes(&asked, &sizes, read_at);
        server.note_limits(&due, &limits, now);
        server.serve(workers.iter().map(|(key, worker)| (key, worker.as_ref())));
        for (key, _) in workers {
            let present = targets.remove(key).unwrap_or_default().present;
            let own = present
                .iter()
                .filter_map(|uid| answers.remove_entry(uid))
                .collect();
            let seat = seats.entry(key.clone()).or_default();
            seat.pods.note(&present, own, began);
            seat.due = Some(now);
            // Closed only while the program ends.
            let _ = self.wake.send(key.clone());
        }
    }

    /// The workers that can be run.
    fn workers(&self) -> Vec<(Key, Arc<Worker>)> {
        self.stores
            .workers
            .state()
            .iter()
            .filter_map(|object| {
                let key = key_of(kube::Resource::meta(object.as_ref()))?;
                let worker = self.stores.parse(&key, object).ok()?;
                Some((key, worker))
            })
            .collect()
    }

    /// Which pods there are, and which can be asked.
    fn targets(&self, workers: &[(Key, Arc<Worker>)]) -> HashMap<Key, PodsOf> {
        let mut targets: HashMap<Key, PodsOf> = workers
            .iter()
            .map(|(key, _)| (key.clone(), PodsOf::default()))
            .collect();
        for pod in self.stores.pods.state() {
            if let Some(uid) = &pod.metadata.uid
                && is_alive(&pod)
                && let Some(of) = labelled(&pod.metadata).and_then(|key| targets.get_mut(&key))
            {
                of.present.push(uid.clone());
                of.asked.extend(Target::of(&pod));
            }
        }
        targets
    }
}

#[derive(Debug, Default)]
struct PodsOf {
    present: Vec<String>,
    asked: Vec<Target>,
}

/// The queues of all these workers, each once.
fn queues_of(workers: &[(Key, Arc<Worker>)]) -> Vec<QueueName> {
    let mut queues: Vec<QueueName> = workers
        .iter()
        .flat_map(|(_, worker)| worker.tasks.iter().map(|task| task.queue.clone()))
        .collect();
    queues.sort();
    queues.dedup();
    queues
}
