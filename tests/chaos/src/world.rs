//! Everything that a run needs: a worker in a namespace of its own, Conductor behind a gateway that
//! asks for keys and a proxy that breaks, and who watches.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use api::ConductorWorker;
use conductor_client::TaskDef;
use faults::proxy::Proxy;
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::{Namespace, Pod, PodSpec, Secret},
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use live::{
    ledger::{Execution, Ledger},
    replay::register,
    stage::Stage,
    watch::Watch,
};
use serde_json::{Value, json};

use crate::{
    gate::{Gate, Keys},
    process::script,
    retry::{again, until},
    setting::{Setting, Subject, Version},
    turns::Turns,
};

/// The container that executes.
pub const HANDLER: &str = "handler";

/// The Secret with the worker's keys.
pub const KEYS: &str = "keys";

/// A run's world.
pub struct World<'a> {
    /// The cluster.
    pub stage: &'a Stage,
    /// What it is about.
    pub setting: Setting,
    /// What stands between the pods and Conductor.
    pub proxy: Proxy,
    /// Who asks for keys.
    pub gate: Gate,
    /// What the handlers tell.
    pub ledger: Ledger,
    /// What becomes of the pods.
    pub watch: Watch,
    /// The number of the keys that are valid.
    pub keys: AtomicU32,
    /// The number of the version that was applied last.
    pub version: AtomicU32,
    /// What one thing that goes wrong does at a time.
    pub turns: Turns,
}

impl<'a> World<'a> {
    /// Starts what stands around the pods. None is there yet.
    pub async fn start(stage: &'a Stage, setting: Setting) -> Result<Self> {
        let namespace = setting.name.clone();
        let gate = Gate::start(stage.address, &stage.conductor).await?;
        gate.admit(Keys::numbered(1));
        // Its dice are never rolled: what breaks here breaks for all requests.
        let proxy = Proxy::start_on(stage.address, &gate.base(), 1).await?;
        let ledger = Ledger::start(stage.address).await?;
        let watch = Watch::start(&stage.kube, &namespace);
        Ok(Self {
            stage,
            setting,
            proxy,
            gate,
            ledger,
            watch,
            keys: AtomicU32::new(1),
            version: AtomicU32::new(1),
            turns: Turns::default(),
        })
    }

    /// Sets the pods up, and waits until every one is ready.
    pub async fn set_up(&self) -> Result<()> {
        self.define().await?;
        self.create_namespace().await?;
        self.put_keys(&Keys::numbered(1)).await?;
        self.create().await?;
        self.settle(self.setting.replicas).await
    }

    /// A new one: one that was interrupted may have left it.
    async fn create_namespace(&self) -> Result<()> {
        self.tear_down().await?;
        let namespaces: Api<Namespace> = Api::all(self.stage.kube.clone());
        let namespace = json!({"metadata": {"name": self.setting.name}});
        let namespace = serde_json::from_value(namespace)?;
        namespaces
            .create(&PostParams::default(), &namespace)
            .await?;
        Ok(())
    }

    /// Removes the namespace and all that is in it, and waits until it is gone. A network that is
    /// still cut is whole first: the operator has to see to its workers' end.
    pub async fn tear_down(&self) -> Result<()> {
        script("cut", &["off"]).await?;
        let namespaces: Api<Namespace> = Api::all(self.stage.kube.clone());
        let name = &self.setting.name;
        // Workers first: their pods' deletion is nobody's but the Deployment's then.
        again("the namespace is gone", || async {
            if namespaces.get_opt(name).await?.is_none() {
                return Ok(());
            }
            let all = ListParams::default();
            let how = DeleteParams::default();
            self.workers().delete_collection(&how, &all).await?;
            namespaces.delete(name, &how).await?;
            anyhow::bail!("it is still there")
        })
        .await
    }

    async fn define(&self) -> Result<()> {
        let name = &self.setting.name;
        let task = TaskDef {
            retry_count: Some(self.setting.retries),
            retry_delay_seconds: Some(1),
            response_timeout_seconds: Some(self.setting.lease.into()),
            timeout_seconds: Some(0),
            ..TaskDef::named(name)
        };
        register(&self.stage.bed.conductor, task).await
    }

    async fn create(&self) -> Result<()> {
        let name = &self.setting.name;
        let first = Version {
            number: self.version.load(Ordering::Relaxed),
            ..Version::default()
        };
        let field = PatchParams::apply("chaos");
        if self.setting.subject == Subject::Worker {
            let worker = self.worker(first)?;
            let api = self.workers();
            api.patch(name, &field, &Patch::Apply(worker)).await?;
        } else {
            let deployment = self.deployment(first)?;
            let api = self.deployments();
            api.patch(name, &field, &Patch::Apply(deployment)).await?;
        }
        Ok(())
    }

