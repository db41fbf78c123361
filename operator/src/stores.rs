//! What the watches keep in memory, and the specs read from it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use api::ConductorWorker;
use futures::FutureExt;
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentStatus, ReplicaSet},
        core::v1::{Node, Pod},
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Resource,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::reflector::{self, ObjectRef, Store, store::Writer},
};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::{
    WORKER_LABEL,
    controller::observed::Key,
    worker::{Defaults, Worker},
};

/// A worker, or what is wrong with its form: one bad object must not stop the watch.
pub type Guarded = DeserializeGuard<ConductorWorker>;

/// A Deployment with its pod template as the API server has it: the library's own type loses the
/// fields of newer versions of Kubernetes, and what is applied without them would replace pods.
#[derive(Debug, Clone, Default, Deserialize, Resource)]
#[resource(inherit = "Deployment")]
pub struct RawDeployment {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// What it is to be.
    pub spec: RawDeploymentSpec,
    /// What its controller says.
    pub status: Option<DeploymentStatus>,
}

/// What a Deployment is to be, as far as it is read.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct RawDeploymentSpec {
    /// How many pods.
    pub replicas: Option<i32>,
    /// Its pods are not replaced for now.
    pub paused: Option<bool>,
    /// The pod template.
    #[serde(deserialize_with = "in_arc")]
    pub template: Arc<Value>,
}

/// It is handed on at each reconcile.
fn in_arc<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<Value>, D::Error> {
    Value::deserialize(from).map(Arc::new)
}

/// The objects that are watched.
#[derive(Debug)]
pub struct Stores {
    /// The workers.
    pub workers: Store<Guarded>,
    /// The Deployments with the worker's label.
    pub deployments: Store<RawDeployment>,
    /// The `ReplicaSet`s with the worker's label; none where they may not be read.
    pub replica_sets: Store<PartialObjectMeta<ReplicaSet>>,
    /// The pods with the worker's label.
    pub pods: Store<Pod>,
    /// All `PodDisruptionBudget`s.
    pub budgets: Store<PodDisruptionBudget>,
    /// The nodes that take no new pods; none where nodes are not watched.
    pub drained_nodes: Store<PartialObjectMeta<Node>>,
    defaults: Defaults,
    parsed: Mutex<HashMap<Key, Parsed>>,
}

/// What the watches write the objects with.
pub struct Writers {
    /// The workers.
    pub workers: Writer<Guarded>,
    /// The Deployments.
    pub deployments: Writer<RawDeployment>,
    /// The `ReplicaSet`s.
    pub replica_sets: Writer<PartialObjectMeta<ReplicaSet>>,
    /// The pods.
    pub pods: Writer<Pod>,
    /// The `PodDisruptionBudget`s.
    pub budgets: Writer<PodDisruptionBudget>,
    /// The nodes that take no new pods.
    pub drained_nodes: Writer<PartialObjectMeta<Node>>,
}

#[derive(Debug)]
struct Parsed {
    uid: String,
    generation: i64,
    worker: Result<Arc<Worker>, String>,
}

impl Stores {
    /// Nothing is read yet; the writers fill it.
    pub fn new(defaults: Defaults) -> (Self, Writers) {
        let (workers, workers_writer) = reflector::store();
        let (deployments, deployments_writer) = reflector::store();
        let (replica_sets, replica_sets_writer) = reflector::store();
        let (pods, pods_writer) = reflector::store();
        let (budgets, budgets_writer) = reflector::store();
        let (drained_nodes, drained_nodes_writer) = reflector::store();
        let stores = Self {
            workers,
            deployments,
            replica_sets,
            pods,
            budgets,
            drained_nodes,
            defaults,
            parsed: Mutex::default(),
        };
        let writers = Writers {
            workers: workers_writer,
            deployments: deployments_writer,
            replica_sets: replica_sets_writer,
            pods: pods_writer,
            budgets: budgets_writer,
            drained_nodes: drained_nodes_writer,
        };
        (stores, writers)
    }

