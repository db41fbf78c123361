//! The tables that prove something to users name tests that exist, and leave nothing out.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result, ensure};

const ANSWERED: &str = include_str!("../../../docs/why-not-an-sdk.md");
const GUARANTEED: &str = include_str!("../../../docs/guarantees.md");

/// Where tests are, below the root.
const TREES: [&str; 5] = [
    "operator",
    "worker-sidecar",
    "kubectl-conductor",
    "crates",
    "tests",
];

/// Where cases are listed that are no `#[test]`.
const LISTS: [&str; 6] = [
    "/tests/chaos/tests/cases/mod.rs",
    "/tests/chaos/tests/cases/yardstick.rs",
    "/tests/cluster/tests/cases/mod.rs",
    "/tests/faults/src/cases.rs",
    "/tests/faults/src/scenario.rs",
    "/tests/live/tests/cases/mod.rs",
];

/// Where they are functions of their modules' files.
const MODULES: &str = "/tests/conformance/src/cases/";

/// What has a test of its own for every row of docs/why-not-an-sdk.md.
const ANSWERS: &str = "worker-sidecar/tests/suite/answers";

/// The first column of a table whose rows may be without a test.
const NOT_PROMISED: &str = "not guaranteed";

#[test]
fn every_test_that_a_page_names_exists() -> Result<()> {
    let sources = Sources::read()?;
    for (page, text, least) in [
        ("why-not-an-sdk.md", ANSWERED, 20),
        ("guarantees.md", GUARANTEED, 80),
    ] {
        let named: BTreeSet<&str> = rows(text).flat_map(|row| named(row.last)).collect();
        ensure!(named.len() > least, "{page} names {} tests", named.len());
        let missing: Vec<_> = named.iter().filter(|name| !sources.have(name)).collect();
        ensure!(missing.is_empty(), "{page}: no such tests: {missing:?}");
    }
    Ok(())
}

#[test]
fn every_answer_to_an_sdk_is_told() -> Result<()> {
    let told: BTreeSet<&str> = rows(ANSWERED).flat_map(|row| named(row.last)).collect();
    let sources = Sources::read()?;
    let answers = sources.0.iter().filter(|s| s.path.contains(ANSWERS));
    let unlisted: Vec<_> = answers
        .flat_map(|source| &source.tests)
        .filter(|test| !told.contains(test.as_str()))
        .collect();
    ensure!(unlisted.is_empty(), "not in the table: {unlisted:?}");
    Ok(())
}

#[test]
fn nothing_is_promised_without_a_test() -> Result<()> {
    let unproven: Vec<_> = rows(GUARANTEED)
        .filter(|row| named(row.last).next().is_none())
        .filter(|row| row.table != NOT_PROMISED || row.last.trim() != "none")
        .map(|row| row.line)
        .collect();
    ensure!(
        unproven.is_empty(),
        "name a test in the last column, or \"none\" where nothing is promised: {unproven:?}"
    );
    Ok(())
}

#[test]
fn names_are_found_where_tests_are() {
    let source = |path: &str, text: &str| Source {
        path: path.to_owned(),
        text: text.to_owned(),
        tests: tests_in(text),
    };
    let sources = Sources(vec![
        source(
            "/tests/cluster/tests/cases/mod.rs",
            "(\n    \"a_case\",\n    drain::a_case),\n(\"owned\".to_owned(), x) // \"said\"",
        ),
        source("/tests/cluster/tests/cases/work.rs", "run(\"setting\", 1)"),
        source(
            "/tests/faults/src/cases.rs",
            "Case { name: \"field\", other_name: \"none\" }",
        ),
        source(
            "/tests/faults/src/scenario.rs",
            "Scenario::new(\"fault\", x)",
        ),
        source("/tests/chaos/tests/cases/yardstick.rs", "(\"trial\", x)"),
        source(
            "/tests/conformance/src/cases/polls.rs",
            "async fn counts() {}",
        ),
        source("/crates/scaling/src/polls.rs", "fn decides() {}"),
        source(
            "/crates/a/src/b.rs",
            "fn not_a_test() {}\n    #[test]\n    #[ignore]\n    fn unit() {}\n    \"words\"",
        ),
    ]);
    for name in [
        "a_case",
        "owned",
        "field",
        "fault",
        "yardstick::trial",
        "polls::counts",
        "unit",
    ] {
        assert!(sources.have(name), "{name}");
    }
    for name in [
        "not_a_test",
        "words",
        "said",
        "setting",
        "none",
        "counts",
        "leases::counts",
        "polls",
        "polls::decides",
    ] {
        assert!(!sources.have(name), "{name}");
    }
    let table = "| what | test |\n| --- | --- |\n| a `b` | `c`, `d` |\n\n| e | f |\n";
    let found: Vec<_> = rows(table)
        .map(|row| (row.table, named(row.last).collect::<Vec<_>>()))
        .collect();
    assert_eq!(found, [("what", vec!["c", "d"])]);
}