    fn worker(&self, version: Version) -> Result<Value> {
        let Setting { name, slots, .. } = &self.setting;
        let connection = if self.setting.guarded {
            json!({"url": self.proxy.base(), "authSecretRef": {"name": KEYS}})
        } else {
            json!({"url": self.stage.conductor})
        };
        Ok(json!({
            "apiVersion": "conductor-oss.org/v1alpha1",
            "kind": "ConductorWorker",
            "metadata": {"name": name},
            "spec": {
                "connection": connection,
                "tasks": [{"name": name}],
                "concurrency": slots,
                "scaling": {"mode": "External"},
                "replicas": self.setting.replicas,
                "template": {"spec": {
                    "terminationGracePeriodSeconds": self.setting.grace,
                    "containers": [{
                        "name": HANDLER,
                        "image": self.stage.bed.image("live-handler")?,
                        "imagePullPolicy": "Never",
                        "env": self.environment(version),
                        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
                        "resources": {"requests": {"cpu": "1m", "memory": "8Mi"}, "limits": {"memory": "64Mi"}},
                    }],
                }},
            },
        }))
    }

    fn deployment(&self, version: Version) -> Result<Value> {
        let Setting { name, replicas, .. } = &self.setting;
        Ok(json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}},
                    "spec": {
                        "terminationGracePeriodSeconds": self.setting.grace,
                        "containers": [{
                            "name": HANDLER,
                            "image": self.stage.bed.image("live-worker")?,
                            "imagePullPolicy": "Never",
                            "env": self.environment(version),
                            "resources": {"requests": {"cpu": "1m", "memory": "8Mi"}},
                        }],
                    },
                },
            },
        }))
    }

    fn environment(&self, version: Version) -> Value {
        let mut env = vec![
            json!({"name": "LEDGER_URL", "value": self.ledger.url()}),
            json!({"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}),
            json!({"name": "VERSION", "value": version.number.to_string()}),
        ];
        let mut add = |name: &str, value: String| env.push(json!({"name": name, "value": value}));
        if version.fails {
            add("FAIL", "1".to_owned());
        }
        if version.starts_in > 0 {
            add("START_SECONDS", version.starts_in.to_string());
        }
        if self.setting.subject != Subject::Worker {
            add("CONDUCTOR_SERVER_URL", self.stage.conductor.clone());
            add("SLOTS", self.setting.slots.to_string());
            add("TASK_TYPE", self.setting.name.clone());
        }
        if self.setting.subject == Subject::SdkCareful {
            add("CAREFUL", "1".to_owned());
        }
        Value::Array(env)
    }

    /// The pods.
    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.stage.kube.clone(), &self.setting.name)
    }

    /// The Deployments.
    pub fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.stage.kube.clone(), &self.setting.name)
    }

    /// The workers.
    pub fn workers(&self) -> Api<ConductorWorker> {
        Api::namespaced(self.stage.kube.clone(), &self.setting.name)
    }

    /// Pods that run and are not told to end, by their names.
    pub async fn running(&self) -> Result<Vec<Pod>> {
        let pods = again("the pods", || async {
            Ok(self.pods().list(&ListParams::default()).await?)
        });
        let is_running = |pod: &Pod| {
            let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
            phase == Some("Running") && pod.metadata.deletion_timestamp.is_none()
        };
        let mut pods: Vec<Pod> = pods.await?.into_iter().filter(is_running).collect();
        pods.sort_by_key(Pod::name_any);
        Ok(pods)
    }

    /// Writes the keys that the worker proves who it is with.
    pub async fn put_keys(&self, keys: &Keys) -> Result<()> {
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": KEYS},
            "stringData": {"key": keys.key_id, "secret": keys.key_secret},
        });
        let secrets: Api<Secret> = Api::namespaced(self.stage.kube.clone(), &self.setting.name);
        let field = PatchParams::apply("chaos").force();
        again("the keys are written", || async {
            secrets.patch(KEYS, &field, &Patch::Apply(&secret)).await?;
            Ok(())
        })
        .await
    }

    /// Applies a version of the template.
    pub async fn apply(&self, version: Version) -> Result<()> {
        let patch = json!([{
            "op": "replace",
            "path": "/spec/template/spec/containers/0/env",
            "value": self.environment(version),
        }]);
        let patch = Patch::Json::<()>(serde_json::from_value(patch)?);
        let (name, field) = (&self.setting.name, PatchParams::default());
        again("the template is patched", || async {
            if self.setting.subject == Subject::Worker {
                self.workers().patch(name, &field, &patch).await?;
            } else {
                self.deployments().patch(name, &field, &patch).await?;
            }
            Ok(())
        })
        .await
    }

    /// Asks for so many pods.
    pub async fn scale(&self, replicas: u32) -> Result<()> {
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        let (name, field) = (&self.setting.name, PatchParams::default());
        again("replicas are written", || async {
            if self.setting.subject == Subject::Worker {
                self.workers().patch_scale(name, &field, &patch).await?;
            } else {
                self.deployments().patch_scale(name, &field, &patch).await?;
            }
            Ok(())
        })
        .await
    }

    /// The names of the `ReplicaSets` of a version.
    pub async fn replica_sets(&self, version: u32) -> Result<Vec<String>> {
        let all: Api<ReplicaSet> = Api::namespaced(self.stage.kube.clone(), &self.setting.name);
        let all = all.list(&ListParams::default()).await?;
        let of_it = all.items.iter().filter(|set| {
            let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
            let spec = template.and_then(|template| template.spec.as_ref());
            version_of(spec) == Some(version)
        });
        Ok(of_it.map(ReplicaSet::name_any).collect())
    }

    /// Asks for the setting's pods again, and waits until they are there alone.
    pub async fn as_many_as_before(&self) -> Result<()> {
        self.scale(self.setting.replicas).await?;
        self.settle(self.setting.replicas).await
    }

    /// Waits until so many pods are ready, all of one template, and no others are there.
    pub async fn settle(&self, replicas: u32) -> Result<()> {
        let what = format!("{replicas} pods are ready and no others are there");
        until(&what, self.patience(), || async {
            self.as_asked(replicas).await?;
            let there = self.pods().list(&ListParams::default()).await?.items.len();
            ensure!(
                there == usize::try_from(replicas)?,
                "{there} pods are there"
            );
            Ok(())
        })
        .await
    }

    /// Waits until all pods are of the version and ready. Others may be ending what they have.
    pub async fn rolled_out(&self, version: Version) -> Result<()> {
        let what = format!("version {} is rolled out", version.number);
        until(&what, self.patience(), || async {
            let deployment = self.as_asked(self.setting.replicas).await?;
            ensure!(
                wanted_version(&deployment) == Some(version.number),
                "it is another"
            );
            Ok(())
        })
        .await
    }

    /// The Deployment as it is.
    pub async fn live_deployment(&self) -> Result<Deployment> {
        Ok(self.deployments().get(&self.setting.name).await?)
    }

    /// The Deployment, where so many pods are all there is, but for those that end.
    async fn as_asked(&self, replicas: u32) -> Result<Deployment> {
        let deployment = self.live_deployment().await?;
        let wanted = i32::try_from(replicas)?;
        let status = deployment.status.clone().unwrap_or_default();
        let is_seen = status.observed_generation == deployment.metadata.generation;
        let found = [
            status.replicas,
            status.updated_replicas,
            status.ready_replicas,
        ];
        let found = found.map(Option::unwrap_or_default);
        ensure!(
            is_seen && found == [wanted; 3],
            "of the Deployment are there, updated, ready: {found:?}"
        );
        Ok(deployment)
    }

    /// A grace period that is used up, and a rollout that waits for it.
    fn patience(&self) -> Duration {
        Duration::from_secs(240 + 2 * u64::from(self.setting.grace))
    }

    /// The executions so far, by their tasks.
    pub fn executions(&self) -> BTreeMap<String, Vec<Execution>> {
        let mut by_task = BTreeMap::<String, Vec<Execution>>::new();
        for execution in self.ledger.executions() {
            let of_task = by_task.entry(execution.task.clone()).or_default();
            of_task.push(execution);
        }
        by_task
    }

    /// The port that pods tell the ledger at.
    pub fn ledger_port(&self) -> Result<u16> {
        let url = self.ledger.url();
        let port = url.trim_end_matches('/').rsplit(':').next();
        let port = port.and_then(|port| port.parse().ok());
        port.with_context(|| format!("{url} has no port"))
    }
}

/// The version of a Deployment's template.
pub fn wanted_version(deployment: &Deployment) -> Option<u32> {
    let template = deployment.spec.as_ref().map(|spec| &spec.template);
    version_of(template.and_then(|template| template.spec.as_ref()))
}

/// The version that a pod or a template is of.
pub fn version_of(spec: Option<&PodSpec>) -> Option<u32> {
    let containers = spec.into_iter().flat_map(|spec| &spec.containers);
    let mut env = containers.flat_map(|container| container.env.iter().flatten());
    let version = env.find(|e| e.name == "VERSION")?;
    version.value.as_ref()?.parse().ok()
}

/// Where a pod that runs can be called.
///
/// # Errors
/// Where it has no address.
pub fn address(pod: &Pod) -> Result<&str> {
    let status = pod.status.as_ref();
    let ip = status.and_then(|status| status.pod_ip.as_deref());
    ip.context("a pod that runs has no address")
}
