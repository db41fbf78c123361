//! What is in the files that a user names. Pure: text in, meaning out.

use api::ConductorWorker;
use conductor_client::{TaskDef, WorkflowDef};
use serde_json::Value;

/// The meaning of some files.
#[derive(Debug, Default)]
pub(crate) struct Manifests {
    /// The workers, by name.
    pub(crate) workers: Vec<ConductorWorker>,
    /// Workflow definitions to register.
    pub(crate) workflows: Vec<WorkflowDef>,
    /// Task definitions to register.
    pub(crate) tasks: Vec<TaskDef>,
    /// What was passed over, one sentence each.
    pub(crate) notes: Vec<String>,
}

/// A file that cannot be used, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {why}")]
pub(crate) struct Unusable {
    file: String,
    why: String,
}

impl Manifests {
    /// Adds the documents of one file: Kubernetes manifests in YAML, of which
    /// `ConductorWorker`s are taken, and Conductor's own definitions in JSON or YAML.
    pub(crate) fn add(&mut self, file: &str, text: &str) -> Result<(), Unusable> {
        let refuse = |why: String| Unusable {
            file: file.to_owned(),
            why,
        };
        let documents: Vec<Value> = serde_saphyr::from_multiple(text)
            .map_err(|e| refuse(format!("neither YAML nor JSON: {e}")))?;
        for document in documents {
            match document {
                Value::Null => (),
                Value::Array(items) => {
                    for item in items {
                        self.add_one(file, item).map_err(refuse)?;
                    }
                }
                one => self.add_one(file, one).map_err(refuse)?,
            }
        }
        Ok(())
    }

    fn add_one(&mut self, file: &str, document: Value) -> Result<(), String> {
        let name = document["metadata"]["name"]
            .as_str()
            .or(document["name"].as_str())
            .unwrap_or("?")
            .to_owned();
        match document["kind"].as_str() {
            Some("ConductorWorker") => {
                known(&document).map_err(|e| format!("ConductorWorker {name}: {e}"))?;
                let worker: ConductorWorker = serde_json::from_value(document)
                    .map_err(|e| format!("ConductorWorker {name}: {e}"))?;
                self.workers.push(worker);
            }
            Some(kind) => self.notes.push(format!(
                "{file}: {kind} {name} is passed over; only ConductorWorkers run here"
            )),
            None if document["tasks"].is_array() => {
                self.workflows.push(
                    serde_json::from_value(document)
                        .map_err(|e| format!("workflow {name}: {e}"))?,
                );
            }
            None if document["name"].is_string() => {
                self.tasks.push(
                    serde_json::from_value(document)
                        .map_err(|e| format!("task definition {name}: {e}"))?,
                );
            }
            None => {
                return Err(
                    "holds something that is neither a Kubernetes manifest (with kind), nor a workflow definition \
                     (with name and tasks), nor a task definition (with name)"
                        .to_owned(),
                );
            }
        }
        Ok(())
    }

    /// Workflows that the load starts: those of the files that use a task of a worker, or one
    /// of a single task for each task type that no file's workflow uses.
    pub(crate) fn workflows_to_start(&self) -> Vec<WorkflowDef> {
        let types: Vec<&str> = self
            .workers
            .iter()
            .flat_map(|w| &w.spec.tasks)
            .map(|t| t.name.as_str())
            .collect();
        let ours: Vec<WorkflowDef> = self
            .workflows
            .iter()
            .filter(|w| w.tasks.iter().any(|t| types.contains(&t.name.as_str())))
            .cloned()
            .collect();
        let used = |name: &str| ours.iter().flat_map(|w| &w.tasks).any(|t| t.name == name);
        let made = types.iter().filter(|t| !used(t)).map(|task_type| {
            let mut def =
                WorkflowDef::sequence(format!("dev_{task_type}"), [(*task_type, *task_type)]);
            for task in &mut def.tasks {
                task.input_parameters
                    .insert("name".into(), "${workflow.input.name}".into());
                task.input_parameters
                    .insert("n".into(), "${workflow.input.n}".into());
            }
            def
        });
        ours.iter().cloned().chain(made).collect()
    }
}

