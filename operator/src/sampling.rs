//! Reads what cannot be watched: queue sizes from Conductor, statistics from sidecars.
//!
//! ```text
//! run ─> one loop per Conductor server and identity, each tick (give or take a little):
//!          the connection's Secrets, when due
//!          queue sizes, those of all its workers together      ─┐
//!          task definitions and pollers, once a minute         ─┼─> note ─> wake its workers
//!          /stats of its workers' pods, large pools in turns   ─┘
//! reconcile ─> take: the round of one worker, once
//! ```
//!
//! What fails is noted, and is a fact like any other. How much is asked is bounded by [`Pace`],
//! for each server whatever the number of workers; what does not fit has its turn in a later
//! round, and is as old as it is.

mod budget;
mod conductor;
mod failed;
pub(crate) mod pods;
mod queues;
mod round;
mod sizes;
mod task_types;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use conductor_client::{ApiBase, QueueName};
use tokio::{
    sync::mpsc::UnboundedSender,
    task::{Id, JoinSet},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use self::{
    budget::Budget,
    conductor::Conductor,
    pods::{Pods, Target},
    queues::Server,
    sizes::{Asker, Requests, Sizes},
};
use crate::{
    clock::Clock,
    controller::observed::{Key, Share},
    references::{Identity, References},
    stores::{Stores, is_alive, key_of, labelled},
    worker::Worker,
};

pub use round::{
    Failure, Growth, Limits, PodReading, Pollers, QueueReading, Round, TaskReading, Unavailable,
};

/// How often servers that have no loop yet are looked for.
const LOOK: Duration = Duration::from_millis(500);

/// How long an answer of Conductor is waited for, at least.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a pod that has gone may still be the last one that polled, in seconds.
const REMEMBERED: f64 = 900.0;

/// How often things are looked at, and how much is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// The time between two rounds.
    pub tick: Duration,
    /// Requests to each Conductor server in a second, whatever is asked.
    pub requests_per_second: f64,
    /// Sidecars that are asked in a second, for each Conductor server and identity.
    pub scrapes_per_second: f64,
    /// Pools of at most so many pods are asked whole in each round, whatever it comes to.
    pub whole_pools: usize,
}

/// What was sampled, and the loops that do it.
#[derive(Debug)]
pub struct Sampling {
    stores: Arc<Stores>,
    references: Arc<References>,
    pace: Pace,
    clock: Clock,
    wake: UnboundedSender<Key>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    servers: HashMap<Identity, Server>,
    workers: HashMap<Key, Seat>,
    requests: HashMap<ApiBase, Requests>,
    /// The names of the pods there are, and of those that went a while ago: when they were
    /// last seen.
    pod_names: HashMap<String, scaling::Instant>,
}

/// What was seen of one worker.
#[derive(Debug, Default)]
struct Seat {
    pods: Pods,
    /// When its last round was complete, until that round is taken.
    due: Option<scaling::Instant>,
}

impl Seen {
    /// Nobody has this identity any more.
    fn forget(&mut self, identity: &Identity) {
        self.servers.remove(identity);
        let is_asked = |base: &ApiBase| self.servers.keys().any(|other| other.base() == base);
        self.requests.retain(|base, _| is_asked(base));
    }
}

impl Sampling {
    /// Nothing is sampled yet. Workers whose round is complete go to `wake`.
    pub fn new(
        stores: Arc<Stores>,
        references: References,
        pace: Pace,
        clock: Clock,
        wake: UnboundedSender<Key>,
    ) -> Self {
        Self {
            stores,
            references: Arc::new(references),
            pace,
            clock,
            wake,
            seen: Mutex::default(),
        }
    }

    /// A worker's round, unless it was taken already.
    pub fn take(&self, key: &Key, worker: &Worker) -> Option<Round> {
        let mut seen = self.seen();
        let Seen {
            servers, workers, ..
        } = &mut *seen;
        let seat = workers.get_mut(key)?;
        let server = servers.get(&Identity::of(key, worker))?;
        let at = seat.due.take()?;
        Some(Round {
            at,
            queues: server.queues_of(worker),
            limits: server.limits_of(worker),
            pollers: server.pollers_of(worker),
            pods: seat.pods.readings(),
            pods_rounds: seat.pods.rounds(),
            growth: seat.pods.spend(),
        })
    }

    /// Which of a worker's queues others serve too.
    pub fn shares(&self, key: &Key, worker: &Worker) -> BTreeMap<QueueName, Share> {
        let seen = self.seen();
        let there = seen
            .servers
            .iter()
            .filter(|(identity, _)| identity.reaches_queues_of(&worker.connection));
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
                            self.seen().forget(&identity);
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
        let mut asker = Asker::new(self.requests(identity.base()));
        // Loops that begin together do not go on together.
        let mut next = Instant::now() + self.pace.tick.mul_f64(0.2 * fastrand::f64());
        loop {
            sleep_until(next).await;
            let workers: Vec<(Key, Arc<Worker>)> = self
                .workers()
                .into_iter()
                .filter(|(key, worker)| Identity::of(key, worker) == identity)
                .collect();
            if workers.is_empty() {
                return identity;
            }
            self.round(&workers, &mut conductor, &mut asker, &http)
                .await;
            next += self.pace.tick.mul_f64(0.9 + 0.2 * fastrand::f64());
            next = next.max(Instant::now());
        }
    }

