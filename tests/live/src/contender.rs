//! Who decides the number of pods, and what does the work in them.

use std::fmt;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::load::Load;

/// One of those that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contender {
    /// A `ConductorWorker`.
    Operator,
    /// KEDA with its own timings, over a Deployment of Go SDK workers.
    Keda,
    /// The same with the quickest timings that it takes.
    KedaFast,
    /// A Deployment of Go SDK workers, of one size.
    Fixed,
}

impl Contender {
    /// All, in the order of tables.
    pub const ALL: [Self; 4] = [Self::Operator, Self::Keda, Self::KedaFast, Self::Fixed];

    /// Its name in files, namespaces and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Keda => "keda",
            Self::KedaFast => "keda-fast",
            Self::Fixed => "fixed",
        }
    }

    /// How often HPAs must be looked at for it; `None` where there is none.
    pub fn hpa_sync(self) -> Option<&'static str> {
        match self {
            Self::Keda => Some("15s"),
            Self::KedaFast => Some("1s"),
            Self::Operator | Self::Fixed => None,
        }
    }

    /// What it is, for the page's reader.
    pub fn settings(self) -> &'static str {
        match self {
            Self::Operator => {
                "ConductorWorker with maxWait alone; sidecar and HTTP handler in each pod"
            }
            Self::Keda => {
                "KEDA 2.21 and HPA, defaults (pollingInterval 30 s, cooldownPeriod 300 s, HPA every 15 s); Go SDK worker; \
                 targetValue with the least J in the simulator"
            }
            Self::KedaFast => {
                "the same with pollingInterval 1 s, cooldownPeriod 30 s, HPA every 1 s without a limit of speed, 30 s of stabilisation; \
                 targetValue with the least J in the simulator"
            }
            Self::Fixed => {
                "a Deployment of Go SDK workers; the fewest replicas that keep late tasks to 1 % in the simulator"
            }
        }
    }
}

/// What was tuned for a contender and a load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub enum Setting {
    /// The operator has nothing to tune.
    #[default]
    Nothing,
    /// Queue entries for each pod, with KEDA.
    Target(f64),
    /// The fixed Deployment's size.
    Replicas(u32),
}

impl Setting {
    /// The pods that there are when nothing is to be done; `least` where something scales them.
    pub fn idle_pods(self, least: u32) -> u32 {
        match self {
            Self::Replicas(n) => n,
            Self::Nothing | Self::Target(_) => least,
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("–"),
            Self::Target(target) => write!(f, "target {target}"),
            Self::Replicas(n) => write!(f, "{n} replicas"),
        }
    }
}

/// Where a run takes place.
#[derive(Debug, Clone)]
pub struct Place {
    /// Of the task type, the worker and the Deployment.
    pub name: String,
    /// Conductor's API base, as pods see it.
    pub conductor: String,
    /// Where handlers tell what they do.
    pub ledger: String,
    /// The image of the HTTP handler.
    pub handler: String,
    /// The image of the Go SDK worker.
    pub worker: String,
}

/// What is applied for a contender. Pure.
pub fn manifests(
    contender: Contender,
    load: &Load,
    setting: Setting,
    place: &Place,
) -> Result<Vec<Value>> {
    let fast = json!({
        "pollingInterval": 1,
        "cooldownPeriod": 30,
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {
            "scaleUp": {
                "stabilizationWindowSeconds": 0,
                "policies": [{"type": "Pods", "value": load.max, "periodSeconds": 1}],
            },
            "scaleDown": {
                "stabilizationWindowSeconds": 30,
                "policies": [{"type": "Percent", "value": 100, "periodSeconds": 1}],
            },
        }}},
    });
    let scaled = |target, timings| {
        vec![
            deployment(load.min, load, place),
            scaled_object(load, target, timings, place),
        ]
    };
    Ok(match (contender, setting) {
        (Contender::Operator, Setting::Nothing) => vec![worker(load, place)],
        (Contender::Keda, Setting::Target(target)) => scaled(target, &json!({})),
        (Contender::KedaFast, Setting::Target(target)) => scaled(target, &fast),
        (Contender::Fixed, Setting::Replicas(n)) => vec![deployment(n, load, place)],
        (contender, setting) => bail!("{setting} is nothing for {}", contender.name()),
    })
}

