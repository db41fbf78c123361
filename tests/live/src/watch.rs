//! What becomes of a namespace's pods, and which numbers of replicas are written.

use std::{
    collections::BTreeSet,
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api, Client, ResourceExt as _,
    runtime::{WatchStreamExt as _, watcher},
};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::clock::now;

/// A pod's life. Times are seconds since 1970 in a log, and since its beginning in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PodSeen {
    /// Its name.
    pub name: String,
    /// When it was there.
    pub created: f64,
    /// When it first was ready.
    pub ready: Option<f64>,
    /// When it was told to end.
    pub leaving: Option<f64>,
    /// When it was no longer there.
    pub gone: Option<f64>,
}

/// What was seen, in order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Log {
    /// Every pod that ever was.
    pub pods: Vec<PodSeen>,
    /// The Deployment's `spec.replicas`: when, and to what.
    pub replicas: Vec<(f64, u32)>,
}

impl Log {
    fn pod(&mut self, told: Told<Pod>, at: f64) {
        match told {
            Told::Here(pod) => self.life(&pod, false, at),
            Told::Gone(pod) => self.life(&pod, true, at),
            Told::All(pods) => {
                let names: BTreeSet<String> = pods.iter().map(Pod::name_any).collect();
                for seen in &mut self.pods {
                    if seen.gone.is_none() && !names.contains(&seen.name) {
                        seen.leaving.get_or_insert(at);
                        seen.gone = Some(at);
                    }
                }
                for pod in &pods {
                    self.life(pod, false, at);
                }
            }
        }
    }

    fn life(&mut self, pod: &Pod, gone: bool, at: f64) {
        let name = pod.name_any();
        // A name that comes again after its pod is gone is another pod.
        let known = self
            .pods
            .iter()
            .rposition(|p| p.name == name && p.gone.is_none());
        let index = known.unwrap_or_else(|| {
            self.pods.push(PodSeen {
                name,
                created: at,
                ready: None,
                leaving: None,
                gone: None,
            });
            self.pods.len() - 1
        });
        let seen = &mut self.pods[index];
        if is_ready(pod) {
            seen.ready.get_or_insert(at);
        }
        if gone || pod.metadata.deletion_timestamp.is_some() {
            seen.leaving.get_or_insert(at);
        }
        if gone {
            seen.gone = Some(at);
        }
    }

    fn deployment(&mut self, told: Told<Deployment>, at: f64) {
        let here = match told {
            Told::Here(deployment) => vec![deployment],
            Told::All(deployments) => deployments,
            Told::Gone(_) => vec![],
        };
        for deployment in here {
            let replicas = deployment.spec.and_then(|s| s.replicas);
            let replicas = u32::try_from(replicas.unwrap_or(1)).unwrap_or(0);
            if self.replicas.last().is_none_or(|(_, n)| *n != replicas) {
                self.replicas.push((at, replicas));
            }
        }
    }

    /// Moves all times by so many seconds.
    pub fn shift(&mut self, by: f64) {
        for pod in &mut self.pods {
            pod.created += by;
            for at in [&mut pod.ready, &mut pod.leaving, &mut pod.gone] {
                *at = at.map(|at| at + by);
            }
        }
        for (at, _) in &mut self.replicas {
            *at += by;
        }
    }

    /// Pods that are there, leaving ones included.
    pub fn here(&self) -> usize {
        self.pods.iter().filter(|p| p.gone.is_none()).count()
    }

