//! What is generated from the code is not stale; `UPDATE=1` rewrites it.

use std::{env, fs, path::Path, process::Command};

#[test]
fn the_metrics_reference_is_not_stale() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics-operator.md");
    let made = operator::metrics::Metrics::reference().unwrap();
    if env::var_os("UPDATE").is_some_and(|v| v == "1") {
        fs::write(&path, &made).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == made,
        "docs/metrics-operator.md is stale: run UPDATE=1 cargo test -p operator"
    );
}

#[test]
fn crd_prints_what_is_in_crds() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds/conductorworkers.yaml");
    let out = Command::new(env!("CARGO_BIN_EXE_operator"))
        .arg("crd")
        .output()
        .unwrap();
    assert!(out.status.success());
    assert_eq!(
        String::from_utf8(out.stdout).unwrap(),
        fs::read_to_string(path).unwrap()
    );
}

#[test]
fn a_bad_flag_exits_64_with_one_line() {
    let out = Command::new(env!("CARGO_BIN_EXE_operator"))
        .args(["--sidecar-image", "s", "--tick", "never"])
        .env_remove("KUBECONFIG")
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(64));
    let said = String::from_utf8(out.stderr).unwrap();
    assert_eq!(
        said,
        "error: --tick (TICK) is \"never\"; write a duration from 1s to 5m, such as 5s\n"
    );
}
