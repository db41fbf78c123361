//! Fewer pods while there is work: none of those that go is at work.

use std::{collections::BTreeMap, env, time::Duration};

use anyhow::{Context, Result, ensure};
use cluster::{Bed, Follow, Load, OPERATOR, until};
use conductor_client::QueueName;
use serde_json::{Map, Value, json};

use super::{
    WORKERS,
    work::{
        executed_once, from_sidecar, greet_in, ledger, ledger_url, object, pods, ready_replicas,
    },
};

const MINUTE: Duration = Duration::from_secs(60);

/// How many pods there are before each scale-down.
const MOST: u32 = 4;

/// How often a case does what it is about: five times, unless this variable sets another number.
pub(super) fn times(variable: &str) -> Result<u32> {
    match env::var(variable) {
        Ok(text) => text
            .parse()
            .with_context(|| format!("{variable} must be a number, such as 50")),
        Err(_) => Ok(5),
    }
}

/// Follows the worker's pods: of each its name, when its deletion is to be over, and the grace
/// period that the API server has added to the time of the deletion.
pub(super) fn follow(bed: &Bed) -> Result<Follow> {
    let line = "jsonpath={.metadata.name} {.metadata.deletionTimestamp} {.metadata.deletionGracePeriodSeconds}{\"\\n\"}";
    let selector = "conductor-oss.org/worker=greet";
    bed.follow(&[
        "get", "pods", "-n", WORKERS, "-l", selector, "--watch", "-o", line,
    ])
}

/// When pods were deleted, in seconds since 1970.
pub(super) fn deleted(printed: &str) -> Result<BTreeMap<String, i64>> {
    let mut deleted = BTreeMap::new();
    for line in printed.lines() {
        if let [pod, ends, grace] = line.split_whitespace().collect::<Vec<_>>()[..] {
            let ends: jiff::Timestamp = ends.parse()?;
            let grace: i64 = grace.parse()?;
            // The first counts: a grace period may be shortened later.
            deleted
                .entry(pod.to_owned())
                .or_insert(ends.as_second() - grace);
        }
    }
    Ok(deleted)
}

pub(super) fn scale(bed: &Bed, replicas: u32) -> Result<()> {
    let replicas = format!("--replicas={replicas}");
    bed.kubectl(&["scale", "conductorworker/greet", "-n", WORKERS, &replicas])
        .map(drop)
}

pub(super) fn worker(bed: &Bed) -> Result<Value> {
    bed.get(&["conductorworker", "greet", "-n", WORKERS])
}

/// Waits until so many pods work, and no other is there.
pub(super) fn settled(bed: &Bed, wanted: u32) -> Result<Vec<String>> {
    until(&format!("{wanted} pods"), 2 * MINUTE, || {
        let there = pods(bed)?;
        let w = worker(bed)?;
        ensure!(
            ready_replicas(&w) == u64::from(wanted) && there.len() == usize::try_from(wanted)?,
            "{there:?} are there, and the status is {}",
            w["status"]
        );
        Ok(Some(there))
    })
}

/// What a pod's sidecar says of itself.
pub(super) fn stats(bed: &Bed, pod: &str) -> Result<Value> {
    Ok(serde_json::from_str(&from_sidecar(bed, pod, "stats")?)?)
}

/// Keeps more work waiting than a scale-down takes time for.
pub(super) fn fill(bed: &Bed, load: &mut Load<'_>) -> Result<()> {
    let queue = QueueName::new("greet", None);
    let waiting = bed.wait(bed.conductor.queue_size(&queue))?;
    let missing = usize::try_from(400_u64.saturating_sub(waiting))?;
    load.start(missing, |n| object(&json!({"name": format!("number {n}")})))
}

