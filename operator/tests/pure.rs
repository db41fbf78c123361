//! What decides does no IO, reads no clock and draws no random number.

use std::{
    fs,
    path::{Path, PathBuf},
};

const FORBIDDEN: &[&str] = &[
    "Instant::now",
    "SystemTime::now",
    "Timestamp::now",
    "Zoned::now",
    "env::var",
    "rand",
    "fastrand",
    "tokio",
    "kube::",
    "async",
    "std::fs",
    "std::net",
];

/// All of kube's that a plan uses: the resource's own names, and how selectors match labels.
const PERMITTED: &[&str] = &[
    "use kube::Resource;",
    "use kube::core::{Selector, SelectorExt};",
];

#[test]
fn what_decides_is_pure() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = sources(&root.join("../crates/scaling/src"));
    files.extend(sources(&root.join("src/controller/plan")));
    files.push(root.join("src/controller/plan.rs"));
    files.retain(|file| {
        file.iter()
            .all(|part| part != "tests" && part != "tests.rs")
    });
    assert!(files.len() >= 8, "only {files:?}");
    let mut found = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for (n, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for word in FORBIDDEN.iter().filter(|word| has(code, word)) {
                if !PERMITTED.contains(&code.trim()) {
                    found.push(format!("{}:{}: {word}", file.display(), n + 1));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Whether a line has the word, not merely a longer one that contains it.
fn has(code: &str, word: &str) -> bool {
    let inside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    code.match_indices(word).any(|(at, _)| {
        !inside(code[..at].chars().next_back())
            && (word.ends_with("::") || !inside(code[at + word.len()..].chars().next()))
    })
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry of it").path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files
}

#[test]
fn words_are_whole() {
    assert!(has("let now = Instant::now();", "Instant::now"));
    assert!(has("use tokio::time;", "tokio"));
    assert!(has("pub async fn f()", "async"));
    assert!(!has("let operands = 1;", "rand"));
    assert!(!has("k8s_kube::x", "kube::"));
}