/// Whether the resource has all fields of a manifest's spec, as the API server asks before it takes
/// one. The rest is the same for all kinds.
fn known(document: &Value) -> Result<(), String> {
    let definition = api::crd()
        .and_then(serde_json::to_value)
        .map_err(|e| e.to_string())?;
    let version = &definition["spec"]["versions"][0];
    let schema = &version["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut unknown = Vec::new();
    find_unknown(schema, &document["spec"], "spec", &mut unknown);
    if unknown.is_empty() {
        Ok(())
    } else {
        Err(unknown.join("; "))
    }
}

/// Adds a sentence for each field of the value, at this path, that its schema does not have.
fn find_unknown(schema: &Value, value: &Value, path: &str, unknown: &mut Vec<String>) {
    match value {
        Value::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                find_unknown(&schema["items"], item, &format!("{path}[{n}]"), unknown);
            }
        }
        Value::Object(fields) => {
            let is_open = schema["x-kubernetes-preserve-unknown-fields"] == true
                || schema["additionalProperties"] == true;
            let Some(properties) = schema["properties"].as_object() else {
                // Names of the user's own.
                for (name, value) in fields {
                    let schema = &schema["additionalProperties"];
                    find_unknown(schema, value, &format!("{path}.{name}"), unknown);
                }
                return;
            };
            for (name, value) in fields {
                if let Some(schema) = properties.get(name) {
                    find_unknown(schema, value, &format!("{path}.{name}"), unknown);
                } else if !is_open {
                    let names: Vec<&str> = properties.keys().map(String::as_str).collect();
                    let names = names.join(", ");
                    unknown.push(format!(
                        "there is no field {path}.{name}; {path} has {names}"
                    ));
                }
            }
        }
        _ => (),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKER: &str = "
apiVersion: conductor-oss.org/v1alpha1
kind: ConductorWorker
metadata: {name: w}
spec:
  tasks: [{name: a}, {name: b}]
  scaling: {maxWait: 10s}
  template: {spec: {containers: [{name: app, image: x}]}}
---
apiVersion: v1
kind: Secret
metadata: {name: s}
";

    #[test]
    fn documents_are_told_apart() {
        let mut m = Manifests::default();
        m.add("w.yaml", WORKER).unwrap();
        m.add("d.json", r#"[{"name": "a", "retryCount": 1}, {"name": "wf", "tasks": [{"name": "a", "taskReferenceName": "r"}]}]"#)
            .unwrap();
        assert_eq!(
            (m.workers.len(), m.workflows.len(), m.tasks.len()),
            (1, 1, 1)
        );
        assert!(
            m.notes[0].contains("Secret s is passed over"),
            "{:?}",
            m.notes
        );
        let names: Vec<_> = m.workflows_to_start().into_iter().map(|w| w.name).collect();
        assert_eq!(
            names,
            ["wf", "dev_b"],
            "a task type that no workflow uses gets one"
        );
    }

    #[test]
    fn what_cannot_be_used_is_said() {
        let mut m = Manifests::default();
        for (text, words) in [
            ("a: [", "neither YAML nor JSON"),
            ("a: 1", "neither a Kubernetes manifest"),
            (
                "kind: ConductorWorker\nmetadata: {name: w}\nspec: {}",
                "ConductorWorker w: missing field",
            ),
        ] {
            let said = m.add("f.yaml", text).unwrap_err().to_string();
            assert!(
                said.starts_with("f.yaml: ") && said.contains(words),
                "{said}"
            );
        }
    }

    #[test]
    fn the_example_has_known_fields_alone() {
        let text = include_str!("../../examples/greet/worker.yaml");
        let mut m = Manifests::default();
        m.add("worker.yaml", text).unwrap();
        assert_eq!(m.workers.len(), 1);
    }

    #[test]
    fn a_misspelt_field_is_named_with_those_that_there_are() {
        let said = |old: &str, new: &str| {
            let text = WORKER.replace(old, new);
            assert_ne!(text, WORKER);
            let said = Manifests::default().add("f.yaml", &text);
            said.map_err(|e| e.to_string())
        };
        let error = said("maxWait", "maxWiat").unwrap_err();
        assert!(
            error.contains("no field spec.scaling.maxWiat; spec.scaling has drainWithin, max"),
            "{error}"
        );
        let error = said("{name: b}", "{name: b, concurency: 2}").unwrap_err();
        assert!(
            error.contains("spec.tasks[1].concurency; spec.tasks[1] has concurrency,"),
            "{error}"
        );
        // A pod template is Kubernetes' own, and headers have names of the user's.
        said("image: x", "image: x, resources: {limits: {cpu: 1}}").unwrap();
        said(
            "scaling:",
            "connection: {url: \"http://c/api\", headers: {X-Tenant: shop}}\n  scaling:",
        )
        .unwrap();
    }
}
