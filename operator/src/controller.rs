//! The control loop.
//!
//! ```text
//! watches ──────────┐                 ┌─> observe ─> plan ─> apply
//!                   ├─> worker's key ─┤
//! sampling, ticks ──┘                 └─> pause, where that fails
//! ```

mod apply;
mod backoff;
mod observe;
pub mod observed;
pub mod plan;
mod turns;

pub use self::apply::connect;

use std::{
    collections::HashMap,
    convert::Infallible,
    fmt::Debug,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use api::ConductorWorker;
use futures::{FutureExt, StreamExt, stream};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::ReplicaSet,
        core::v1::{Node, Pod},
        policy::v1::PodDisruptionBudget,
    },
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::ListParams,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        controller::{self, Action, applier},
        reflector::store::Writer,
        watcher::{self, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

pub use self::turns::SidecarUpgrades;
use self::{
    observed::{Key, Memory},
    turns::Turns,
};
use crate::{
    WORKER_LABEL,
    clock::Clock,
    contact::Contact,
    cordons::{CannotTell, Cordons},
    error::Error,
    metrics::{Metrics, Outcome},
    references::References,
    sampling::{Pace, Sampling},
    stores::{Guarded, RawDeployment, Stores, key_of, labelled},
    worker::Defaults,
};

/// How many workers are reconciled at once.
const AT_ONCE: u16 = 32;

/// What follows where `PodDisruptionBudget`s may not be read.
const NO_BUDGETS: &str = "no worker gets a PodDisruptionBudget, and none that is there is changed";

/// What follows where nodes may not be read.
const NO_NODES: &str = "pods on nodes that are drained do not go before others";

/// What follows where `ReplicaSet`s may not be read.
const NO_REPLICA_SETS: &str = "a new version that fails its tasks is rolled out all the same";

/// What the controller is set to.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The only namespace to look at; none for all.
    pub namespace: Option<String>,
    /// For what workers do not say.
    pub defaults: Defaults,
    /// How often queues and pods are looked at, and how much is asked.
    pub pace: Pace,
    /// When pods get another sidecar though the user has changed nothing.
    pub sidecar_upgrades: SidecarUpgrades,
    /// The operator's own name, for events.
    pub instance: String,
}

/// What reconciles share.
pub(crate) struct Context {
    client: Client,
    stores: Arc<Stores>,
    sampling: Arc<Sampling>,
    cordons: Arc<Cordons>,
    contact: Arc<Contact>,
    metrics: Metrics,
    turns: Turns,
    clock: Clock,
    tick: Duration,
    instance: String,
    memories: Mutex<HashMap<Key, Memory>>,
    failures: Mutex<HashMap<Key, u32>>,
}

/// Runs until `stop` ends; what is being reconciled then is finished. `ready` turns true when
/// everything that is watched has been read.
///
/// # Errors
/// Where nobody could be told to take no more tasks: before anything is done.
pub async fn run(
    client: Client,
    settings: Settings,
    metrics: Metrics,
    ready: Arc<AtomicBool>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), CannotTell> {
    let Settings {
        namespace,
        defaults,
        pace,
        sidecar_upgrades,
        instance,
    } = settings;
    let (stores, writers) = Stores::new(defaults);
    let stores = Arc::new(stores);
    let clock = Clock::start();
    let (wake, woken) = unbounded_channel();
    let (cordons, orders) = Cordons::new(stores.clone(), metrics.clone(), clock, wake.clone())?;
    let cordons = Arc::new(cordons);
    let sampling = Arc::new(Sampling::new(
        stores.clone(),
        References::new(client.clone()),
        pace,
        clock,
        wake.clone(),
    ));
    let contact = Arc::new(Contact::new(clock));
    let context = Arc::new(Context {
        client: client.clone(),
        stores: stores.clone(),
        sampling: sampling.clone(),
        cordons: cordons.clone(),
        contact: contact.clone(),
        metrics,
        turns: Turns::new(sidecar_upgrades),
        clock,
        tick: pace.tick,
        instance,
        memories: Mutex::default(),
        failures: Mutex::default(),
    });

    let watched = Watched {
        client,
        namespace,
        context: context.clone(),
        wake,
    };
    let all = watcher::Config::default();
    let ours = all.clone().labels(WORKER_LABEL);
    let watching = async {
        tokio::join!(
            watched.watch::<Guarded>(writers.workers, all.clone(), key_of, None),
            watched.watch::<RawDeployment>(writers.deployments, ours.clone(), labelled, None),
            watched.watch::<Pod>(writers.pods, ours, labelled, None),
            // The others are looked for at each tick: no worker is woken for them.
            watched.watch::<PodDisruptionBudget>(writers.budgets, all, labelled, Some(NO_BUDGETS)),
            watched.watch_drained_nodes(writers.drained_nodes),
            watched.watch_replica_sets(writers.replica_sets),
        )
    };
    // As the watch of them does, so that no other right is needed; from the store, of which the
    // API server's memory may be old.
    let workers: Api<PartialObjectMeta<ConductorWorker>> = watched.api();
    let one = ListParams::default().limit(1);
    let stop = stop.shared();
    let reconciles = async {
        tokio::select! {
            () = read(&stores) => {}
            () = stop.clone() => return,
        }
        tracing::info!(workers = stores.workers.len(), "everything is read");
        ready.store(true, Ordering::Relaxed);
        reconcile_all(context, woken, stop.clone()).await;
    };
    tokio::select! {
        () = reconciles => {}
        _ = watching => {}
        () = sampling.run() => {}
        () = cordons.run(orders) => {}
        () = contact.run(async || workers.list(&one).await) => {}
    }
    Ok(())
}

