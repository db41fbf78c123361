//! What the API server refuses is refused here too, for those who run without one. The
//! manifests are crates/api/tests/refusals; a real API server gets them in tests/cluster.

use std::{fs, path::Path};

use api::ConductorWorkerSpec;
use operator::worker::{Defaults, Worker};
use serde_json::Value;

/// Only the API server sees these: they are not about the spec.
const NOT_OF_THE_SPEC: &[&str] = &["name-too-long.yaml"];

#[test]
fn what_the_api_server_refuses_cannot_be_run_either() {
    let defaults = Defaults {
        conductor_url: None,
        sidecar_image: "sidecar".to_owned(),
        sidecar_image_pull_policy: "Never".to_owned(),
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/api/tests/refusals");
    let mut seen = 0;
    let mut wrong = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if NOT_OF_THE_SPEC.contains(&&*name) {
            continue;
        }
        seen += 1;
        let text = fs::read_to_string(&path).unwrap();
        let manifest: Value = serde_saphyr::from_str(&text).unwrap();
        let said = match serde_json::from_value::<ConductorWorkerSpec>(manifest["spec"].clone()) {
            // Not even the shape is right: the reader's own words.
            Err(_) => continue,
            Ok(spec) => match Worker::parse(&spec, &defaults) {
                Ok(_) => {
                    wrong.push(format!("{name} is accepted"));
                    continue;
                }
                Err(error) => error.to_string(),
            },
        };
        // The words may be more precise than CEL's; the field and what to do are never missing.
        let advice = [
            "write", "leave", "remove", "lower", "raise", "give", "let", "set",
        ];
        if !said.starts_with("spec.") || !advice.iter().any(|word| said.contains(word)) {
            wrong.push(format!(
                "{name}: {said:?} does not say where and what to do"
            ));
        }
    }
    assert!(seen >= 20, "only {seen} manifests");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