    /// Pods that take work.
    pub fn ready(&self) -> usize {
        let ready = |p: &&PodSeen| p.ready.is_some() && p.leaving.is_none();
        self.pods.iter().filter(ready).count()
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().filter_map(|s| s.conditions.as_ref());
    conditions
        .flatten()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}

/// Watches a namespace for as long as this lives.
#[derive(Debug)]
pub struct Watch {
    log: Arc<Mutex<Log>>,
    watching: [JoinHandle<()>; 2],
}

impl Watch {
    /// Begins.
    pub fn start(client: &Client, namespace: &str) -> Self {
        let log = Arc::<Mutex<Log>>::default();
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
        let config = watcher::Config::default();
        let (for_pods, for_deployments) = (log.clone(), log.clone());
        let watching = [
            tokio::spawn(follow(
                watcher(pods, config.clone()).default_backoff(),
                move |told| lock(&for_pods).pod(told, now()),
            )),
            tokio::spawn(follow(
                watcher(deployments, config).default_backoff(),
                move |told| lock(&for_deployments).deployment(told, now()),
            )),
        ];
        Self { log, watching }
    }

    /// What was seen so far.
    pub fn log(&self) -> Log {
        lock(&self.log).clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.watching.iter().for_each(JoinHandle::abort);
    }
}

fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a watch tells.
enum Told<K> {
    /// It is there, new or changed.
    Here(K),
    /// It is there no longer.
    Gone(K),
    /// These and no others are there: the watch begins, or begins anew.
    All(Vec<K>),
}

async fn follow<K: Debug + Send + Clone + 'static>(
    events: impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send,
    mut tell: impl FnMut(Told<K>) + Send,
) {
    let mut events = std::pin::pin!(events);
    let mut listed = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => listed.clear(),
            Ok(watcher::Event::InitApply(object)) => listed.push(object),
            Ok(watcher::Event::InitDone) => tell(Told::All(std::mem::take(&mut listed))),
            Ok(watcher::Event::Apply(object)) => tell(Told::Here(object)),
            Ok(watcher::Event::Delete(object)) => tell(Told::Gone(object)),
            Err(error) => eprintln!("a watch of the cluster broke and is begun anew: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(json: serde_json::Value) -> Pod {
        serde_json::from_value(json).unwrap()
    }

    fn starting(name: &str) -> Pod {
        pod(serde_json::json!({"metadata": {"name": name}}))
    }

    fn ready(name: &str) -> Pod {
        let status = serde_json::json!({"conditions": [{"type": "Ready", "status": "True"}]});
        pod(serde_json::json!({"metadata": {"name": name}, "status": status}))
    }

    #[test]
    fn a_pods_life_is_written_down_once() {
        let mut log = Log::default();
        log.pod(Told::Here(starting("a")), 1.0);
        log.pod(Told::Here(ready("a")), 3.0);
        log.pod(Told::Here(starting("a")), 4.0);
        log.pod(Told::Here(ready("a")), 5.0);
        log.pod(Told::Gone(ready("a")), 9.0);
        log.pod(Told::Here(starting("a")), 10.0);
        let first = PodSeen {
            name: "a".to_owned(),
            created: 1.0,
            ready: Some(3.0),
            leaving: Some(9.0),
            gone: Some(9.0),
        };
        assert_eq!(log.pods[0], first);
        assert_eq!((log.pods.len(), log.here(), log.ready()), (2, 1, 0));
    }

    #[test]
    fn who_went_while_nobody_watched_is_gone() {
        let mut log = Log::default();
        log.pod(Told::All(vec![ready("a"), ready("b")]), 1.0);
        log.pod(Told::All(vec![ready("b"), starting("c")]), 7.0);
        let gone: Vec<_> = log.pods.iter().map(|p| p.gone).collect();
        assert_eq!(gone, [Some(7.0), None, None]);
    }

    #[test]
    fn only_changes_of_the_replicas_are_kept() {
        let mut log = Log::default();
        for (n, at) in [(0, 1.0), (0, 2.0), (5, 3.0), (5, 4.0), (0, 9.0)] {
            let json = serde_json::json!({"metadata": {"name": "w"}, "spec": {"replicas": n, "selector": {}, "template": {}}});
            log.deployment(Told::Here(serde_json::from_value(json).unwrap()), at);
        }
        assert_eq!(log.replicas, [(1.0, 0), (3.0, 5), (9.0, 0)]);
    }
}
