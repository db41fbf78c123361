//! Conductor's state, without a clock, a socket or a random number: every call says what
//! time it is.
//!
//! ```text
//! definitions ──start──> workflow ──decide──> task ──> queue ──pop, hand_out──> worker
//!                           ^                                                     │
//!                           └──────── decide <── update, time-outs (tick) <───────┘
//! ```

mod decide;
mod definitions;
mod error;
mod expression;
mod ids;
mod lenient;
mod payload;
mod places;
mod poll;
mod queue;
mod rates;
mod start;
mod store;
mod task;
mod task_def;
mod timeouts;
mod timers;
mod update;
mod workflow;
mod workflow_def;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

pub(crate) use definitions::UpdateOf;
pub(crate) use error::Refused;
pub(crate) use poll::{Poll, Polled};
pub(crate) use start::Start;
pub use store::BatchFill;
pub(crate) use task::Task;
pub(crate) use task_def::TaskDef;
pub(crate) use update::{ByReference, TaskResult};
pub(crate) use workflow::Workflow;
pub(crate) use workflow_def::WorkflowDef;

use ids::Ids;
use queue::Queue;
use rates::Rates;
use timers::{Event, Timers};
use update::TaskLog;
use workflow_def::Plan;

/// Everything the server knows.
#[derive(Debug)]
pub(crate) struct State {
    like: BatchFill,
    ids: Ids,
    task_defs: BTreeMap<String, TaskDef>,
    workflow_defs: BTreeMap<String, BTreeMap<i64, WorkflowDef>>,
    /// Plans of the definitions as they are now; emptied when one changes.
    plans: HashMap<(String, i64), Arc<Plan>>,
    workflows: HashMap<Arc<str>, Workflow>,
    tasks: HashMap<Arc<str>, Task>,
    queues: BTreeMap<Arc<str>, Queue>,
    timers: Timers,
    /// Tasks in progress by task definition.
    running: HashMap<Arc<str>, usize>,
    rates: Rates,
    polled: BTreeMap<(String, Option<String>), Polled>,
    logs: HashMap<String, Vec<TaskLog>>,
    /// Ended workflows, oldest first, so that the oldest can be forgotten.
    ended: VecDeque<Arc<str>>,
    keep_ended: usize,
    /// Queues that got a task since the last [`State::take_woken`].
    woken: Vec<Arc<str>>,
    /// What tasks did since the last [`State::take_moves`], if that is wanted.
    moves: Option<Vec<(Arc<str>, Move)>>,
    counts: Counts,
}

/// A step of a task on its way through the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// Polls can see it.
    Queued,
    /// A poll has it.
    Given,
    /// It has ended, however.
    Ended,
}

/// What happened since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Workflows started.
    pub started: u64,
    /// Workflows that ended COMPLETED.
    pub completed: u64,
    /// Workflows that ended otherwise.
    pub failed: u64,
    /// Polls that ended, single and batch.
    pub polls: u64,
    /// Those of them that brought nothing.
    pub empty_polls: u64,
    /// Tasks given to polls.
    pub delivered: u64,
    /// Updates that changed a task.
    pub updates: u64,
    /// Updates of tasks that had ended, thrown away.
    pub discarded: u64,
    /// Lease extensions.
    pub leases: u64,
    /// Tasks put back by an `IN_PROGRESS` update.
    pub handed_back: u64,
    /// New attempts.
    pub retries: u64,
}

impl State {
    /// An empty server. `seed` determines the ids it will give; of the workflows that have
    /// ended the last `keep_ended` are kept.
    pub(crate) fn new(seed: u64, keep_ended: usize, like: BatchFill) -> Self {
        Self {
            like,
            ids: Ids::new(seed),
            task_defs: BTreeMap::new(),
            workflow_defs: BTreeMap::new(),
            plans: HashMap::new(),
            workflows: HashMap::new(),
            tasks: HashMap::new(),
            queues: BTreeMap::new(),
            timers: Timers::default(),
            running: HashMap::new(),
            rates: Rates::default(),
            polled: BTreeMap::new(),
            logs: HashMap::new(),
            ended: VecDeque::new(),
            keep_ended,
            woken: Vec::new(),
            moves: None,
            counts: Counts::default(),
        }
    }

