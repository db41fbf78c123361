//! What became of each task, and whether that may be. Pure.
//!
//! ```text
//! workflows as Conductor has them ─┐
//! the handlers' ledger ────────────┼─> Story of each workflow ─> Fate: once, again (why), lost
//! what went wrong, where and when ─┘                             └─> Figures, and what may not be
//! ```

use std::collections::{BTreeMap, BTreeSet};

use conductor_client::{TaskStatus, Workflow, WorkflowStatus};
use live::{clock::seconds, ledger::Execution, watch::Log};
use serde::{Deserialize, Serialize};
use simulator::nearest_rank;

use crate::kind::Event;

mod excuse;
mod recovery;
mod silence;

pub use recovery::Recovery;

/// What is written down is late by less than this, in seconds: the ledger is told over HTTP, a
/// process is killed before or after it is noted.
const SLACK: f64 = 3.0;

/// Why a task is executed by two at once though nothing went wrong.
pub const REPAIRED: &str = "queued again by Conductor while it was taken";

/// An attempt at a task, as Conductor tells it. Times are seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its id.
    pub task: String,
    /// How it ended, or where it is.
    pub status: TaskStatus,
    /// When a worker had it.
    pub started: Option<f64>,
    /// When it was ended.
    pub ended: Option<f64>,
    /// Which pod polled it last.
    pub pod: Option<String>,
    /// Why it failed.
    pub reason: Option<String>,
    /// What the handlers say of it.
    pub executions: Vec<Execution>,
}

impl Attempt {
    /// Which pod had it last.
    fn last_pod(&self) -> Option<&String> {
        let execution = self.executions.last();
        execution.map(|e| &e.pod).or(self.pod.as_ref())
    }
}

/// A workflow of one task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Story {
    /// Its id.
    pub workflow: String,
    /// How it ended, or where it is.
    pub status: WorkflowStatus,
    /// How long its task takes, in seconds.
    pub takes: f64,
    /// When it was started.
    pub created: f64,
    /// When it had ended.
    pub ended: Option<f64>,
    /// In their order.
    pub attempts: Vec<Attempt>,
}

impl Story {
    /// Of a workflow and what handlers say of its tasks.
    pub fn of(
        workflow: &Workflow,
        takes: f64,
        executions: &mut BTreeMap<String, Vec<Execution>>,
    ) -> Self {
        let mut tasks: Vec<_> = workflow.tasks.iter().collect();
        tasks.sort_by_key(|task| task.retry_count());
        Self {
            workflow: workflow.workflow_id.clone(),
            status: workflow.status,
            takes,
            created: seconds(workflow.create_time).unwrap_or_default(),
            ended: seconds(workflow.end_time),
            attempts: tasks
                .into_iter()
                .map(|task| Attempt {
                    task: task.task_id().to_owned(),
                    status: task.status(),
                    started: seconds(task.start_time()),
                    ended: seconds(task.end_time()),
                    pod: task.worker_id().map(str::to_owned),
                    reason: task.reason().map(str::to_owned),
                    executions: executions.remove(task.task_id()).unwrap_or_default(),
                })
                .collect(),
        }
    }

    /// When Conductor ended an attempt. An extension that it took at that very time, as one that lay
    /// in a socket of a server that was starting, writes the task back as it was before: it times out
    /// a second time then, one lease later. The next attempt was there after the first time.
    fn ended(&self, attempt: usize) -> Option<f64> {
        let ended = self.attempts[attempt].ended?;
        let next = self.attempts.get(attempt + 1);
        let next = next.filter(|_| self.attempts[attempt].status == TaskStatus::TimedOut);
        let next = next.and_then(|next| next.started);
        Some(next.map_or(ended, |next| ended.min(next)))
    }

    fn executions(&self) -> impl Iterator<Item = &Execution> {
        self.attempts.iter().flat_map(|a| &a.executions)
    }
}

/// What became of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Fate {
    /// Executed once, by its first attempt.
    Once,
    /// Tried or executed again; why each time, and none where there is no reason.
    Again(Vec<Option<String>>),
    /// Not completed, or completed without an execution.
    Lost,
}

/// The figures of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Workflows.
    pub tasks: usize,
    /// Executed once, by their first attempt.
    pub once: usize,
    /// Tried or executed again.
    pub repeated: usize,
    /// How often tasks were tried or executed again, by the reason of each time.
    pub again: BTreeMap<String, usize>,
    /// Not completed, or without an execution.
    pub lost: usize,
    /// Executions that began and were not done.
    pub cut_off: usize,
    /// Executions that began after another of the same workflow was done.
    pub after_done: usize,
    /// Attempts beyond the first.
    pub retries: usize,
    /// Attempts that Conductor ended because it had not heard of them in time.
    pub timed_out: usize,
    /// From a workflow's start to its end beyond its task's own time, in seconds: the median, the
    /// 99th percentile and the most.
    pub beyond: [f64; 3],
    /// From the workflow's start to its end, in seconds: the 99th percentile.
    pub p99: f64,
    /// Tasks that were handed back, and in seconds from then to their next execution: the median
    /// and the most.
    pub handed_back: (usize, [f64; 2]),
    /// Of the results that were there while Conductor restarted, the last one's lateness: how many
    /// seconds after the server's return it had it. Results that met the next outage do not count.
    pub after_return: Option<f64>,
    /// How soon tasks went on that were in flight in what was killed, by what that was.
    pub recovery: BTreeMap<String, Recovery>,
}