pub(crate) fn scale_downs_under_load_remove_no_pod_that_works(bed: &Bed) -> Result<()> {
    let before = ledger(bed)?.len();
    let (mut load, mut followed) = (Load::new(bed, "greeting"), follow(bed)?);
    let (rounds, mut gone) = (times("SCALE_DOWNS")?, 0);
    for round in 0..rounds {
        fill(bed, &mut load)?;
        scale(bed, MOST)?;
        let there = settled(bed, MOST)?;
        until("every pod is at work", MINUTE, || {
            for pod in &there {
                let stats = stats(bed, pod)?;
                ensure!(stats["inFlight"].as_u64() > Some(0), "{pod} says {stats}");
            }
            Ok(Some(()))
        })?;
        let fewer = MOST - 1 - round % (MOST - 1);
        gone += MOST - fewer;
        scale(bed, fewer)?;
        if round % 5 == 1 {
            // Whoever comes next goes on with it.
            bed.kubectl(&["delete", "pods", "--all", "-n", OPERATOR, "--wait=false"])?;
        }
        settled(bed, fewer)?;
    }
    load.finish(5 * MINUTE)?;
    let deleted = deleted(&followed.printed()?)?;
    ensure!(
        deleted.len() == usize::try_from(gone)?,
        "{} pods were removed, of {gone} that were too many",
        deleted.len()
    );

    let outcome = load.check(greeting)?;
    ensure!(outcome.wrong.is_empty(), "{}", outcome.wrong.join("\n"));
    let written = ledger(bed)?;
    let written = &written[before..];
    executed_once(bed, written, outcome.tasks.len())?;
    // Dates have whole seconds: who was at work for all of one was so when the pod was removed.
    let at_work = written.iter().filter(|w| {
        let at = deleted.get(&w.pod).map(|second| second * 1000);
        at.is_some_and(|at| w.time.contains(&at) && w.time.contains(&(at + 1000)))
    });
    let at_work: Vec<_> = at_work.collect();
    ensure!(at_work.is_empty(), "at work when removed: {at_work:?}");
    every_pod_was_cordoned(bed)
}

/// As the operator counts, since it was started the last time.
fn every_pod_was_cordoned(bed: &Bed) -> Result<()> {
    let found = bed.get(&[
        "pods",
        "-n",
        OPERATOR,
        "--field-selector=status.phase=Running",
    ])?;
    let name = found["items"][0]["metadata"]["name"].as_str();
    let metrics = bed.from_pod(OPERATOR, name.context("no operator")?, 8080, "metrics")?;
    for (line, expected) in [
        ("conductor_worker_other_pods_removed_total ", 0),
        (
            r#"conductor_worker_pods_removed_total{because="unable"} "#,
            0,
        ),
        (
            r#"conductor_worker_pods_removed_total{because="overdue"} "#,
            0,
        ),
    ] {
        let found = metrics.lines().find_map(|found| found.strip_prefix(line));
        ensure!(found == Some(&expected.to_string()), "{line}is {found:?}");
    }
    Ok(())
}

pub(super) fn greeting(n: usize) -> Map<String, Value> {
    object(&json!({"greeting": format!("Hello, number {n}!")}))
}

pub(crate) fn pods_that_are_too_many_come_back_when_load_returns(bed: &Bed) -> Result<()> {
    scale(bed, 0)?;
    settled(bed, 0)?;
    // Long enough that nobody is idle before they come back.
    greet_in(bed, 20_000, &ledger_url(bed)?)?;
    scale(bed, 3)?;
    let there = settled(bed, 3)?;
    let mut load = Load::new(bed, "greeting");
    load.start(12, |n| object(&json!({"name": format!("number {n}")})))?;
    let cordoned = |wanted: usize| {
        until(&format!("{wanted} pods are cordoned"), MINUTE, || {
            let mut cordoned = 0;
            for pod in &there {
                cordoned += usize::from(stats(bed, pod)?["cordoned"] == true);
            }
            ensure!(cordoned == wanted, "{cordoned} are");
            Ok(Some(()))
        })
    };
    until("every pod is at work", MINUTE, || {
        for pod in &there {
            let stats = stats(bed, pod)?;
            ensure!(stats["inFlight"].as_u64() > Some(0), "{pod} says {stats}");
        }
        Ok(Some(()))
    })?;
    scale(bed, 1)?;
    cordoned(2)?;
    until("the status tells them apart", MINUTE, || {
        let w = worker(bed)?;
        let status = &w["status"];
        ensure!(
            status["replicas"] == 1 && status["draining"] == 2,
            "{status}"
        );
        Ok(Some(()))
    })?;
    scale(bed, 3)?;
    cordoned(0)?;
    ensure!(settled(bed, 3)? == there, "others were made in their place");
    load.finish(2 * MINUTE)?;
    let outcome = load.check(greeting)?;
    ensure!(outcome.wrong.is_empty(), "{}", outcome.wrong.join("\n"));
    let events = bed.kubectl(&["get", "events", "-n", WORKERS])?;
    for word in ["Scaled", "Cordoned", "Uncordoned", "Drained"] {
        ensure!(events.contains(word), "no event {word} in:\n{events}");
    }
    Ok(())
}
