//! What people get to see of runs.

pub mod page;
pub mod plot;

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use cluster::root;

use crate::run::Run;

/// Where it is.
pub fn folder() -> PathBuf {
    root().join("target/chaos")
}

/// Keeps a run in place of an earlier one of its name, and draws it. Whoever is compared stands in
/// a file of his own.
pub fn keep(run: &Run) -> Result<()> {
    let runs = folder().join("runs");
    fs::create_dir_all(&runs)?;
    let file = runs.join(format!("{}.json", run.name));
    fs::write(&file, serde_json::to_vec(run)?)
        .with_context(|| format!("{} cannot be written", file.display()))?;
    plot::draw(run, &folder().join(format!("{}.svg", run.name)))?;
    write()
}

/// Writes the page of all runs that are kept.
fn write() -> Result<()> {
    let mut runs = Vec::new();
    for entry in fs::read_dir(folder().join("runs"))? {
        let file = entry?.path();
        let run: Run = serde_json::from_slice(&fs::read(&file)?)
            .with_context(|| format!("{} is of another version; remove it", file.display()))?;
        runs.push(run);
    }
    runs.sort_by(|a, b| a.name.cmp(&b.name));
    fs::write(folder().join("report.md"), page::page(&runs)?)?;
    Ok(())
}
