//! The table for users names tests that exist, and leaves none out.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result, ensure};

const TABLE: &str = include_str!("../../../../docs/why-not-an-sdk.md");

/// Where tests are, below the root.
const TREES: [&str; 3] = ["worker-sidecar", "crates", "tests"];

/// What has a test of its own for every row.
const ANSWERS: &str = "worker-sidecar/tests/suite/answers";

#[test]
fn every_test_in_the_table_exists_and_every_answer_is_in_it() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut sources = Vec::new();
    for tree in TREES {
        read_sources(&root.join(tree), &mut sources)?;
    }
    let named = named_in(TABLE);
    ensure!(named.len() > 20, "the table names {} tests", named.len());
    let missing: Vec<_> = named
        .iter()
        .filter(|name| {
            // A function, or a case of the matrix of faults, whose names are strings.
            let (function, case) = (format!("fn {name}("), format!("\"{name}\""));
            !sources
                .iter()
                .any(|(_, text)| text.contains(&function) || text.contains(&case))
        })
        .collect();
    ensure!(missing.is_empty(), "no such tests: {missing:?}");
    let answers = sources.iter().filter(|(path, _)| path.contains(ANSWERS));
    let unlisted: Vec<_> = answers
        .flat_map(|(_, text)| tests_in(text))
        .filter(|test| !named.contains(test.as_str()))
        .filter(|test| test != "every_test_in_the_table_exists_and_every_answer_is_in_it")
        .collect();
    ensure!(unlisted.is_empty(), "not in the table: {unlisted:?}");
    Ok(())
}

/// The names in backticks in the last column of each row.
fn named_in(table: &str) -> BTreeSet<&str> {
    table
        .lines()
        .filter(|line| line.starts_with('|'))
        .filter_map(|line| line.trim_end().strip_suffix('|')?.rsplit('|').next())
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect()
}

/// The functions that are tests.
fn tests_in(source: &str) -> Vec<String> {
    let mut tests = Vec::new();
    let mut is_test = false;
    for line in source.lines() {
        if line.starts_with("#[tokio::test") || line.starts_with("#[test]") {
            is_test = true;
        } else if let Some((before, rest)) = line.split_once("fn ")
            && is_test
            && (before.is_empty() || before == "async ")
        {
            tests.extend(rest.split('(').next().map(str::to_owned));
            is_test = false;
        }
    }
    tests
}

fn read_sources(folder: &Path, sources: &mut Vec<(String, String)>) -> Result<()> {
    let entries = fs::read_dir(folder);
    for entry in entries.with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            read_sources(&path, sources)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            sources.push((path.display().to_string(), fs::read_to_string(&path)?));
        }
    }
    Ok(())
}
