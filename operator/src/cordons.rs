//! Tells sidecars to take no more tasks, and to take them again: `PUT` and `DELETE
//! http://POD:2112/cordon`, each with a token for that one pod.
//!
//! ```text
//! plan ─> orders ─> send ─> run: one call a pod at a time ─> told ─> observe
//!                                                        └─> wake
//! ```
//!
//! The key that signs is made anew by each process and kept nowhere: there is nothing to steal,
//! and nothing to change. A pod gets the public half as an annotation, together with the mark that
//! it is to go, and the kubelet writes it into a file of the sidecar's within a second or two.
//! The pod template names the annotation and not the key, so that no pod restarts for a new one.
//! Until the file is there the sidecar answers 401 or 503, and is asked again.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use reqwest::{Method, StatusCode};
use runtime::cordon::{Action, NoRandomness, SigningKey, audience};
use scaling::Instant;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use crate::{
    clock::Clock,
    controller::observed::Key,
    metrics::Metrics,
    sampling::{PodReading, pods},
    stores::Stores,
};

/// How long a cordon lasts that is not renewed: an operator that died leaves no pod cordoned.
pub const TTL: Duration = Duration::from_secs(30);

/// How long a cordoned pod that was idle is sure to be idle: its cordon lasts twice as long.
pub const PROOF: Duration = Duration::from_secs(TTL.as_secs() / 2);

/// How long the API server may take to write what was decided by such a proof. What is written later
/// could remove a pod that has taken tasks again.
pub const WRITE: Duration = Duration::from_secs(10);

const _: () = assert!(PROOF.as_secs() + WRITE.as_secs() < TTL.as_secs());

/// How many pods are told at once.
const AT_ONCE: usize = 64;

/// The pause before a pod is asked again that has not got the key yet.
const PAUSE: Duration = Duration::from_millis(500);

/// How often it is asked; the next tick asks again.
const TRIES: u32 = 10;

/// Something to tell a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Its name.
    pub pod: String,
    /// Its UID.
    pub uid: String,
    /// What it is to do.
    pub action: Action,
}

/// What came of the last order to a pod. Data only.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// What it was to do.
    pub action: Action,
    /// When the answer came.
    pub at: Instant,
    /// What the pod said then, or why it does not do it.
    pub answer: Result<PodReading, Untold>,
    /// Since when orders to this pod have failed.
    pub failing_since: Option<Instant>,
    /// Since when it has done this without a break.
    pub done_since: Option<Instant>,
}

impl Told {
    /// After what came of the order before.
    pub fn after(
        before: Option<&Self>,
        action: Action,
        at: Instant,
        answer: Result<PodReading, Untold>,
    ) -> Self {
        // A cordon that was renewed too late had ended meanwhile.
        let goes_on = |before: &&Self| {
            before.action == action && at.seconds_since(before.at) < TTL.as_secs_f64()
        };
        let (failing_since, done_since) = if answer.is_ok() {
            let since = before.filter(goes_on).and_then(|told| told.done_since);
            (None, since.or(Some(at)))
        } else {
            let since = before.and_then(|told| told.failing_since);
            (since.or(Some(at)), None)
        };
        Self {
            action,
            at,
            answer,
            failing_since,
            done_since,
        }
    }
}

/// Why a pod does not do as it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Untold {
    /// It cannot: its sidecar is one that has no cordon, or was given no place for the key.
    Unable,
    /// It has not got this operator's key, or its clock is wrong.
    NoKey,
    /// It does not answer, or with an error.
    Failed,
}

impl Untold {
    /// Every one, for those who count them.
    pub const ALL: [Self; 3] = [Self::Unable, Self::NoKey, Self::Failed];

    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unable => "unable",
            Self::NoKey => "no_key",
            Self::Failed => "failed",
        }
    }
}

/// What pods were told, and the loop that tells them.
#[derive(Debug)]
pub struct Cordons {
    caller: Caller,
    /// Where sidecars listen.
    port: u16,
    stores: Arc<Stores>,
    metrics: Metrics,
    wake: UnboundedSender<Key>,
    orders: UnboundedSender<(Key, Order)>,
    told: Mutex<HashMap<String, Told>>,
}

