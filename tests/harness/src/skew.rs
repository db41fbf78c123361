//! What operators and sidecars of earlier versions say to each other.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// What is in a folder of crates/runtime/skew (see its README.md), by the files' names: the newest
/// is the last.
pub fn skew(folder: &str) -> Result<Vec<(String, Value)>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../crates/runtime/skew")
        .join(folder);
    let files = std::fs::read_dir(&folder);
    let mut said = Vec::new();
    for file in files.with_context(|| format!("cannot read {}", folder.display()))? {
        let file = file?;
        let text = std::fs::read_to_string(file.path())?;
        let name = file.file_name().to_string_lossy().into_owned();
        let value = serde_json::from_str(&text).with_context(|| format!("{name} is no JSON"))?;
        said.push((name, value));
    }
    said.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(said)
}
