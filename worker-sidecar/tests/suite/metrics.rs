//! The metrics reference is generated; `UPDATE=1` rewrites it.

use std::{fmt::Write as _, path::Path};

use anyhow::{Context, Result, ensure};
use prometheus::Registry;
use worker_sidecar::metrics::Metrics;

const HEAD: &str = "\
# The sidecar's metrics

<!-- Generated: UPDATE=1 cargo test -p worker-sidecar metrics -->

Served on port 2112 at `/metrics`. Names that begin with `worker_` are our own; the others are \
those of Conductor's SDKs: the newer, shared ones and, so that existing dashboards keep working, \
the older ones of the Go SDK with its units (`task_poll_time` in seconds, `task_execute_time` in \
milliseconds, both the last value).

| metric | type | labels | |
| --- | --- | --- | --- |
";

#[test]
fn the_reference_is_up_to_date() -> Result<()> {
    let mut text = HEAD.to_owned();
    for metric in Metrics::new(&Registry::new())?.reference() {
        let labels: Vec<_> = metric.labels.iter().map(|l| format!("`{l}`")).collect();
        let (name, kind, help) = (metric.name, metric.kind, metric.help);
        writeln!(
            text,
            "| `{name}` | {kind} | {} | {help} |",
            labels.join(", ")
        )?;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics-sidecar.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &text)?;
    }
    let there = std::fs::read_to_string(&path).context("docs/metrics-sidecar.md")?;
    ensure!(
        there == text,
        "docs/metrics-sidecar.md is stale: run with UPDATE=1"
    );
    Ok(())
}

#[test]
fn metrics_are_described_and_named_by_their_kind() -> Result<()> {
    for metric in Metrics::new(&Registry::new())?.reference() {
        ensure!(
            metric.help.len() > 20 && metric.help.ends_with('.'),
            "{metric:?}"
        );
        ensure!(
            !metric.help.contains('|'),
            "it is put into a table: {metric:?}"
        );
        if metric.name.starts_with("worker_") {
            ensure!(
                (metric.kind == "counter") == metric.name.ends_with("_total"),
                "{metric:?}"
            );
        }
    }
    Ok(())
}
