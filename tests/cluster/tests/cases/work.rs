//! A worker's life: none, many, another version, none, gone.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context, Result, ensure};
use cluster::{Bed, Load, root, until};
use conductor_client::{TaskDef, WorkflowDef};
use serde_json::{Map, Value, json};

use super::WORKERS;

const MINUTE: Duration = Duration::from_secs(60);

/// `examples/greet/worker.yaml`, with Conductor behind the address that it names.
pub(crate) fn a_worker_starts_with_no_pods_and_says_so(bed: &Bed) -> Result<()> {
    let definition: WorkflowDef = serde_json::from_str(&fs::read_to_string(
        root().join("examples/greet/workflow.json"),
    )?)?;
    // A retry would be seen at once, and a lost task soon.
    let task = TaskDef {
        retry_delay_seconds: Some(1),
        response_timeout_seconds: Some(20),
        ..TaskDef::named("greet")
    };
    bed.wait(bed.conductor.register_task_defs(&[task]))?;
    bed.wait(bed.conductor.register_workflow_defs(&[definition]))?;

    let manifest = fs::read_to_string(root().join("examples/greet/worker.yaml"))?;
    bed.kubectl_with(&["apply", "-n", WORKERS, "-f", "-"], &here(bed, &manifest)?)?;
    until("the worker is Ready with no pods", MINUTE, || {
        let w = bed.get(&["conductorworker", "greet", "-n", WORKERS])?;
        let ready = condition(&w, "Ready") == Some("True")
            && condition(&w, "ConnectionHealthy") == Some("True");
        ensure!(ready, "its status is {}", w["status"]);
        Ok((replicas(&w) == 0).then_some(()))
    })?;
    let line = bed.kubectl(&["get", "conductorworkers", "-n", WORKERS])?;
    for column in ["DESIRED", "READY", "BUSY", "QUEUE", "REASON", "AGE"] {
        ensure!(line.contains(column), "no column {column} in:\n{line}");
    }
    Ok(())
}

/// The manifest for this bed: where its Conductor and its images are.
fn here(bed: &Bed, manifest: &str) -> Result<String> {
    let url = "http://conductor.conductor.svc:8080/api";
    let image = "greet:dev";
    ensure!(
        manifest.contains(url) && manifest.contains(image),
        "the example changed; change this too"
    );
    Ok(manifest
        .replace(url, bed.fact("CONDUCTOR_POD_URL")?)
        .replace(image, &bed.image("greet")?))
}

pub(crate) fn five_hundred_workflows_through_a_rolling_update(bed: &Bed) -> Result<()> {
    let ledger_url = start_ledger(bed)?;
    // Two seconds each, so that the work outlasts the update, and every execution written down.
    greet_in(bed, 2000, &ledger_url)?;

    let mut most = 0;
    let mut load = Load::new(bed, "greeting");
    let input = |n: usize| object(&json!({"name": format!("number {n}")}));
    load.start(250, input)?;
    until("several pods are ready and at work", 3 * MINUTE, || {
        let w = bed.get(&["conductorworker", "greet", "-n", WORKERS])?;
        most = most.max(ready_replicas(&w));
        ensure!(most >= 2, "at most {most} pods were ready: {}", w["status"]);
        Ok((load.ended()? >= 25).then_some(()))
    })?;
    sidecar_metrics_show_the_work(bed)?;

    // More work, and a new version in the middle of it: pods of the old one are at work then.
    load.start(250, input)?;
    let before = pods(bed)?;
    until("pods of the old version are at work", MINUTE, || {
        let busy = before
            .iter()
            .filter(|pod| in_flight(bed, pod).is_ok_and(|n| n > 0))
            .count();
        ensure!(busy >= 2, "{busy} of {} pods are at work", before.len());
        Ok(Some(()))
    })?;
    greet_in(bed, 1500, &ledger_url)?;
    let open = load.open()?;
    ensure!(
        open >= 50,
        "only {open} workflows were open when the new version was applied"
    );
    load.finish(5 * MINUTE)?;
    until("no pod of the old version is left", 3 * MINUTE, || {
        let now = pods(bed)?;
        let left: Vec<_> = now.iter().filter(|p| before.contains(p)).collect();
        ensure!(left.is_empty(), "still there: {left:?}");
        Ok(Some(()))
    })?;

    let outcome = load.check(|n| object(&json!({"greeting": format!("Hello, number {n}!")})))?;
    ensure!(
        outcome.wrong.is_empty(),
        "{} wrong:\n{}",
        outcome.wrong.len(),
        outcome.wrong.join("\n")
    );
    ensure!(outcome.tasks.len() == 500, "{} tasks", outcome.tasks.len());
    let written = ledger(bed)?;
    executed_once(bed, &written, outcome.tasks.len())?;

    until("no pod is left", 4 * MINUTE, || {
        let w = bed.get(&["conductorworker", "greet", "-n", WORKERS])?;
        ensure!(
            replicas(&w) == 0 && pods(bed)?.is_empty(),
            "its status is {}",
            w["status"]
        );
        Ok(Some(()))
    })
}