/// Waits until everything has been read once that the operator cannot do without.
async fn read(stores: &Stores) {
    // An error: a watch was dropped, which happens only at the end.
    let _ = stores.workers.wait_until_ready().await;
    let _ = stores.deployments.wait_until_ready().await;
    let _ = stores.pods.wait_until_ready().await;
}

// === the watches ===

struct Watched {
    client: Client,
    namespace: Option<String>,
    context: Arc<Context>,
    wake: UnboundedSender<Key>,
}

impl Watched {
    /// Keeps a store like the API server, and wakes the workers that a change is about. `without`
    /// says what follows where this may not be read, if the operator can do without it.
    async fn watch<K>(
        &self,
        writer: Writer<K>,
        config: watcher::Config,
        key: impl Fn(&kube::api::ObjectMeta) -> Option<Key>,
        without: Option<&'static str>,
    ) where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug
            + Send
            + Sync
            + 'static,
    {
        Box::pin(self.follow(self.api(), writer, config, key, without)).await;
    }

    /// Nodes that take no new pods, by name alone. An operator of one namespace has no right to
    /// nodes.
    async fn watch_drained_nodes(&self, writer: Writer<PartialObjectMeta<Node>>) {
        if self.namespace.is_none() {
            let api = Api::all(self.client.clone());
            let drained = watcher::Config::default().fields("spec.unschedulable=true");
            // What it changes is seen at the next tick.
            Box::pin(self.follow(api, writer, drained, |_| None, Some(NO_NODES))).await;
        }
    }

    /// The metadata says which is the newest, and by which template its pods are known.
    async fn watch_replica_sets(&self, writer: Writer<PartialObjectMeta<ReplicaSet>>) {
        let api = self.api();
        let ours = watcher::Config::default().labels(WORKER_LABEL);
        // What it changes is seen at the next tick: they change with each pod.
        Box::pin(self.follow(api, writer, ours, |_| None, Some(NO_REPLICA_SETS))).await;
    }

    /// What is looked at, in all namespaces or in the only one.
    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }

    async fn follow<K>(
        &self,
        api: Api<K>,
        writer: Writer<K>,
        config: watcher::Config,
        key: impl Fn(&kube::api::ObjectMeta) -> Option<Key>,
        without: Option<&'static str>,
    ) where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        let kind = K::kind(&());
        let mut is_told = false;
        watcher(api, config)
            .default_backoff()
            .modify(|object| object.managed_fields_mut().clear())
            .reflect(writer)
            .for_each(|event| {
                if event.is_ok() {
                    self.context.contact.succeeded();
                }
                match event {
                    Ok(watcher::Event::Apply(object)) => self.wake(key(object.meta())),
                    Ok(watcher::Event::Delete(object)) => {
                        self.wake(key(object.meta()));
                        self.context.forget_gone();
                    }
                    // Anything may have changed in between.
                    Ok(watcher::Event::InitDone) => {
                        is_told = false;
                        self.context.forget_gone();
                        for worker in self.context.stores.workers.state() {
                            self.wake(key_of(worker.meta()));
                        }
                    }
                    Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => {}
                    Err(error) => match without {
                        Some(without) if is_forbidden(&error) => {
                            if !std::mem::replace(&mut is_told, true) {
                                tracing::warn!(%kind, %error, "may not be read: {without}");
                            }
                        }
                        _ => tracing::warn!(%kind, %error, "a watch failed; it is begun again"),
                    },
                }
                std::future::ready(())
            })
            .await;
    }

    fn wake(&self, key: Option<Key>) {
        if let Some(key) = key {
            // Closed only while the program ends.
            let _ = self.wake.send(key);
        }
    }
}