/// What is known of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// The task's lease in seconds.
    pub lease: f64,
    /// The pods' grace period in seconds.
    pub grace: f64,
    /// Tasks that are longer than the grace period may be handed back and executed again.
    pub hand_backs: bool,
    /// Tasks that Conductor has queued again by itself, by their ids: its sweeper takes a task that is
    /// just being polled for one that its queue has lost.
    #[serde(default)]
    pub repaired: BTreeSet<String>,
    /// What went wrong.
    pub events: Vec<Event>,
    /// Pods and replicas.
    pub log: Log,
    /// What became of the workflows.
    pub stories: Vec<Story>,
}

/// The figures, and in one sentence each what may not be.
pub fn check(account: &Account) -> (Figures, Vec<String>) {
    let mut figures = Figures {
        tasks: account.stories.len(),
        ..Figures::default()
    };
    let mut wrong = Vec::new();
    let (mut beyond, mut whole, mut pauses) = (Vec::new(), Vec::new(), Vec::new());
    for story in &account.stories {
        figures.cut_off += story.executions().filter(|e| e.ended.is_none()).count();
        figures.after_done += after_done(story);
        figures.retries += story.attempts.len().saturating_sub(1);
        let timed_out = |a: &&Attempt| a.status == TaskStatus::TimedOut;
        pauses.extend(hand_backs(story));
        figures.timed_out += story.attempts.iter().filter(timed_out).count();
        if let Some(ended) = story.ended {
            whole.push(ended - story.created);
            beyond.push(ended - story.created - story.takes);
        }
        match account.fate(story) {
            Fate::Once => figures.once += 1,
            Fate::Lost => {
                figures.lost += 1;
                wrong.push(format!("lost: {}", told(story)));
            }
            Fate::Again(reasons) => {
                figures.repeated += 1;
                for reason in reasons {
                    let Some(reason) = reason else {
                        wrong.push(format!("again without a reason: {}", told(story)));
                        continue;
                    };
                    *figures.again.entry(reason).or_default() += 1;
                }
            }
        }
    }
    figures.beyond = [0.5, 0.99, 1.0].map(|share| rank(&mut beyond, share));
    figures.p99 = rank(&mut whole, 0.99);
    let ranks = [0.5, 1.0].map(|share| rank(&mut pauses, share));
    figures.handed_back = (pauses.len(), ranks);
    figures.after_return = account.after_return();
    let (recovery, late) = account.recovery();
    figures.recovery = recovery;
    wrong.extend(late);
    (figures, wrong)
}

/// The nearest rank.
fn rank(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    nearest_rank(values, share)
}

/// Executions that began when another of the same workflow was done.
fn after_done(story: &Story) -> usize {
    let done = story.executions().filter_map(|e| e.ended);
    let first = done.fold(f64::INFINITY, f64::min);
    story.executions().filter(|e| e.began > first).count()
}

/// From each end of a call from outside to the next execution of the same attempt. Who ends it and
/// who begins tell the ledger each for himself, so that the next may be written down first.
fn hand_backs(story: &Story) -> Vec<f64> {
    let pairs = story.attempts.iter().flat_map(|a| a.executions.windows(2));
    pairs
        .filter_map(|pair| Some(pair[1].began - pair[0].cut?))
        .filter(|pause| *pause >= -SLACK)
        .map(|pause| pause.max(0.0))
        .collect()
}

/// A story in one line.
fn told(story: &Story) -> String {
    let attempts = story.attempts.iter().map(|a| {
        let at = |t: Option<f64>| t.map_or("–".to_owned(), |t| format!("{t:.1}"));
        let executions = a.executions.iter().map(|e| {
            let end = match (e.ended, e.cut) {
                (Some(ended), _) => format!("{ended:.1}"),
                (None, Some(cut)) => format!("cut {cut:.1}"),
                (None, None) => "–".to_owned(),
            };
            format!("{} {:.1} to {end}", e.pod, e.began)
        });
        format!(
            "{:?} {} to {} by {} ({}) [{}]",
            a.status,
            at(a.started),
            at(a.ended),
            a.pod.as_deref().unwrap_or("nobody"),
            a.reason.as_deref().unwrap_or("no reason"),
            executions.collect::<Vec<_>>().join("; ")
        )
    });
    let attempts: Vec<String> = attempts.collect();
    format!(
        "{} of {:.1} s, created at {:.1}, is {:?}: {}",
        story.workflow,
        story.takes,
        story.created,
        story.status,
        attempts.join(", ")
    )
}

impl Account {
    /// What became of one workflow.
    pub fn fate(&self, story: &Story) -> Fate {
        let done = story.executions().any(|e| e.ended.is_some());
        if story.status != WorkflowStatus::Completed || !done {
            return Fate::Lost;
        }
        let mut reasons = Vec::new();
        for (n, attempt) in story.attempts.iter().enumerate() {
            // Within one attempt: it was handed back, or delivered twice.
            for pair in attempt.executions.windows(2) {
                reasons.push(self.why_again(attempt, &pair[0], &pair[1]));
            }
            if n + 1 < story.attempts.len() {
                reasons.push(self.why_retried(attempt, story.ended(n)));
            }
        }
        if reasons.is_empty() {
            Fate::Once
        } else {
            Fate::Again(reasons)
        }
    }
}

#[cfg(test)]
mod tests;
