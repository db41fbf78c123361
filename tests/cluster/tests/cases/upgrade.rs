//! A new operator adds another sidecar: whose pods are replaced for it, and when.

use std::time::Duration;

use anyhow::{Result, ensure};
use cluster::{Bed, CHART, until};
use serde_json::Value;

use super::{
    WORKERS,
    drain::{scale, settled, worker},
    install::install_with,
    work::{condition_of, pods},
};

const MINUTE: Duration = Duration::from_secs(60);

const PODS: u32 = 3;

/// Waits until a condition says so.
fn until_said(bed: &Bed, kind: &str, reason: &str) -> Result<()> {
    until(&format!("{kind} says {reason}"), 3 * MINUTE, || {
        let worker = worker(bed)?;
        let said = condition_of(&worker, kind).map(|c| &c["reason"]);
        ensure!(
            said.is_some_and(|said| said == reason),
            "{}",
            worker["status"]
        );
        Ok(Some(()))
    })
}

/// Waits until all pods are others than these and have what the operator adds.
fn until_replaced(bed: &Bed, before: &[String]) -> Result<Vec<String>> {
    until("every pod is replaced", 3 * MINUTE, || {
        let worker = worker(bed)?;
        let (there, status) = (pods(bed)?, &worker["status"]);
        let is_over = condition_of(&worker, "SidecarBehind").is_none()
            && condition_of(&worker, "SidecarUpgradeFailed").is_none()
            && condition_of(&worker, "Reconciling").is_some_and(|c| c["status"] == "False");
        ensure!(
            is_over && there.iter().all(|pod| !before.contains(pod)),
            "{there:?} are there, and the status is {status}"
        );
        Ok(Some(()))
    })?;
    settled(bed, PODS)
}

pub(crate) fn upgrades_of_the_operator_replace_pods_in_turn_and_halt_on_failure(
    bed: &Bed,
) -> Result<()> {
    scale(bed, PODS)?;
    let there = settled(bed, PODS)?;
    let generation = || -> Result<Value> {
        let deployment = bed.get(&["deployment", "greet", "-n", WORKERS])?;
        Ok(deployment["metadata"]["generation"].clone())
    };
    let before = generation()?;

    // The same image, added otherwise.
    let otherwise = "sidecar.image.pullPolicy=Never";
    install_with(bed, CHART, &[otherwise])?;
    until_said(bed, "SidecarBehind", "WaitsForRollout")?;
    ensure!(
        settled(bed, PODS)? == there && generation()? == before,
        "the pods were replaced, or their Deployment was changed"
    );

    let staged = "sidecar.upgrades.policy=Staged";
    install_with(bed, CHART, &[otherwise, staged])?;
    let there = until_replaced(bed, &there)?;
    let events = bed.kubectl(&["get", "events", "-n", WORKERS])?;
    for word in ["SidecarUpgrade ", "SidecarUpgraded "] {
        ensure!(events.contains(word), "no event {word}in:\n{events}");
    }

    // An image that is not there.
    install_with(bed, CHART, &[otherwise, staged, "sidecar.image.tag=none"])?;
    until_said(bed, "SidecarUpgradeFailed", "SidecarUpgradeFailed")?;
    let now = pods(bed)?;
    ensure!(
        there.iter().all(|pod| now.contains(pod)),
        "of {there:?} only {now:?} are left"
    );
    // The operator from before: nobody waits for a change of the worker.
    install_with(bed, CHART, &[])?;
    until_replaced(bed, &there).map(drop)
}
