//! Installing, upgrading, removing.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use cluster::{Bed, CHART, OPERATOR, RELEASE, root, until};

use super::WORKERS;

fn install(bed: &Bed, chart: &str) -> Result<()> {
    install_with(bed, chart, &[])
}

/// With everything that a monitored cluster would have, and more values.
pub(super) fn install_with(bed: &Bed, chart: &str, set: &[&str]) -> Result<()> {
    let monitors = [
        "monitoring.serviceMonitor.enabled=true",
        "monitoring.podMonitor.enabled=true",
    ];
    bed.install(chart, &[&monitors, set].concat())
}

pub(crate) fn helm_install_and_upgrade_update_the_crd(bed: &Bed) -> Result<()> {
    let applied = Command::new(root().join("tests/cluster/monitoring-crds"))
        .env("KUBECONFIG", bed.fact("KUBECONFIG")?)
        .output()?;
    ensure!(
        applied.status.success(),
        "monitoring-crds: {}",
        String::from_utf8_lossy(&applied.stderr)
    );

    // A chart as an older version would have been: its resource has no short name.
    let old = tempfile::tempdir()?;
    let copied = Command::new("cp")
        .arg("-r")
        .arg(root().join(CHART))
        .arg(old.path())
        .status()?;
    ensure!(copied.success(), "the chart could not be copied");
    let crd = old
        .path()
        .join("conductor-worker-operator/files/conductorworkers.yaml");
    let text = fs::read_to_string(&crd)?;
    let short_names = text
        .find("    shortNames:")
        .context("the CRD has no shortNames")?;
    let end = short_names
        + text[short_names..]
            .find("- cw\n")
            .context("the CRD's short name is not cw")?
        + 5;
    fs::write(&crd, format!("{}{}", &text[..short_names], &text[end..]))?;
    let old_chart = old.path().join("conductor-worker-operator");
    install(bed, &old_chart.to_string_lossy())?;
    let names = || -> Result<String> {
        bed.kubectl(&[
            "get",
            "crd",
            "conductorworkers.conductor-oss.org",
            "-o",
            "jsonpath={.spec.names.shortNames}",
        ])
    };
    ensure!(
        names()?.is_empty(),
        "the older chart has a short name: {}",
        names()?
    );

    install(bed, CHART)?;
    ensure!(
        names()?.contains("cw"),
        "helm upgrade did not update the CRD"
    );
    bed.kubectl(&[
        "wait",
        "--for=condition=Established",
        "crd/conductorworkers.conductor-oss.org",
        "--timeout=30s",
    ])?;
    bed.kubectl(&["create", "namespace", WORKERS])?;
    Ok(())
}

pub(crate) fn monitors_are_accepted_by_the_real_crds(bed: &Bed) -> Result<()> {
    for kind in [
        "servicemonitors.monitoring.coreos.com",
        "podmonitors.monitoring.coreos.com",
    ] {
        let found = bed.get(&[kind, "-n", OPERATOR])?;
        let count = found["items"].as_array().map_or(0, Vec::len);
        ensure!(count == 1, "{count} {kind} in {OPERATOR}");
    }
    Ok(())
}

pub(crate) fn helm_uninstall_keeps_the_resources(bed: &Bed) -> Result<()> {
    bed.kubectl(&["apply", "-n", WORKERS, "-f", "examples/greet/worker.yaml"])?;
    bed.helm(&[
        "uninstall",
        RELEASE,
        "--namespace",
        OPERATOR,
        "--wait",
        "--timeout",
        "120s",
    ])?;
    let kept = bed.get(&["conductorworkers", "-n", WORKERS])?;
    ensure!(
        kept["items"].as_array().is_some_and(|i| i.len() == 1),
        "the resources went with the chart"
    );
    // Without the operator nothing may hold their deletion up.
    bed.kubectl(&[
        "delete",
        "conductorworkers",
        "--all",
        "-n",
        WORKERS,
        "--timeout=60s",
    ])?;
    until(
        "the operator's pods are gone",
        Duration::from_secs(60),
        || {
            let pods = bed.get(&["pods", "-n", OPERATOR])?;
            Ok(pods["items"]
                .as_array()
                .is_some_and(Vec::is_empty)
                .then_some(()))
        },
    )
}