    /// A worker's spec, or why it cannot be run. Each generation is read once.
    pub fn parse(&self, key: &Key, object: &Guarded) -> Result<Arc<Worker>, String> {
        let worker = match &object.0 {
            Ok(worker) => worker,
            Err(invalid) => return Err(format!("the resource cannot be read: {invalid}")),
        };
        let uid = worker.metadata.uid.clone().unwrap_or_default();
        let generation = worker.metadata.generation.unwrap_or_default();
        let mut parsed = self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = parsed.get(key)
            && known.uid == uid
            && known.generation == generation
        {
            return known.worker.clone();
        }
        let read = Worker::parse(&worker.spec, &self.defaults)
            .map(Arc::new)
            .map_err(|invalid| invalid.to_string());
        parsed.insert(
            key.clone(),
            Parsed {
                uid,
                generation,
                worker: read.clone(),
            },
        );
        read
    }

    /// The Deployment of a worker's name.
    pub fn deployment(&self, key: &Key) -> Option<Arc<RawDeployment>> {
        self.deployments
            .get(&ObjectRef::new(&key.name).within(&key.namespace))
    }

    /// The template of a Deployment's newest version, as its pods have it in their label; none
    /// where that is not known yet, or not at all.
    pub fn newest_template(&self, deployment: &RawDeployment) -> Option<String> {
        let meta = &deployment.metadata;
        // Both are written by the Deployment's controller: while they differ, one is read late.
        let revision = meta.annotations.as_ref()?.get(REVISION)?;
        let is_newest = |set: &PartialObjectMeta<ReplicaSet>| {
            let owners = set.metadata.owner_references.iter().flatten();
            let annotations = set.metadata.annotations.as_ref();
            annotations.and_then(|all| all.get(REVISION)) == Some(revision)
                && owners
                    .map(|owner| Some(&owner.uid))
                    .any(|uid| uid == meta.uid.as_ref())
        };
        let found = self.replica_sets.state_filter(is_newest);
        template_of(&found.first()?.metadata)
    }

    /// The pods of a worker, those that ended left out.
    pub fn pods_of(&self, key: &Key) -> Vec<Arc<Pod>> {
        self.pods
            .state_filter(|pod| is_alive(pod) && labelled(pod.meta()).as_ref() == Some(key))
    }

    /// The `PodDisruptionBudget`s of a namespace; none while they have not been read.
    pub fn budgets_in(&self, namespace: &str) -> Option<Vec<Arc<PodDisruptionBudget>>> {
        self.budgets.wait_until_ready().now_or_never()?.ok()?;
        let is_in =
            |budget: &PodDisruptionBudget| budget.metadata.namespace.as_deref() == Some(namespace);
        Some(self.budgets.state_filter(is_in))
    }

    /// Whether a pod's node takes no new pods: most likely it is being drained.
    pub fn is_on_drained_node(&self, pod: &Pod) -> bool {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
        node.is_some_and(|node| self.drained_nodes.get(&ObjectRef::new(node)).is_some())
    }

    /// Whether there is such a worker.
    pub fn has(&self, key: &Key) -> bool {
        self.workers.get(&key.worker()).is_some()
    }

    /// Forgets what was read of workers that are gone.
    pub fn forget_gone(&self) {
        self.parsed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|key, _| self.has(key));
    }
}

/// A pod of a Deployment that has not ended. A pod that only bears the label is none of ours.
pub fn is_alive(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    let owned = pod
        .metadata
        .owner_references
        .iter()
        .flatten()
        .any(|owner| owner.controller == Some(true) && owner.kind == "ReplicaSet");
    owned && !matches!(phase, Some("Succeeded" | "Failed"))
}

/// Which version of a Deployment it is, on the Deployment and on its `ReplicaSet`s.
const REVISION: &str = "deployment.kubernetes.io/revision";

/// The template that a pod, or a `ReplicaSet`'s pods, were made from.
pub fn template_of(meta: &ObjectMeta) -> Option<String> {
    meta.labels.as_ref()?.get("pod-template-hash").cloned()
}

/// Lower goes first when a `ReplicaSet` shrinks; 0 without it.
pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// A pod's cost of deletion, where one is written.
pub fn deletion_cost(pod: &Pod) -> Option<i32> {
    let annotations = pod.metadata.annotations.as_ref()?;
    annotations.get(DELETION_COST)?.parse().ok()
}

