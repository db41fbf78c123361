//! The Deployment: the user's template, kept as written, and what is added to it.

use api::{ConductorWorker, LOCAL_API_PORT, SIDECAR_CONTAINER, SIDECAR_PORT};
use kube::Resource;
use serde_json::{Map, Value, json};

use crate::{
    FIELD_MANAGER, WORKER_LABEL,
    controller::observed::Key,
    worker::{CORDON_MOUNT, MOUNT, SPOOL_MOUNT, Worker, cordon_volume, local_api},
};

/// How long a new pod has to get ready beside what its probes give it: for its node, its images
/// and its start. Kubernetes' own default.
const START: u64 = 600;

/// The Deployment of a worker. Scaling fields change nothing in it but `spec.replicas`.
pub fn deployment(key: &Key, uid: &str, worker: &Worker, replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(key, uid),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {WORKER_LABEL: key.name}},
            // A new version must take work for ten seconds before old pods go. It slows
            // rollouts only: scaling counts a pod from its first readiness.
            "minReadySeconds": 10,
            "progressDeadlineSeconds": progress_deadline(&worker.template),
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"},
            },
            "template": template(key, worker),
        },
    })
}

/// The metadata of all that is made for a worker: its name, and by what it is told apart from what is
/// the user's.
pub(super) fn metadata(key: &Key, uid: &str) -> Value {
    json!({
        "name": key.name,
        "namespace": key.namespace,
        "labels": labels(key),
        "ownerReferences": [{
            "apiVersion": ConductorWorker::api_version(&()),
            "kind": ConductorWorker::kind(&()),
            "name": key.name,
            "uid": uid,
            "controller": true,
            "blockOwnerDeletion": true,
        }],
    })
}

fn labels(key: &Key) -> Value {
    json!({
        "app.kubernetes.io/name": key.name,
        "app.kubernetes.io/instance": key.name,
        "app.kubernetes.io/managed-by": FIELD_MANAGER,
        WORKER_LABEL: key.name,
    })
}

/// In seconds. What a startup probe lets a handler take is no stall.
fn progress_deadline(template: &Map<String, Value>) -> u64 {
    let spec = template.get("spec").unwrap_or(&Value::Null);
    let of = |name: &str| spec[name].as_array().into_iter().flatten();
    let allowed = of("containers")
        .chain(of("initContainers"))
        .map(|container| {
            let number = |probe: &str, field: &str, default| {
                let given = container[probe][field].as_u64();
                // Kubernetes' own are of 32 bits: what is larger is refused with the pods.
                given.unwrap_or(default).min(1 << 20)
            };
            let startup = "startupProbe";
            let delay = number(startup, "initialDelaySeconds", 0);
            let tries = match container[startup] {
                Value::Null => 0,
                _ => number(startup, "periodSeconds", 10) * number(startup, "failureThreshold", 3),
            };
            (delay + tries).max(number("readinessProbe", "initialDelaySeconds", 0))
        });
    // Validation wants 32 bits here, too.
    (START + allowed.max().unwrap_or_default()).min(1 << 30)
}

fn template(key: &Key, worker: &Worker) -> Value {
    let mut template = worker.template.clone();
    edit(&mut template, "metadata", |metadata| {
        // These belong to the pod, and are not the template's to choose.
        metadata.remove("name");
        metadata.remove("namespace");
        edit(metadata, "labels", |own| {
            if let Value::Object(labels) = labels(key) {
                for (label, value) in labels {
                    // What the user set wins; the worker's label cannot be set by them.
                    own.entry(label).or_insert(value);
                }
            }
        });
        edit(metadata, "annotations", |own| {
            own.entry("kubectl.kubernetes.io/default-container")
                .or_insert_with(|| json!(worker.handler.container));
        });
    });
    edit(&mut template, "spec", |spec| prepare_pod(spec, worker));
    Value::Object(template)
}