fn is_forbidden(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(kube::Error::Api(status))
    | watcher::Error::WatchStartFailed(kube::Error::Api(status))
    | watcher::Error::WatchFailed(kube::Error::Api(status))
    | watcher::Error::WatchError(status)) = error
    else {
        return false;
    };
    status.code == 403
}

// === the reconciles ===

async fn reconcile_all(
    context: Arc<Context>,
    woken: UnboundedReceiver<Key>,
    stop: impl Future<Output = ()>,
) {
    let queue = stream::unfold(woken, async |mut woken| {
        let key = woken.recv().await?;
        Some((Ok::<_, Infallible>(key.worker()), woken))
    })
    .take_until(stop);
    let store = context.stores.workers.clone();
    applier(
        |object, context| reconcile(object, context).boxed(),
        error_policy,
        context,
        store,
        Box::pin(queue),
        controller::Config::default().concurrency(AT_ONCE),
    )
    .for_each(|done| {
        match done {
            Ok(_) => {}
            // A pod that bears the label of a worker that is gone, for example.
            Err(controller::Error::ObjectNotFound(what)) => tracing::debug!(%what, "gone"),
            Err(error) => tracing::warn!(%error, "a reconcile failed; it is tried again"),
        }
        std::future::ready(())
    })
    .await;
}

async fn reconcile(object: Arc<Guarded>, context: Arc<Context>) -> Result<Action, Error> {
    let timer = context.metrics.reconcile_seconds.start_timer();
    let observed = observe::observe(&context, &object)?;
    let plan = plan::plan(&observed, context.clock.now());
    context.metrics.note(&observed, &plan, context.clock.now());
    let upgrades = context.turns.note(&observed.key, plan.upgrade.clone());
    context.metrics.upgrades(upgrades);
    let result = apply::apply(&context, &observed.key, &observed.uid, plan).await;
    timer.observe_duration();
    if result.is_ok() {
        context.failures().remove(&observed.key);
        context.metrics.reconciled(Outcome::Ok);
    }
    result
}

#[expect(clippy::needless_pass_by_value, reason = "kube's signature")]
fn error_policy(object: Arc<Guarded>, _: &Error, context: Arc<Context>) -> Action {
    context.metrics.reconciled(Outcome::Error);
    let Some(key) = key_of(object.meta()) else {
        return Action::await_change();
    };
    let mut all = context.failures();
    let failures = all.entry(key).or_default();
    *failures = failures.saturating_add(1);
    Action::requeue(backoff::pause(*failures, fastrand::f64()))
}

impl Context {
    /// What is remembered of a worker.
    fn memory(&self, key: &Key) -> Memory {
        self.memories().get(key).cloned().unwrap_or_default()
    }

    fn remember(&self, key: &Key, memory: Memory) {
        // One that went in the meantime is forgotten already.
        if self.stores.has(key) {
            self.memories().insert(key.clone(), memory);
        }
    }

    fn forget_gone(&self) {
        let has = |key: &Key| self.stores.has(key);
        self.memories().retain(|key, _| has(key));
        self.failures().retain(|key, _| has(key));
        self.stores.forget_gone();
        self.sampling.forget_gone();
        self.cordons.forget_gone();
        self.turns.forget_gone(has);
        self.metrics.forget_gone(has);
    }

    fn memories(&self) -> MutexGuard<'_, HashMap<Key, Memory>> {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failures(&self) -> MutexGuard<'_, HashMap<Key, u32>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