/// Why nobody can be told anything.
#[derive(Debug, thiserror::Error)]
pub enum CannotTell {
    /// No key.
    #[error(transparent)]
    Key(#[from] NoRandomness),
    /// No client.
    #[error("making the HTTP client for sidecars: {0}")]
    Client(#[from] reqwest::Error),
}

/// Orders on their way to [`Cordons::run`].
pub type Orders = UnboundedReceiver<(Key, Order)>;

impl Cordons {
    /// Nobody is told anything yet. Workers of which a pod has answered go to `wake`.
    pub fn new(
        stores: Arc<Stores>,
        metrics: Metrics,
        clock: Clock,
        wake: UnboundedSender<Key>,
    ) -> Result<(Self, Orders), CannotTell> {
        let (orders, taken) = tokio::sync::mpsc::unbounded_channel();
        let cordons = Self {
            caller: Caller {
                key: SigningKey::generate()?,
                http: pods::client()?,
                clock,
            },
            port: api::SIDECAR_PORT,
            stores,
            metrics,
            wake,
            orders,
            told: Mutex::default(),
        };
        Ok((cordons, taken))
    }

    /// The public half of the key, as pods are to have it.
    pub fn public_key(&self) -> String {
        self.caller.key.public()
    }

    /// Tells pods, soon.
    pub fn send(&self, key: &Key, orders: Vec<Order>) {
        for order in orders {
            // Closed only while the program ends.
            let _ = self.orders.send((key.clone(), order));
        }
    }

    /// What came of the last orders to these pods, by UID.
    pub fn told<'a>(&self, uids: impl Iterator<Item = &'a str>) -> BTreeMap<String, Told> {
        let told = self.all();
        uids.filter_map(|uid| told.get_key_value(uid))
            .map(|(uid, told)| (uid.clone(), told.clone()))
            .collect()
    }

    /// Forgets pods that are gone.
    pub fn forget_gone(&self) {
        let there: BTreeSet<String> = self
            .stores
            .pods
            .state()
            .iter()
            .filter_map(|pod| pod.metadata.uid.clone())
            .collect();
        self.all().retain(|uid, _| there.contains(uid));
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells pods until it is dropped. Each pod is told one thing at a time, and of what has
    /// come meanwhile only the last.
    pub async fn run(&self, mut orders: Orders) {
        let mut waiting: HashMap<String, (Key, Order)> = HashMap::new();
        let mut busy: HashSet<String> = HashSet::new();
        let mut calls: FuturesUnordered<BoxFuture<'_, Call>> = FuturesUnordered::new();
        loop {
            tokio::select! {
                order = orders.recv() => {
                    let Some((key, order)) = order else { return };
                    waiting.insert(order.uid.clone(), (key, order));
                }
                Some(call) = calls.next(), if !calls.is_empty() => {
                    let superseded = waiting.contains_key(&call.order.uid);
                    let again = call.answer == Err(Untold::NoKey) && call.tries < TRIES;
                    if again && !superseded {
                        calls.push(Box::pin(self.call_again(call)));
                        continue;
                    }
                    busy.remove(&call.order.uid);
                    self.note(call);
                }
            }
            while calls.len() < AT_ONCE
                && let Some(uid) = waiting.keys().find(|uid| !busy.contains(*uid)).cloned()
                && let Some((key, order)) = waiting.remove(&uid)
            {
                busy.insert(uid);
                calls.push(Box::pin(self.call(key, order, 1)));
            }
        }
    }

    async fn call_again(&self, call: Call) -> Call {
        tokio::time::sleep(PAUSE).await;
        self.call(call.key, call.order, call.tries + 1).await
    }

    async fn call(&self, key: Key, order: Order, tries: u32) -> Call {
        let answer = match self.address(&order.uid) {
            Some(address) => self.caller.call(address, &order).await,
            // It is gone, or has no address yet.
            None => Err(Untold::Failed),
        };
        let result = answer.as_ref().err().map_or("ok", |why| why.as_str());
        self.metrics.told(order.action, result);
        Call {
            key,
            order,
            tries,
            answer,
        }
    }

    fn address(&self, uid: &str) -> Option<SocketAddr> {
        let pods = self.stores.pods.state();
        let mut pods = pods.iter();
        let pod = pods.find(|pod| pod.metadata.uid.as_deref() == Some(uid))?;
        Some(SocketAddr::new(pods::ip(pod)?, self.port))
    }

    fn note(&self, call: Call) {
        let Call {
            key, order, answer, ..
        } = call;
        let at = self.caller.clock.now().clock;
        let mut all = self.all();
        let told = Told::after(all.get(&order.uid), order.action, at, answer);
        all.insert(order.uid, told);
        drop(all);
        // Closed only while the program ends.
        let _ = self.wake.send(key);
    }
}

/// A call that has ended.
struct Call {
    key: Key,
    order: Order,
    tries: u32,
    answer: Result<PodReading, Untold>,
}

/// Makes the calls.
#[derive(Debug)]
struct Caller {
    key: SigningKey,
    http: reqwest::Client,
    clock: Clock,
}

impl Caller {
    async fn call(&self, address: SocketAddr, order: &Order) -> Result<PodReading, Untold> {
        let answer = self.answer(address, order).await;
        answer.map_err(|(why, said)| {
            tracing::debug!(pod = order.pod, action = %order.action, said, "a pod was not told");
            why
        })
    }

    async fn answer(
        &self,
        address: SocketAddr,
        order: &Order,
    ) -> Result<PodReading, (Untold, String)> {
        let (method, query) = match order.action {
            Action::Cordon => (Method::PUT, format!("?ttl={}s", TTL.as_secs())),
            Action::Uncordon => (Method::DELETE, String::new()),
        };
        let wall = self.clock.now().wall.as_second();
        let to = audience(&order.pod, Some(&order.uid));
        let token = self
            .key
            .sign(&to, order.action, u64::try_from(wall).unwrap_or_default());
        let failed = |error: &reqwest::Error| (Untold::Failed, error.to_string());
        let answer = self
            .http
            .request(method, format!("http://{address}/cordon{query}"))
            .bearer_auth(token)
            .send()
            .await
            .map_err(|e| failed(&e))?;
        let why = match answer.status() {
            done if done.is_success() => {
                let stats = pods::read(answer).await;
                let stats = stats.map_err(|said| (Untold::Failed, said))?;
                return Ok(stats.reading(self.clock.now().clock));
            }
            StatusCode::NOT_FOUND
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::NOT_IMPLEMENTED => Untold::Unable,
            StatusCode::UNAUTHORIZED | StatusCode::SERVICE_UNAVAILABLE => Untold::NoKey,
            _ => Untold::Failed,
        };
        let status = answer.status();
        let said = answer.text().await.map_err(|e| failed(&e))?;
        Err((why, format!("{status}: {said}")))
    }
}

#[cfg(test)]
mod tests;
