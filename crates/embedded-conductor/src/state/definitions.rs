//! Definitions: what can be registered, and read back.

use std::sync::Arc;

use super::{
    State,
    error::{Refused, Violation},
    task_def::TaskDef,
    workflow_def::{Plan, WorkflowDef},
};

/// Whether a workflow definition may replace one that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UpdateOf {
    /// No: that is a conflict.
    Nothing,
    /// Yes.
    Existing,
}

impl State {
    /// `POST /metadata/taskdefs`: all of them or none.
    pub(crate) fn register_task_defs(
        &mut self,
        defs: Vec<TaskDef>,
        now: i64,
    ) -> Result<(), Refused> {
        let mut violations: Vec<_> = defs
            .iter()
            .enumerate()
            .flat_map(|(i, def)| def.violations(&format!("registerTaskDef.arg0[{i}]")))
            .collect();
        if defs.is_empty() {
            violations.push(Violation::new(
                "registerTaskDef.arg0",
                "TaskDefList is empty",
            ));
        }
        if !violations.is_empty() {
            return Err(Refused::invalid(violations));
        }
        for mut def in defs {
            def.create_time = now;
            def.created_by = Some(String::new());
            (def.update_time, def.updated_by) = (0, None);
            self.task_defs.insert(def.name().to_owned(), def);
        }
        self.plans.clear();
        Ok(())
    }

    /// `PUT /metadata/taskdefs`: one that exists.
    pub(crate) fn update_task_def(&mut self, mut def: TaskDef, now: i64) -> Result<(), Refused> {
        let violations = def.violations("updateTaskDef.arg0");
        if !violations.is_empty() {
            return Err(Refused::invalid(violations));
        }
        let Some(known) = self.task_defs.get_mut(def.name()) else {
            return Err(Refused::missing(format!(
                "No such task by name {}",
                def.name()
            )));
        };
        def.create_time = known.create_time;
        def.created_by.clone_from(&known.created_by);
        def.update_time = now;
        def.updated_by = Some(String::new());
        *known = def;
        self.plans.clear();
        Ok(())
    }

    pub(crate) fn task_def(&self, name: &str) -> Result<&TaskDef, Refused> {
        self.task_defs
            .get(name)
            .ok_or_else(|| Refused::missing(format!("No such taskType found by name: {name}")))
    }

    pub(crate) fn task_defs(&self) -> Vec<&TaskDef> {
        self.task_defs.values().collect()
    }

    /// `DELETE /metadata/taskdefs/{name}`. Queued tasks stay.
    pub(crate) fn remove_task_def(&mut self, name: &str) -> Result<(), Refused> {
        let status = self.like.nothing_to_delete();
        self.task_defs.remove(name).ok_or_else(|| {
            Refused::new(status, "Cannot remove the task - no such task definition")
        })?;
        self.plans.clear();
        Ok(())
    }

    /// `POST` and `PUT /metadata/workflow`.
    pub(crate) fn register_workflow_def(
        &mut self,
        mut def: WorkflowDef,
        update: UpdateOf,
        now: i64,
    ) -> Result<(), Refused> {
        let path = match update {
            UpdateOf::Nothing => "registerWorkflowDef.arg0",
            UpdateOf::Existing => "updateWorkflowDef.arg0[0]",
        };
        def.check(path)?;
        def.complete();
        let versions = self.workflow_defs.entry(def.name().to_owned()).or_default();
        if update == UpdateOf::Nothing && versions.contains_key(&def.version) {
            return Err(Refused::conflict(format!(
                "Workflow with {}.{} already exists!",
                def.name(),
                def.version
            )));
        }
        let (created, updated) = match update {
            UpdateOf::Nothing => (now, 0),
            UpdateOf::Existing => (0, now),
        };
        def.rest.insert("createTime".to_owned(), created.into());
        def.rest.insert("updateTime".to_owned(), updated.into());
        versions.insert(def.version, def);
        self.plans.clear();
        Ok(())
    }

    pub(crate) fn workflow_def(
        &self,
        name: &str,
        version: Option<i64>,
    ) -> Result<&WorkflowDef, Refused> {
        let versions = self.workflow_defs.get(name);
        let found = match version {
            Some(version) => versions.and_then(|v| v.get(&version)),
            None => versions.and_then(|v| v.values().next_back()),
        };
        found.ok_or_else(|| {
            let version = version.map_or("null".to_owned(), |v| v.to_string());
            Refused::missing(format!(
                "No such workflow found by name: {name}, version: {version}"
            ))
        })
    }

    pub(crate) fn workflow_defs(&self) -> Vec<&WorkflowDef> {
        self.workflow_defs
            .values()
            .flat_map(|v| v.values())
            .collect()
    }

    pub(crate) fn remove_workflow_def(&mut self, name: &str, version: i64) -> Result<(), Refused> {
        let removed = self
            .workflow_defs
            .get_mut(name)
            .and_then(|v| v.remove(&version));
        if removed.is_none() {
            return Err(Refused::new(
                self.like.nothing_to_delete(),
                format!(
                    "Cannot remove the workflow - no such workflow definition: {name} version: {version}"
                ),
            ));
        }
        if self
            .workflow_defs
            .get(name)
            .is_some_and(std::collections::BTreeMap::is_empty)
        {
            self.workflow_defs.remove(name);
        }
        self.plans.clear();
        Ok(())
    }

    /// A registered definition's plan.
    pub(super) fn plan(&mut self, name: &str, version: Option<i64>) -> Result<Arc<Plan>, Refused> {
        let def = self.workflow_def(name, version).map_err(|_| {
            Refused::missing(match version {
                Some(version) => {
                    format!("No such workflow defined. name={name}, version={version}")
                }
                None => format!("No such workflow defined. name={name}"),
            })
        })?;
        let key = (name.to_owned(), def.version);
        if let Some(plan) = self.plans.get(&key) {
            return Ok(plan.clone());
        }
        let plan = Arc::new(self.plan_of(def.clone())?);
        self.plans.insert(key, plan.clone());
        Ok(plan)
    }

    /// A definition's plan with the task definitions as they are now.
    pub(super) fn plan_of(&self, def: WorkflowDef) -> Result<Plan, Refused> {
        Plan::new(def, |name| self.task_defs.get(name)).map_err(|e| Refused::mistake(e.to_string()))
    }
}
