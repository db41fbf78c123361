//! What the API server must refuse, and with which words: crates/api/tests/refusals.

use std::fs;

use anyhow::{Context, Result, ensure};
use cluster::{Bed, root};

use super::WORKERS;

/// Each file is a manifest that begins with comment lines `# expect: <words>`.
pub(crate) fn bad_manifests_are_refused_with_what_to_write(bed: &Bed) -> Result<()> {
    let folder = root().join("crates/api/tests/refusals");
    let mut files: Vec<_> = fs::read_dir(&folder)
        .with_context(|| folder.display().to_string())?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.sort();
    ensure!(
        files.len() >= 10,
        "only {} refusals in {}",
        files.len(),
        folder.display()
    );
    let mut wrong = Vec::new();
    for file in files {
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let manifest = fs::read_to_string(&file)?;
        let expected: Vec<&str> = manifest
            .lines()
            .filter_map(|line| line.strip_prefix("# expect: "))
            .map(str::trim)
            .collect();
        ensure!(!expected.is_empty(), "{name} does not say what to expect");
        match bed.kubectl_with(
            &["apply", "--dry-run=server", "-n", WORKERS, "-f", "-"],
            &manifest,
        ) {
            Ok(_) => wrong.push(format!("{name} was accepted")),
            Err(error) => {
                let said = format!("{error:#}");
                for words in expected {
                    if !said.contains(words) {
                        wrong.push(format!("{name}: no {words:?} in: {said}"));
                    }
                }
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}