fn worker(load: &Load, place: &Place) -> Value {
    json!({
        "apiVersion": "conductor-oss.org/v1alpha1",
        "kind": "ConductorWorker",
        "metadata": {"name": place.name},
        "spec": {
            "connection": {"url": place.conductor},
            "tasks": [{"name": place.name}],
            "concurrency": load.slots,
            "scaling": {
                "maxWait": format!("{}ms", load.max_wait * 1000.0),
                "minReplicas": load.min,
                "maxReplicas": load.max,
            },
            "template": {"spec": {
                "terminationGracePeriodSeconds": 600,
                "containers": [{
                    "name": "handler",
                    "image": place.handler,
                    "imagePullPolicy": "Never",
                    "env": environment(place),
                    "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
                    "resources": {"requests": {"cpu": "1m", "memory": "8Mi"}},
                }],
            }},
        },
    })
}

fn deployment(replicas: u32, load: &Load, place: &Place) -> Value {
    let mut env = environment(place);
    if let Some(env) = env.as_array_mut() {
        env.push(json!({"name": "CONDUCTOR_SERVER_URL", "value": place.conductor}));
        env.push(json!({"name": "SLOTS", "value": load.slots.to_string()}));
        env.push(json!({"name": "TASK_TYPE", "value": place.name}));
    }
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": place.name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": place.name}},
            "template": {
                "metadata": {"labels": {"app": place.name}},
                "spec": {"containers": [{
                    "name": "worker",
                    "image": place.worker,
                    "imagePullPolicy": "Never",
                    "env": env,
                    "resources": {"requests": {"cpu": "1m", "memory": "8Mi"}},
                }]},
            },
        },
    })
}

fn environment(place: &Place) -> Value {
    json!([
        {"name": "LEDGER_URL", "value": place.ledger},
        {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    ])
}

fn scaled_object(load: &Load, target: f64, more: &Value, place: &Place) -> Value {
    let url = format!(
        "{}/tasks/queue/size?taskType={}",
        place.conductor, place.name
    );
    let mut spec = json!({
        "scaleTargetRef": {"name": place.name},
        "minReplicaCount": load.min,
        "maxReplicaCount": load.max,
        "triggers": [{
            "type": "metrics-api",
            // The answer is a bare number.
            "metadata": {"url": url, "valueLocation": "@this", "targetValue": target.to_string()},
        }],
    });
    if let (Some(spec), Some(more)) = (spec.as_object_mut(), more.as_object()) {
        spec.extend(more.clone());
    }
    json!({
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": place.name},
        "spec": spec,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load() -> Load {
        Load {
            name: "burst".to_owned(),
            about: String::new(),
            max_wait: 60.0,
            duration: 100.0,
            slots: 20,
            min: 0,
            max: 30,
            response_timeout: 60,
            retry_delay: 1,
            jobs: vec![],
        }
    }

    fn place() -> Place {
        Place {
            name: "live-burst".to_owned(),
            conductor: "http://c/api".to_owned(),
            ledger: "http://l/".to_owned(),
            handler: "h:dev".to_owned(),
            worker: "w:dev".to_owned(),
        }
    }

    #[test]
    fn the_operator_is_told_times_alone() {
        let made = manifests(Contender::Operator, &load(), Setting::Nothing, &place()).unwrap();
        assert_eq!(made[0]["spec"]["scaling"]["maxWait"], "60000ms");
        assert_eq!(made[0]["spec"]["concurrency"], 20);
    }

    #[test]
    fn keda_reads_the_same_queue_size() {
        for contender in [Contender::Keda, Contender::KedaFast] {
            let made = manifests(contender, &load(), Setting::Target(50.0), &place()).unwrap();
            let metadata = &made[1]["spec"]["triggers"][0]["metadata"];
            let url = "http://c/api/tasks/queue/size?taskType=live-burst";
            assert_eq!(metadata["url"], url);
            assert_eq!(metadata["targetValue"], "50");
            let polling = &made[1]["spec"]["pollingInterval"];
            assert_eq!(polling.is_null(), contender == Contender::Keda);
        }
    }

    #[test]
    fn a_setting_of_another_is_refused() {
        let error = manifests(Contender::Fixed, &load(), Setting::Target(5.0), &place());
        let error = error.unwrap_err().to_string();
        assert_eq!(error, "target 5 is nothing for fixed");
    }
}
