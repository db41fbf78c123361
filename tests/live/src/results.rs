//! What was run, kept from one call to the next: a file for each scenario and contender.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use cluster::root;
use serde::{Deserialize, Serialize};

use crate::{
    contender::Contender,
    figures::Figures,
    output::{plot, table},
    predict::Prediction,
    run::Run,
};

/// A run, what it came to, and what was expected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// What was seen.
    pub run: Run,
    /// In numbers.
    pub figures: Figures,
    /// By the simulator.
    pub prediction: Prediction,
}

/// Where they are.
pub fn folder() -> PathBuf {
    root().join("target/live")
}

fn file(scenario: &str, contender: Contender) -> PathBuf {
    folder().join(format!("runs/{scenario}-{}.json", contender.name()))
}

/// Keeps a run in place of an earlier one.
pub fn keep(entry: &Entry, contender: Contender) -> Result<()> {
    let file = file(&entry.run.scenario, contender);
    fs::create_dir_all(folder().join("runs"))?;
    fs::write(&file, serde_json::to_vec(entry)?)
        .with_context(|| format!("{} cannot be written", file.display()))
}

/// Writes the page and the plot of all that is kept. Scenarios are (name, about).
pub fn write(scenarios: &[(String, String)]) -> Result<()> {
    let mut entries = Vec::new();
    for (scenario, _) in scenarios {
        for contender in Contender::ALL {
            let file = file(scenario, contender);
            if let Ok(text) = fs::read(&file) {
                let entry: Entry = serde_json::from_slice(&text).with_context(|| {
                    format!("{} is of another version; remove it", file.display())
                })?;
                entries.push(entry);
            }
        }
    }
    fs::create_dir_all(folder())?;
    fs::write(
        folder().join("report.md"),
        table::page(scenarios, &entries)?,
    )?;
    plot::draw(scenarios, &entries, &folder().join("plot.svg"))
}