/// A greeter that only keeps the ledger, outside of the worker.
fn start_ledger(bed: &Bed) -> Result<String> {
    let image = bed.image("greet")?;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ledger"},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "ledger", "image": image,
                "readinessProbe": {"httpGet": {"path": "/ledger", "port": 8080}, "periodSeconds": 1},
            }],
        },
    });
    bed.kubectl_with(&["apply", "-n", WORKERS, "-f", "-"], &pod.to_string())?;
    bed.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "pod/ledger",
        "-n",
        WORKERS,
        "--timeout=60s",
    ])?;
    ledger_url(bed)
}

pub(super) fn ledger_url(bed: &Bed) -> Result<String> {
    let pod = bed.get(&["pod", "ledger", "-n", WORKERS])?;
    let ip = pod["status"]["podIP"]
        .as_str()
        .context("the ledger has no address")?;
    Ok(format!("http://{ip}:8080/ledger"))
}

/// A line of the ledger.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) task: String,
    /// Who worked on it.
    pub(super) pod: String,
    /// From when to when, in milliseconds since 1970.
    pub(super) time: std::ops::RangeInclusive<i64>,
}

pub(super) fn ledger(bed: &Bed) -> Result<Vec<Written>> {
    let read = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let [task, pod, began, ended] = words[..] else {
            anyhow::bail!("a line of the ledger is {line:?}");
        };
        Ok(Written {
            task: task.to_owned(),
            pod: pod.to_owned(),
            time: began.parse()?..=ended.parse()?,
        })
    };
    let text = bed.from_pod(WORKERS, "ledger", 8080, "ledger")?;
    text.lines().map(read).collect()
}

/// So many tasks were executed, each once. Which Conductor says that it has queued twice may have
/// been executed twice: nobody could tell it from the first time.
pub(super) fn executed_once(bed: &Bed, written: &[Written], tasks: usize) -> Result<()> {
    let repaired = bed.repaired()?;
    let mut times = BTreeMap::<&str, usize>::new();
    for line in written {
        *times.entry(&line.task).or_default() += 1;
    }
    let again: Vec<_> = times
        .iter()
        .filter(|(task, times)| **times > 1 + usize::from(repaired.contains(**task)))
        .collect();
    ensure!(
        again.is_empty() && times.len() == tasks,
        "{} of {tasks} tasks were executed, and more than once: {again:?}",
        times.len()
    );
    Ok(())
}

/// A version of the greeter that takes so many milliseconds and writes to this ledger.
pub(super) fn greet_in(bed: &Bed, millis: u32, ledger: &str) -> Result<()> {
    greet_as(bed, millis, ledger, &[])
}

/// The same, with more of its environment.
pub(super) fn greet_as(bed: &Bed, millis: u32, ledger: &str, more: &[(&str, &str)]) -> Result<()> {
    let millis = millis.to_string();
    let env = [("GREET_MILLIS", &*millis), ("GREET_LEDGER_URL", ledger)];
    let env = env.iter().chain(more);
    let env: Vec<Value> = env
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    let patch =
        json!([{"op": "add", "path": "/spec/template/spec/containers/0/env", "value": env}]);
    patch_worker(bed, "json", &patch)
}

/// Changes the worker by a patch of this type.
pub(super) fn patch_worker(bed: &Bed, how: &str, patch: &Value) -> Result<()> {
    let (how, patch) = (format!("--type={how}"), patch.to_string());
    let worker = ["conductorworker", "greet", "-n", WORKERS];
    let args = [&["patch"], &worker[..], &[&how, "-p", &patch]].concat();
    bed.kubectl(&args).map(drop)
}

/// Any pod will do: some may still be starting, or have come after the work.
fn sidecar_metrics_show_the_work(bed: &Bed) -> Result<()> {
    until("a sidecar's metrics show the work", MINUTE, || {
        let mut seen = String::new();
        for pod in pods(bed)? {
            match from_sidecar(bed, &pod, "metrics") {
                Ok(text) if shows_work(&text) => return Ok(Some(())),
                Ok(text) => seen = text,
                Err(error) => seen = format!("{error:#}"),
            }
        }
        anyhow::bail!("none does; the last said:\n{seen}")
    })
}