/// A row of a table.
struct Row<'a> {
    line: &'a str,
    /// What stands over the table's first column.
    table: &'a str,
    /// The last column.
    last: &'a str,
}

/// The rows of all tables, without their heads.
fn rows(page: &str) -> impl Iterator<Item = Row<'_>> {
    let (mut before, mut table) = ("", None);
    page.lines().filter_map(move |line| {
        let head = std::mem::replace(&mut before, line);
        let Some(cells) = cells(line) else {
            table = None;
            return None;
        };
        if cells.starts_with(" ---") {
            table = head.split('|').nth(1).map(str::trim);
            return None;
        }
        Some(Row {
            line,
            table: table?,
            last: cells.rsplit('|').next()?,
        })
    })
}

/// What a line of a table holds.
fn cells(line: &str) -> Option<&str> {
    line.trim_end().strip_prefix('|')?.strip_suffix('|')
}

/// The names in backticks.
fn named(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// A file of the tree.
struct Source {
    path: String,
    text: String,
    /// The functions in it that are tests.
    tests: Vec<String>,
}

struct Sources(Vec<Source>);

impl Sources {
    fn read() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut sources = Self(Vec::new());
        for tree in TREES {
            sources.add(&root.join(tree))?;
        }
        Ok(sources)
    }

    fn add(&mut self, folder: &Path) -> Result<()> {
        let entries = fs::read_dir(folder);
        for entry in entries.with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                self.add(&path)?;
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path)?;
                self.0.push(Source {
                    path: path.display().to_string(),
                    tests: tests_in(&text),
                    text,
                });
            }
        }
        Ok(())
    }

    /// A name is that of a function that is a test, or of a case that a suite below tests/ lists.
    /// With `module::` before it, it is of that module's file.
    fn have(&self, name: &str) -> bool {
        match name.rsplit_once("::") {
            Some((module, name)) => {
                let file = format!("/{module}.rs");
                let mut files = self.0.iter().filter(|s| s.path.ends_with(&file));
                files.any(|s| s.has_function(name) || s.lists(name))
            }
            None => (self.0.iter()).any(|s| s.tests.iter().any(|t| t == name) || s.lists(name)),
        }
    }
}

impl Source {
    fn has_function(&self, name: &str) -> bool {
        self.path.contains(MODULES) && self.text.contains(&format!("fn {name}("))
    }

    /// As the first of a tuple, a scenario's name, or the field `name`.
    fn lists(&self, name: &str) -> bool {
        if !LISTS.iter().any(|list| self.path.ends_with(list)) {
            return false;
        }
        let code: String = self.text.split_whitespace().collect();
        let listed = [
            format!("(\"{name}\","),
            format!("(\"{name}\".to_owned(),"),
            format!("{{name:\"{name}\","),
        ];
        listed.iter().any(|listed| code.contains(listed))
    }
}

/// The functions that are tests.
fn tests_in(source: &str) -> Vec<String> {
    let mut tests = Vec::new();
    let mut is_test = false;
    for line in source.lines().map(str::trim_start) {
        if line.starts_with("#[tokio::test") || line.starts_with("#[test]") {
            is_test = true;
        } else if is_test
            && let Some(rest) = line
                .strip_prefix("async ")
                .unwrap_or(line)
                .strip_prefix("fn ")
        {
            tests.extend(rest.split('(').next().map(str::to_owned));
            is_test = false;
        }
    }
    tests
}