/// The pods' spec: time to stop, and the sidecar.
fn prepare_pod(spec: &mut Map<String, Value>, worker: &Worker) {
    spec.insert(
        "terminationGracePeriodSeconds".to_owned(),
        json!(worker.grace.as_secs()),
    );
    if let Some(Value::Array(containers)) = spec.get_mut("containers") {
        for container in containers {
            if let Value::Object(container) = container {
                prepare(container, worker);
            }
        }
    }
    // The last one: native sidecars stop in reverse order, so that a mesh proxy, which this
    // one needs to the end, outlives it.
    match spec.entry("initContainers").or_insert_with(|| json!([])) {
        Value::Array(init) => init.push(sidecar(worker)),
        other => *other = json!([sidecar(worker)]),
    }
    let own = worker.connection.volume().into_iter();
    let own = own.chain([worker.spool_volume(), cordon_volume()]);
    match spec.entry("volumes").or_insert_with(|| json!([])) {
        Value::Array(volumes) => volumes.extend(own),
        other => *other = own.collect(),
    }
}

/// A regular container: it must not stop before the running tasks are done.
fn prepare(container: &mut Map<String, Value>, worker: &Worker) {
    if container.get("name").and_then(Value::as_str) == Some(&worker.handler.container)
        && let Value::Array(env) = container.entry("env").or_insert_with(|| json!([]))
    {
        for (name, value) in [
            ("PORT", worker.handler.port.to_string()),
            // Not Conductor's own: the sidecar has the credentials, the handler needs none.
            ("CONDUCTOR_SERVER_URL", local_api(LOCAL_API_PORT)),
        ] {
            // What the user set wins.
            if !env.iter().any(|e| e["name"] == name) {
                env.push(json!({"name": name, "value": value}));
            }
        }
    }
    edit(container, "lifecycle", |hooks| {
        if hooks.get("preStop").is_none_or(Value::is_null) {
            hooks.insert(
                "preStop".to_owned(),
                json!({"httpGet": {"path": "/drain", "port": SIDECAR_PORT}}),
            );
        }
    });
}

/// The sidecar. No startup probe and no postStart: the handler starts after it, so waiting
/// for the handler there would be a deadlock.
fn sidecar(worker: &Worker) -> Value {
    let mut env = Vec::from(
        [
            ("CONDUCTOR_WORKER_ID", "metadata.name"),
            ("POD_UID", "metadata.uid"),
        ]
        .map(|(name, path)| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}})),
    );
    env.extend(
        worker
            .sidecar_env()
            .into_iter()
            .chain(worker.pod_env())
            .map(|(name, value)| json!({"name": name, "value": escaped(&value)})),
    );
    let mut resources = Map::new();
    for (what, amounts) in [
        ("requests", &worker.sidecar.resources.requests),
        ("limits", &worker.sidecar.resources.limits),
    ] {
        if !amounts.is_empty() {
            resources.insert(what.to_owned(), json!(amounts));
        }
    }
    let mut sidecar = json!({
        "name": SIDECAR_CONTAINER,
        "image": worker.sidecar.image,
        "imagePullPolicy": worker.sidecar.image_pull_policy,
        "restartPolicy": "Always",
        "env": env,
        "ports": [{"name": "sidecar", "containerPort": SIDECAR_PORT, "protocol": "TCP"}],
        "readinessProbe": {
            "httpGet": {"path": "/readyz", "port": "sidecar"},
            "periodSeconds": 1,
            "failureThreshold": 1,
        },
        // It depends neither on the handler nor on Conductor.
        "livenessProbe": {
            "httpGet": {"path": "/healthz", "port": "sidecar"},
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 3,
        },
        "lifecycle": {"preStop": {"exec": {"command": ["worker-sidecar", "terminating"]}}},
        "resources": resources,
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "readOnlyRootFilesystem": true,
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    });
    let connection = worker
        .connection
        .volume()
        .map(|volume| json!({"name": volume["name"], "mountPath": MOUNT, "readOnly": true}));
    let spool = json!({"name": worker.spool_volume()["name"], "mountPath": SPOOL_MOUNT});
    let cordon =
        json!({"name": cordon_volume()["name"], "mountPath": CORDON_MOUNT, "readOnly": true});
    sidecar["volumeMounts"] = connection.into_iter().chain([spool, cordon]).collect();
    sidecar
}

/// Kubernetes replaces `$(NAME)` in values; `$$` is how a `$` is written.
fn escaped(value: &str) -> String {
    value.replace('$', "$$")
}

/// Edits the object of this name, made where there is none (or something else).
fn edit(parent: &mut Map<String, Value>, name: &str, change: impl FnOnce(&mut Map<String, Value>)) {
    let value = parent.entry(name).or_insert(Value::Null);
    let mut map = match value.take() {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    change(&mut map);
    *value = Value::Object(map);
}