fn shows_work(metrics: &str) -> bool {
    let names = [
        "task_poll_counter",
        "task_poll_total",
        "task_execution_started_total",
        "task_execute_time",
    ];
    names.iter().all(|name| {
        metrics.lines().any(|line| {
            let value = line.rsplit(' ').next().and_then(|v| v.parse::<f64>().ok());
            line.starts_with(&format!("{name}{{"))
                && line.contains("taskType=\"greet\"")
                && value.is_some_and(|v| v > 0.0)
        })
    })
}

fn in_flight(bed: &Bed, pod: &str) -> Result<u64> {
    let stats: Value = serde_json::from_str(&from_sidecar(bed, pod, "stats")?)?;
    stats["inFlight"].as_u64().context("no inFlight")
}

pub(super) fn from_sidecar(bed: &Bed, pod: &str, path: &str) -> Result<String> {
    bed.from_pod(WORKERS, pod, 2112, path)
}

pub(crate) fn scale_follows_an_external_hand(bed: &Bed) -> Result<()> {
    let patch = json!({"spec": {"scaling": {"mode": "External", "maxWait": null}, "replicas": 0}});
    patch_worker(bed, "merge", &patch)?;
    for wanted in ["2", "0"] {
        let replicas = format!("--replicas={wanted}");
        bed.kubectl(&["scale", "conductorworker/greet", "-n", WORKERS, &replicas])?;
        until("the pods follow", 2 * MINUTE, || {
            let w = bed.get(&["conductorworker", "greet", "-n", WORKERS])?;
            ensure!(
                ready_replicas(&w).to_string() == wanted,
                "its status is {}",
                w["status"]
            );
            Ok((pods(bed)?.len().to_string() == wanted).then_some(()))
        })?;
    }
    Ok(())
}

pub(crate) fn deletion_leaves_nothing_behind(bed: &Bed) -> Result<()> {
    bed.kubectl(&[
        "scale",
        "conductorworker/greet",
        "-n",
        WORKERS,
        "--replicas=1",
    ])?;
    until("a pod is ready", MINUTE, || {
        let w = bed.get(&["conductorworker", "greet", "-n", WORKERS])?;
        Ok((ready_replicas(&w) == 1).then_some(()))
    })?;
    bed.kubectl(&[
        "delete",
        "conductorworker",
        "greet",
        "-n",
        WORKERS,
        "--timeout=60s",
    ])?;
    bed.kubectl(&["delete", "pod", "ledger", "-n", WORKERS, "--timeout=60s"])?;
    until("nothing of it is left", 2 * MINUTE, || {
        for kind in [
            "deployments",
            "replicasets",
            "pods",
            "poddisruptionbudgets",
            "services",
            "secrets",
        ] {
            let found = bed.get(&[kind, "-n", WORKERS])?;
            let items = found["items"].as_array().cloned().unwrap_or_default();
            let names: Vec<_> = items
                .iter()
                .map(|i| i["metadata"]["name"].to_string())
                .collect();
            ensure!(items.is_empty(), "{kind}: {names:?}");
        }
        Ok(Some(()))
    })
}

/// The worker's pods as the API server has them, those on their way out included.
pub(super) fn whole_pods(bed: &Bed) -> Result<Vec<Value>> {
    let selector = "conductor-oss.org/worker=greet";
    let found = bed.get(&["pods", "-n", WORKERS, "-l", selector])?;
    Ok(found["items"].as_array().cloned().unwrap_or_default())
}

/// Their names.
pub(super) fn pods(bed: &Bed) -> Result<Vec<String>> {
    Ok(whole_pods(bed)?
        .iter()
        .filter_map(|i| i["metadata"]["name"].as_str().map(str::to_owned))
        .collect())
}

fn replicas(worker: &Value) -> u64 {
    worker["status"]["replicas"].as_u64().unwrap_or(0)
}

pub(super) fn ready_replicas(worker: &Value) -> u64 {
    worker["status"]["readyReplicas"].as_u64().unwrap_or(0)
}

/// A condition of an object.
pub(super) fn condition_of<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|c| c["type"] == kind)
}

/// Its status.
pub(super) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    condition_of(object, kind)?["status"].as_str()
}

pub(super) fn object(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}
