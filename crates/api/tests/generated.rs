//! The definition in crds/ is the one that the code makes.

use std::{env, fs, path::Path};

#[test]
fn the_definition_is_not_stale() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crds/conductorworkers.yaml");
    let made = api::crd_yaml().unwrap();
    if env::var_os("UPDATE").is_some_and(|v| v == "1") {
        fs::write(&path, &made).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == made,
        "crds/conductorworkers.yaml is stale: run UPDATE=1 cargo test -p api"
    );
}
