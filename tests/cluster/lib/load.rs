//! Workflows started on the real Conductor, and what became of each.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result, ensure};
use conductor_client::{Client, StartWorkflow, Workflow, WorkflowStatus};
use serde_json::{Map, Value};

use crate::{Bed, until};

/// Workflows of one definition, by the number they were started with.
pub struct Load<'a> {
    bed: &'a Bed,
    workflow: &'a str,
    ids: Vec<String>,
}

/// What became of a load.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Ids of all tasks of all workflows.
    pub tasks: BTreeSet<String>,
    /// Everything that is not as it should be, one sentence each.
    pub wrong: Vec<String>,
}

impl<'a> Load<'a> {
    /// Nothing started yet.
    pub fn new(bed: &'a Bed, workflow: &'a str) -> Self {
        Self {
            bed,
            workflow,
            ids: Vec::new(),
        }
    }

    /// Starts `count` more, each with the input that `input` gives its number.
    pub fn start(
        &mut self,
        count: usize,
        input: impl Fn(usize) -> Map<String, Value>,
    ) -> Result<()> {
        for n in self.ids.len()..self.ids.len() + count {
            let start = StartWorkflow {
                name: self.workflow.to_owned(),
                input: input(n),
                ..StartWorkflow::default()
            };
            let id = self
                .bed
                .wait(self.bed.conductor.start_workflow(&start))
                .context("starting a workflow")?;
            self.ids.push(id);
        }
        Ok(())
    }

    /// How many were started.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// How many have ended, in whatever way.
    pub fn ended(&self) -> Result<usize> {
        let mut ended = 0;
        for id in &self.ids {
            ended += usize::from(self.get(id, false)?.status.is_terminal());
        }
        Ok(ended)
    }

    /// How many have not.
    pub fn open(&self) -> Result<usize> {
        Ok(self.ids.len() - self.ended()?)
    }

    /// Waits until all have ended.
    pub fn finish(&self, bound: Duration) -> Result<()> {
        let mut left: Vec<&String> = self.ids.iter().collect();
        until("every workflow ended", bound, || {
            let mut open = Vec::new();
            for id in left.drain(..) {
                if !self.get(id, false)?.status.is_terminal() {
                    open.push(id);
                }
            }
            left = open;
            ensure!(
                left.is_empty(),
                "{} of {} are still open, for example {}",
                left.len(),
                self.ids.len(),
                left[0]
            );
            Ok(Some(()))
        })
    }

    /// Reads every workflow: each must be COMPLETED with the output that `expected` gives its
    /// number, by one task that was started once and never retried.
    pub fn check(&self, expected: impl Fn(usize) -> Map<String, Value>) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        for (n, id) in self.ids.iter().enumerate() {
            let w = self.get(id, true)?;
            outcome.wrong.extend(wrong(id, &w, &expected(n)));
            if w.tasks.len() != 1 {
                outcome
                    .wrong
                    .push(format!("{id} has {} tasks", w.tasks.len()));
            }
            for t in &w.tasks {
                if t.retry_count() != 0 {
                    outcome.wrong.push(format!(
                        "{id}: task {} is retry {}",
                        t.task_id(),
                        t.retry_count()
                    ));
                }
                outcome.tasks.insert(t.task_id().to_owned());
            }
        }
        Ok(outcome)
    }

    /// Reads every workflow: each must be COMPLETED with the output that `expected` gives its
    /// number, however often its task was tried. What is not, one sentence each.
    pub fn wrong(&self, expected: impl Fn(usize) -> Map<String, Value>) -> Result<Vec<String>> {
        let mut all = Vec::new();
        for (n, id) in self.ids.iter().enumerate() {
            all.extend(wrong(id, &self.get(id, false)?, &expected(n)));
        }
        Ok(all)
    }

    fn get(&self, id: &str, tasks: bool) -> Result<Workflow> {
        let client: &Client = &self.bed.conductor;
        Ok(self.bed.wait(client.get_workflow(id, tasks))?)
    }
}

/// What is wrong with how a workflow ended.
fn wrong(id: &str, w: &Workflow, expected: &Map<String, Value>) -> Vec<String> {
    let mut wrong = Vec::new();
    if w.status != WorkflowStatus::Completed {
        let why = &w.reason_for_incompletion;
        wrong.push(format!("{id} is {:?}: {why:?}", w.status));
    }
    if w.output != *expected {
        wrong.push(format!("{id} has the output {:?}", w.output));
    }
    wrong
}
