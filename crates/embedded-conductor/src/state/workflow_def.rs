//! Workflow definitions: SIMPLE tasks in sequence, and a clear refusal of the rest.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};

use super::{
    error::{Refused, Violation},
    expression,
    lenient::{int, optional_int},
    task_def::{TaskDef, TimeoutPolicy},
};

/// A workflow definition. What is not named is kept and shown, and changes nothing.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WorkflowDef {
    #[serde(default)]
    pub(crate) name: Option<String>,
    #[serde(default = "one", deserialize_with = "int")]
    pub(crate) version: i64,
    #[serde(default = "two", deserialize_with = "int")]
    schema_version: i64,
    #[serde(default)]
    pub(crate) tasks: Vec<WorkflowTask>,
    #[serde(default)]
    pub(crate) output_parameters: Map<String, Value>,
    #[serde(default)]
    pub(crate) input_template: Map<String, Value>,
    #[serde(default)]
    pub(crate) variables: Map<String, Value>,
    #[serde(default, deserialize_with = "int")]
    pub(crate) timeout_seconds: i64,
    #[serde(default = "alert_only")]
    pub(crate) timeout_policy: TimeoutPolicy,
    #[serde(flatten)]
    pub(crate) rest: Map<String, Value>,
}

/// A task of a workflow definition.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WorkflowTask {
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) task_reference_name: String,
    #[serde(rename = "type", default = "simple")]
    kind: String,
    #[serde(default)]
    pub(crate) input_parameters: Map<String, Value>,
    #[serde(default, deserialize_with = "int")]
    pub(crate) start_delay: i64,
    #[serde(default)]
    pub(crate) optional: bool,
    #[serde(
        default,
        deserialize_with = "optional_int",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) retry_count: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    task_definition: Option<TaskDef>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

fn one() -> i64 {
    1
}

fn two() -> i64 {
    2
}

fn simple() -> String {
    "SIMPLE".to_owned()
}

fn alert_only() -> TimeoutPolicy {
    TimeoutPolicy::AlertOnly
}

/// What changes a workflow's course in ways that are not here.
const UNSUPPORTED_OF_WORKFLOW: [&str; 5] = [
    "failureWorkflow",
    "rateLimitConfig",
    "inputSchema",
    "outputSchema",
    "cacheConfig",
];
const UNSUPPORTED_OF_TASK: [&str; 19] = [
    "decisionCases",
    "defaultCase",
    "caseValueParam",
    "caseExpression",
    "scriptExpression",
    "forkTasks",
    "dynamicForkTasksParam",
    "dynamicForkJoinTasksParam",
    "dynamicTaskNameParam",
    "joinOn",
    "defaultExclusiveJoinTask",
    "loopCondition",
    "loopOver",
    "subWorkflowParam",
    "sink",
    "asyncComplete",
    "permissive",
    "onStateChange",
    "cacheConfig",
];

/// Fields without effect here that Conductor shows, set or not.
const SHOWN_OF_WORKFLOW: &str = r#"{"enforceSchema":true,"inputParameters":[],"maskedFields":[],
    "metadata":{},"restartable":true,"workflowStatusListenerEnabled":false}"#;
const SHOWN_OF_TASK: &str = r#"{"asyncComplete":false,"decisionCases":{},"defaultCase":[],
    "defaultExclusiveJoinTask":[],"forkTasks":[],"joinOn":[],"loopOver":[],"metadata":{},
    "onStateChange":{},"permissive":false}"#;

/// Adds what is shown and not there.
fn show(shown: &str, rest: &mut Map<String, Value>) {
    let shown: Map<String, Value> = serde_json::from_str(shown).unwrap_or_default();
    for (field, value) in shown {
        rest.entry(field).or_insert(value);
    }
}

fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(s) => !s.is_empty(),
        Value::Array(a) => !a.is_empty(),
        Value::Object(o) => !o.is_empty(),
        _ => true,
    }
}

fn unsupported(what: &str) -> Refused {
    Refused::bad(format!(
        "embedded-conductor runs SIMPLE tasks in sequence only; it does not support {what}"
    ))
}

impl WorkflowDef {
    /// Adds the fields that Conductor shows though nobody set them.
    pub(crate) fn complete(&mut self) {
        show(SHOWN_OF_WORKFLOW, &mut self.rest);
        for task in &mut self.tasks {
            show(SHOWN_OF_TASK, &mut task.rest);
        }
    }