    async fn round(
        &self,
        workers: &[(Key, Arc<Worker>)],
        conductor: &mut Conductor,
        asker: &mut Asker,
        http: &reqwest::Client,
    ) {
        let began = self.clock.now().clock;
        let queues = queues_of(workers);
        let mut pods = self.pods_of(workers, began);
        let (due, targets) = {
            let mut seen = self.seen();
            let server = seen
                .servers
                .entry(conductor.identity().clone())
                .or_default();
            let due = server.task_types.due(&queues, began);
            (due, self.turns(&mut seen, &mut pods, began))
        };
        let patience = self.pace.tick.max(PATIENCE);
        // What arrives is dated at once: it may have to wait for the slowest.
        let asking = async {
            let client = match conductor.client(patience).await {
                Ok(client) => client,
                Err(failed) => return (Sizes::none(&queues, &failed), None),
            };
            let sizes = asker.ask(&client, &queues, patience).await;
            // It would have to be waited for once more.
            if !sizes.are_answered() {
                return (sizes, None);
            }
            let said = task_types::read(&client, &due, &asker.requests(), patience).await;
            (sizes, Some(said))
        };
        let ((sizes, said), mut answers) =
            tokio::join!(asking, pods::ask(http, targets, self.clock, patience));
        conductor.note(&sizes);

        let now = self.clock.now().clock;
        let mut seen = self.seen();
        let Seen {
            servers,
            workers: seats,
            pod_names,
            ..
        } = &mut *seen;
        let server = servers.entry(conductor.identity().clone()).or_default();
        server.note_sizes(&queues, &sizes, now);
        if let Some((due, said)) = said {
            let ours = |name: &str| pod_names.contains_key(name);
            server.task_types.note(&due, &said, ours, now);
        }
        server.serve(workers.iter().map(|(key, worker)| (key, worker.as_ref())));
        for (key, _) in workers {
            let present = pods.remove(key).unwrap_or_default().present;
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

    /// The requests of a server, shared by all its identities.
    fn requests(&self, base: &ApiBase) -> Requests {
        let mut seen = self.seen();
        let new = || {
            let tick = self.pace.tick.as_secs_f64();
            let now = self.clock.now().clock;
            Requests::new(
                Budget::new(self.pace.requests_per_second, tick, now),
                self.clock,
            )
        };
        seen.requests
            .entry(base.clone())
            .or_insert_with(new)
            .clone()
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
    fn pods_of(
        &self,
        workers: &[(Key, Arc<Worker>)],
        now: scaling::Instant,
    ) -> HashMap<Key, PodsOf> {
        let mut pods: HashMap<Key, PodsOf> = workers
            .iter()
            .map(|(key, _)| (key.clone(), PodsOf::default()))
            .collect();
        let mut names = Vec::new();
        for pod in self.stores.pods.state() {
            names.extend(pod.metadata.name.clone());
            if let Some(uid) = &pod.metadata.uid
                && is_alive(&pod)
                && let Some(of) = labelled(&pod.metadata).and_then(|key| pods.get_mut(&key))
            {
                of.present.push(uid.clone());
                of.targets.extend(Target::of(&pod));
            }
        }
        let known = &mut self.seen().pod_names;
        known.extend(names.into_iter().map(|name| (name, now)));
        known.retain(|_, seen| now.seconds_since(*seen) < REMEMBERED);
        pods
    }

    /// The pods whose turn it is, of all pools.
    fn turns(
        &self,
        seen: &mut Seen,
        pods: &mut HashMap<Key, PodsOf>,
        now: scaling::Instant,
    ) -> Vec<Target> {
        let sizes: Vec<usize> = pods.values().map(|of| of.targets.len()).collect();
        let quotas = pods::quotas(&sizes, self.pace.whole_pools, self.pace.scrapes());
        let mut all = Vec::new();
        for ((key, of), quota) in pods.iter_mut().zip(quotas) {
            let seat = seen.workers.entry(key.clone()).or_default();
            let targets = std::mem::take(&mut of.targets);
            all.extend(seat.pods.take_turns(targets, quota, now));
        }
        all
    }
}

impl Pace {
    /// Sidecars that are asked in one tick.
    fn scrapes(&self) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative; a number that is too large is only very large"
        )]
        let scrapes = (self.scrapes_per_second * self.tick.as_secs_f64()).max(1.0) as usize;
        scrapes
    }
}

#[derive(Debug, Default)]
struct PodsOf {
    present: Vec<String>,
    targets: Vec<Target>,
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

#[cfg(test)]
mod tests;