/// The worker that an object is.
pub fn key_of(meta: &ObjectMeta) -> Option<Key> {
    Some(Key {
        namespace: meta.namespace.clone()?,
        name: meta.name.clone()?,
    })
}

/// The worker that an object belongs to, by its label.
pub fn labelled(meta: &ObjectMeta) -> Option<Key> {
    Some(Key {
        namespace: meta.namespace.clone()?,
        name: meta.labels.as_ref()?.get(WORKER_LABEL)?.clone(),
    })
}

impl Key {
    /// The worker as an object.
    pub fn worker(&self) -> ObjectRef<Guarded> {
        ObjectRef::new(&self.name).within(&self.namespace)
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher;
    use serde_json::{Value, from_value, json};

    use super::*;

    fn stores() -> (Stores, Writers) {
        Stores::new(Defaults {
            conductor_url: None,
            sidecar_image: String::new(),
            sidecar_image_pull_policy: String::new(),
        })
    }

    #[test]
    fn the_newest_template_is_the_one_of_the_deployments_revision() {
        let (stores, mut writers) = stores();
        let deployment = |revision: Value| -> RawDeployment {
            let annotations = json!({REVISION: revision});
            let metadata = json!({"uid": "d", "annotations": annotations});
            from_value(json!({"metadata": metadata, "spec": {"template": {}}, "status": null}))
                .unwrap()
        };
        let newest = |revision| stores.newest_template(&deployment(json!(revision)));
        assert_eq!(newest("1"), None);
        let mut add = |name: &str, owner: &str, revision: &str| {
            let set = from_value(json!({"metadata": {
                "name": name, "namespace": "shop",
                "labels": {"pod-template-hash": format!("hash-{name}")},
                "annotations": {REVISION: revision},
                "ownerReferences": [
                    {"apiVersion": "apps/v1", "kind": "Deployment", "name": "n", "uid": owner},
                ],
            }}));
            let event = watcher::Event::Apply(set.unwrap());
            writers.replica_sets.apply_watcher_event(&event);
        };
        add("a", "d", "1");
        add("b", "another", "2");
        add("c", "d", "3");
        assert_eq!(newest("1").unwrap(), "hash-a");
        assert_eq!(newest("2"), None, "not read yet");
        assert_eq!(newest("3").unwrap(), "hash-c");
        // Back to the old one.
        add("a", "d", "4");
        assert_eq!(newest("4").unwrap(), "hash-a");
    }

    #[test]
    fn budgets_are_unknown_until_they_are_read_and_nodes_are_fine_until_they_are_not() {
        let (stores, mut writers) = stores();
        let names = |namespace: &str| {
            let found = stores.budgets_in(namespace)?;
            let names = found.iter().map(|b| b.metadata.name.clone().unwrap());
            Some(names.collect::<Vec<_>>())
        };
        writers.budgets.apply_watcher_event(&watcher::Event::Init);
        assert_eq!(names("shop"), None);
        for (namespace, name) in [("shop", "a"), ("bank", "b")] {
            let meta = json!({"namespace": namespace, "name": name});
            let budget = from_value(json!({"metadata": meta})).unwrap();
            writers
                .budgets
                .apply_watcher_event(&watcher::Event::InitApply(budget));
        }
        writers
            .budgets
            .apply_watcher_event(&watcher::Event::InitDone);
        assert_eq!(names("shop").unwrap(), ["a"]);
        assert_eq!(names("other").unwrap(), [""; 0]);

        let pod = |node: Value| -> Pod {
            from_value(json!({"spec": {"containers": [], "nodeName": node}})).unwrap()
        };
        let is_drained = |node: &str| stores.is_on_drained_node(&pod(json!(node)));
        assert!(!is_drained("n"));
        let node: PartialObjectMeta<Node> = from_value(json!({"metadata": {"name": "n"}})).unwrap();
        writers
            .drained_nodes
            .apply_watcher_event(&watcher::Event::Apply(node.clone()));
        assert!(is_drained("n") && !is_drained("other"));
        assert!(!stores.is_on_drained_node(&pod(Value::Null)));
        writers
            .drained_nodes
            .apply_watcher_event(&watcher::Event::Delete(node));
        assert!(!is_drained("n"));
    }
}