    pub(crate) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// Refuses what Conductor refuses, and what is not supported here. `path` is where
    /// Conductor says that the definition is.
    pub(crate) fn check(&self, path: &str) -> Result<(), Refused> {
        let violations = self.violations(path);
        if !violations.is_empty() {
            return Err(Refused::invalid(violations));
        }
        for field in UNSUPPORTED_OF_WORKFLOW {
            if self.rest.get(field).is_some_and(is_set) {
                return Err(unsupported(&format!("{field} of workflow {}", self.name())));
            }
        }
        expression::check(&self.output_parameters).map_err(|e| unsupported(&e))?;
        for task in &self.tasks {
            task.check()?;
        }
        Ok(())
    }

    fn violations(&self, path: &str) -> Vec<Violation> {
        let mut found = Vec::new();
        if self.name().is_empty() {
            found.push(Violation::new(
                format!("{path}.name"),
                "WorkflowDef name cannot be null or empty",
            ));
        }
        if self.schema_version != 2 {
            let message = "workflowDef schemaVersion: 2 is only supported";
            found.push(
                Violation::new(format!("{path}.schemaVersion"), message).of(self.schema_version),
            );
        }
        if self.tasks.is_empty() {
            let message = "WorkflowTask list cannot be empty";
            found.push(Violation::new(format!("{path}.tasks"), message));
        }
        for (i, task) in self.tasks.iter().enumerate() {
            if task.name.is_empty() {
                found.push(Violation::new(
                    format!("{path}.tasks[{i}].name"),
                    "WorkflowTask name cannot be empty or null",
                ));
            }
            if task.task_reference_name.is_empty() {
                found.push(Violation::new(
                    format!("{path}.tasks[{i}].taskReferenceName"),
                    "WorkflowTask taskReferenceName name cannot be empty or null",
                ));
            }
            let reference = &task.task_reference_name;
            let twice = self.tasks[..i]
                .iter()
                .any(|t| &t.task_reference_name == reference);
            if twice && !reference.is_empty() {
                let message = format!(
                    "taskReferenceName: {reference} should be unique across tasks for a given workflowDefinition: {}",
                    self.name()
                );
                found.push(Violation::new(path, message));
            }
        }
        found
    }
}

impl WorkflowTask {
    fn check(&self) -> Result<(), Refused> {
        let reference = &self.task_reference_name;
        if self.kind != "SIMPLE" {
            return Err(unsupported(&format!(
                "tasks of type {} (task {reference})",
                self.kind
            )));
        }
        for field in UNSUPPORTED_OF_TASK {
            if self.rest.get(field).is_some_and(is_set) {
                return Err(unsupported(&format!("{field} of task {reference}")));
            }
        }
        expression::check(&self.input_parameters).map_err(|e| unsupported(&e))
    }
}

/// A workflow definition with the task definitions of the moment, which a started workflow
/// keeps; made once per change of the definitions.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) def: WorkflowDef,
    pub(crate) name: Arc<str>,
    /// The definition as JSON.
    pub(crate) json: Box<RawValue>,
    pub(crate) steps: Vec<Arc<Step>>,
}

/// A task of a plan.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) index: usize,
    pub(crate) task: WorkflowTask,
    pub(crate) task_type: Arc<str>,
    pub(crate) def: TaskDef,
    /// `workflowTask` as JSON, the definition inside.
    pub(crate) task_json: Box<RawValue>,
    /// `taskDefinition` as JSON.
    pub(crate) def_json: Box<RawValue>,
}

impl Plan {
    /// `known` finds a task definition by name.
    pub(crate) fn new<'a>(
        mut def: WorkflowDef,
        known: impl Fn(&str) -> Option<&'a TaskDef>,
    ) -> Result<Self, serde_json::Error> {
        def.complete();
        let mut steps = Vec::with_capacity(def.tasks.len());
        for (index, task) in def.tasks.iter_mut().enumerate() {
            let found = match task.task_definition.take() {
                Some(own) => own,
                None => known(&task.name)
                    .cloned()
                    .unwrap_or_else(|| TaskDef::unregistered(&task.name)),
            };
            task.task_definition = Some(found.clone());
            steps.push(Arc::new(Step {
                index,
                task_type: Arc::from(task.name.as_str()),
                task_json: serde_json::value::to_raw_value(task)?,
                def_json: serde_json::value::to_raw_value(&found)?,
                task: task.clone(),
                def: found,
            }));
        }
        Ok(Self {
            name: Arc::from(def.name()),
            json: serde_json::value::to_raw_value(&def)?,
            def,
            steps,
        })
    }
}

impl Step {
    /// Attempts after the first.
    pub(crate) fn retries(&self) -> i64 {
        self.task.retry_count.unwrap_or(self.def.retry_count)
    }
}