    /// Does what is due by now.
    pub(crate) fn tick(&mut self, now: i64) {
        while let Some((due, event)) = self.timers.pop(now) {
            match event {
                Event::Deliver(id) => self.make_ready(&id),
                Event::Decide(workflow) => {
                    // A task's own alarm has gone off: it must not be cancelled later.
                    if let Some(task) = self.last_task(&workflow)
                        && task.alarm == Some(due)
                    {
                        task.alarm = None;
                    }
                    self.decide(&workflow, now);
                }
            }
        }
    }

    /// When [`State::tick`] has something to do next.
    pub(crate) fn next_due(&self) -> Option<i64> {
        self.timers.next()
    }

    /// The queues that got tasks, once per task.
    pub(crate) fn take_woken(&mut self) -> Vec<Arc<str>> {
        std::mem::take(&mut self.woken)
    }

    /// An id that nothing has.
    pub(crate) fn unused_id(&mut self) -> Arc<str> {
        self.ids.next()
    }

    /// From now on notes what tasks do, for [`State::take_moves`].
    pub(crate) fn note_moves(&mut self) {
        self.moves = Some(Vec::new());
    }

    /// What tasks did since the last time, oldest first.
    pub(crate) fn take_moves(&mut self) -> Vec<(Arc<str>, Move)> {
        self.moves.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn note(&mut self, task: &Arc<str>, what: Move) {
        if let Some(moves) = &mut self.moves {
            moves.push((task.clone(), what));
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    pub(crate) fn task(&self, id: &str) -> Option<&Task> {
        self.tasks.get(id)
    }

    pub(crate) fn workflow(&self, id: &str) -> Result<&Workflow, Refused> {
        self.workflows
            .get(id)
            .ok_or_else(|| Refused::missing(format!("No such workflow found by id: {id}")))
    }

    /// The workflow and, if asked for, its tasks, as JSON.
    pub(crate) fn workflow_json(&self, id: &str, tasks: bool) -> Result<String, Refused> {
        let workflow = self.workflow(id)?;
        let tasks: Vec<&Task> = if tasks {
            workflow
                .tasks
                .iter()
                .filter_map(|id| self.tasks.get(id))
                .collect()
        } else {
            Vec::new()
        };
        workflow
            .json(&tasks)
            .map_err(|e| Refused::mistake(e.to_string()))
    }

    /// The ids of a definition's workflows that have not ended.
    pub(crate) fn running_workflows(&self, name: &str) -> Vec<&str> {
        self.workflows
            .values()
            .filter(|w| &*w.plan.name == name && !w.status.is_terminal())
            .map(|w| &*w.id)
            .collect()
    }

    fn last_task(&mut self, workflow: &str) -> Option<&mut Task> {
        let id = self.workflows.get(workflow)?.tasks.last()?;
        self.tasks.get_mut(id)
    }

    /// `DELETE /workflow/{id}/remove`.
    pub(crate) fn remove(&mut self, id: &str, now: i64) -> Result<(), Refused> {
        if !self.workflow(id)?.status.is_terminal() {
            let status = workflow::WorkflowStatus::Terminated;
            self.end_workflow(id, status, None, now);
        }
        self.forget(id);
        Ok(())
    }

    /// Forgets a workflow that has ended.
    fn forget(&mut self, id: &str) {
        let Some(workflow) = self.workflows.remove(id) else {
            return;
        };
        for task in &workflow.tasks {
            self.tasks.remove(task);
            self.logs.remove(&**task);
        }
    }
}
