//! A version that does not work, under load.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cluster::{Bed, Load, until};
use conductor_client::TaskDef;
use serde_json::{Value, json};

use super::{
    WORKERS,
    drain::{deleted, fill, follow, greeting, scale, settled, worker},
    work::{condition_of, executed_once, greet_as, greet_in, ledger, ledger_url, pods, whole_pods},
};

const MINUTE: Duration = Duration::from_secs(60);

/// How long a greeting takes, in milliseconds.
const TAKES: u32 = 1000;

/// Of one pod Kubernetes would take the old one as soon as the new one counts as available, after
/// ten seconds.
const LONGER: i64 = 20;

pub(crate) fn a_version_that_fails_its_tasks_is_stopped_and_the_old_one_goes_on(
    bed: &Bed,
) -> Result<()> {
    let before = ledger(bed)?.len();
    // A task that is unlucky is failed more often than by default.
    let known = bed.wait(bed.conductor.task_def("greet"))?;
    let patient = TaskDef {
        retry_count: Some(50),
        ..known.clone()
    };
    bed.wait(bed.conductor.update_task_def(&patient))?;
    scale(bed, 0)?;
    settled(bed, 0)?;
    greet_in(bed, TAKES, &ledger_url(bed)?)?;
    let mut load = Load::new(bed, "greeting");
    for replicas in [1, 4] {
        stop_and_go_back(bed, &mut load, replicas)
            .with_context(|| format!("with {replicas} pods"))?;
    }
    load.finish(5 * MINUTE)?;
    bed.wait(bed.conductor.update_task_def(&known))?;

    // Those that were failed were tried again.
    let wrong = load.wrong(greeting)?;
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    let written = ledger(bed)?;
    executed_once(bed, &written[before..], load.len())?;
    let events = bed.kubectl(&["get", "events", "-n", WORKERS])?;
    ensure!(events.contains("RolloutStalled"), "no event in:\n{events}");
    Ok(())
}

fn stop_and_go_back(bed: &Bed, load: &mut Load<'_>, replicas: u32) -> Result<()> {
    fill(bed, load)?;
    scale(bed, replicas)?;
    let old = settled(bed, replicas)?;
    let mut followed = follow(bed)?;
    let url = ledger_url(bed)?;
    greet_as(bed, TAKES, &url, &[("GREET_FAIL", "1")])?;
    until("it is said that the rollout is stopped", 2 * MINUTE, || {
        fill(bed, load)?;
        let w = worker(bed)?;
        let stopped = ["Ready", "Stalled"].iter().all(|kind| {
            let found = condition(&w, kind);
            let says = found["message"].as_str().unwrap_or_default();
            found["reason"] == "RolloutStalled" && says.contains("fails nearly every task of greet")
        });
        ensure!(stopped, "its status is {}", w["status"]);
        Ok(Some(()))
    })?;
    let deployment = bed.get(&["deployment", "greet", "-n", WORKERS])?;
    let mark = &deployment["metadata"]["annotations"]["conductor-oss.org/rollout-stalled"];
    ensure!(
        deployment["spec"]["paused"] == true && mark.is_string(),
        "{deployment}"
    );

    // The new pod is there for longer than Kubernetes would wait, and the old ones work.
    let began = ledger(bed)?.len();
    until("the old pods have gone on for a while", 2 * MINUTE, || {
        fill(bed, load)?;
        let items = whole_pods(bed)?;
        let new = items.iter().filter(|pod| {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            !old.iter().any(|old| old == name)
        });
        let new: Vec<_> = new.map(ready_for).collect::<Result<_>>()?;
        ensure!(
            !new.is_empty() && new.iter().all(|seconds| *seconds >= LONGER),
            "new pods are ready for {new:?} s"
        );
        let done = ledger(bed)?.len() - began;
        ensure!(done >= 20, "{done} greetings");
        Ok(Some(()))
    })?;
    let there = pods(bed)?;
    ensure!(
        old.iter().all(|pod| there.contains(pod)),
        "of {old:?} these are left: {there:?}"
    );
    let gone = deleted(&followed.printed()?)?;
    ensure!(gone.is_empty(), "deleted: {gone:?}");
    let written = ledger(bed)?;
    let strangers: Vec<_> = written[began..]
        .iter()
        .filter(|written| !old.contains(&written.pod))
        .collect();
    ensure!(strangers.is_empty(), "greeted by others: {strangers:?}");

    // The old spec: the old pods are what it wants.
    greet_in(bed, TAKES, &url)?;
    until("the worker is Ready", 2 * MINUTE, || {
        fill(bed, load)?;
        let w = worker(bed)?;
        let is = |kind: &str, status: &str| condition(&w, kind)["status"] == status;
        ensure!(
            is("Ready", "True") && is("Stalled", "False"),
            "its status is {}",
            w["status"]
        );
        Ok(Some(()))
    })?;
    let left = settled(bed, replicas)?;
    ensure!(left == old, "{left:?} are left of {old:?}");
    let deployment = bed.get(&["deployment", "greet", "-n", WORKERS])?;
    ensure!(
        deployment["spec"]["paused"] != true && deployment["spec"]["minReadySeconds"] == 10,
        "{deployment}"
    );
    Ok(())
}

/// A condition of a worker or a pod; null where there is none.
fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    condition_of(object, kind).unwrap_or(&Value::Null)
}

/// For how many seconds a pod has been ready.
fn ready_for(pod: &Value) -> Result<i64> {
    let ready = condition(pod, "Ready");
    ensure!(ready["status"] == "True", "{}", json!(ready));
    let since = ready["lastTransitionTime"].as_str().context("no time")?;
    let since: jiff::Timestamp = since.parse()?;
    Ok(jiff::Timestamp::now().duration_since(since).as_secs())
}
