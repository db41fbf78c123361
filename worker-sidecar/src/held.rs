//! The tasks in work, for what else may come about them than the handler's answer: updates that
//! the user's code sends by itself ([`crate::local_api`]).

use std::{
    collections::BTreeMap,
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use conductor_client::{Task, UpdateStatus};
use tokio::sync::watch;

use crate::{
    lease::Air,
    outcome::{End, Fault, Outcome},
};

/// Every task in work, from the poll that brought it until its slot is free. Clones are one.
#[derive(Debug, Clone, Default)]
pub struct HeldTasks(Arc<Mutex<Entries>>);

#[derive(Debug, Default)]
struct Entries {
    next: u64,
    tasks: BTreeMap<u64, Arc<HeldTask>>,
}

/// A task in work.
#[derive(Debug)]
pub struct HeldTask {
    /// The task's id.
    pub task_id: String,
    /// Its workflow's id.
    pub workflow_id: String,
    /// Its name in the workflow, in a loop with the iteration as suffix: `ref__2`.
    pub reference: String,
    /// How long its lease lasts; zero for none.
    pub lease: Duration,
    /// Its updates go one by one, whoever sends them.
    pub air: Air,
    settled: watch::Sender<Option<UpdateStatus>>,
}

/// The stay of a task among [`HeldTasks`]; dropping it ends it.
#[derive(Debug)]
pub struct Held {
    number: u64,
    tasks: HeldTasks,
    task: Arc<HeldTask>,
}

impl HeldTasks {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A task came.
    pub fn hold(&self, task: &Task) -> Held {
        let task = Arc::new(HeldTask {
            task_id: task.task_id().to_owned(),
            workflow_id: task.workflow_id().to_owned(),
            reference: task.reference_name().to_owned(),
            lease: Duration::from_secs(task.response_timeout_seconds()),
            air: Air::default(),
            settled: watch::Sender::new(None),
        });
        let mut entries = self.entries();
        let number = entries.next;
        entries.next += 1;
        entries.tasks.insert(number, task.clone());
        drop(entries);
        Held {
            number,
            tasks: self.clone(),
            task,
        }
    }

    /// The task of this id; the newest, where it came again while its last stay ends.
    pub fn by_id(&self, task_id: &str) -> Option<Arc<HeldTask>> {
        self.find(|task| task.task_id == task_id)
    }

    /// The task of this name in a workflow. Like Conductor, it takes the name of a task in a
    /// loop with and without the iteration.
    pub fn by_reference(&self, workflow_id: &str, reference: &str) -> Option<Arc<HeldTask>> {
        self.find(|task| {
            let named =
                task.reference == reference || without_iteration(&task.reference) == reference;
            named && task.workflow_id == workflow_id
        })
    }

    fn find(&self, wanted: impl Fn(&HeldTask) -> bool) -> Option<Arc<HeldTask>> {
        let entries = self.entries();
        let found = entries.tasks.values().rev().find(|task| wanted(task));
        found.cloned()
    }

    /// How many there have ever been.
    pub fn ever(&self) -> u64 {
        self.entries().next
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries().tasks.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries().tasks.is_empty()
    }
}

impl HeldTask {
    /// Conductor took a terminal update from somebody else than the handler's answer. To be
    /// called while the turn of [`Air::for_report`] is held.
    pub fn settle(&self, status: UpdateStatus) {
        self.settled.send_replace(Some(status));
    }

    /// Ends when it is settled.
    pub async fn settling(&self) {
        let mut settled = self.settled.subscribe();
        // The sender lives in `self`, so the channel cannot close meanwhile.
        let _ = settled.wait_for(Option::is_some).await;
    }

    /// How it was settled, if it was: an update in the air is waited for.
    pub async fn settled(&self) -> Option<UpdateStatus> {
        let _turn = self.air.for_report().await;
        *self.settled.borrow()
    }
}

impl Deref for Held {
    type Target = HeldTask;

    fn deref(&self) -> &HeldTask {
        &self.task
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.tasks.entries().tasks.remove(&self.number);
    }
}

/// What counts as the outcome of a task that was settled: the end, without what was sent.
pub fn outcome(settled: UpdateStatus) -> Outcome {
    let end = match settled {
        UpdateStatus::Completed => End::Completed,
        UpdateStatus::Failed => End::Failed(Fault::Handler),
        UpdateStatus::FailedWithTerminalError => End::Terminal(Fault::Handler),
        UpdateStatus::Canceled => End::Canceled,
        UpdateStatus::InProgress => End::Deferred { after: 0 },
    };
    Outcome {
        end,
        output: None,
        reason: None,
        logs: Vec::new(),
    }
}

/// `ref__2` is `ref`'s second time round a loop.
fn without_iteration(reference: &str) -> &str {
    match reference.rsplit_once("__") {
        Some((name, n)) if !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => reference,
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use serde_json::json;

    use super::*;

    fn task(id: &str, reference: &str) -> Task {
        let json = json!({"taskId": id, "workflowInstanceId": "w", "referenceTaskName": reference,
            "status": "IN_PROGRESS"});
        Task::from_json(&json.to_string()).unwrap()
    }

    #[test]
    fn a_task_is_found_by_id_and_by_name_while_it_is_held() {
        let tasks = HeldTasks::default();
        assert!(tasks.is_empty());
        let one = tasks.hold(&task("1", "greet"));
        let _looped = tasks.hold(&task("2", "again__12"));
        assert_eq!(tasks.by_id("1").unwrap().reference, "greet");
        assert!(tasks.by_id("3").is_none());
        for (workflow, reference, id) in [
            ("w", "greet", Some("1")),
            ("x", "greet", None),
            ("w", "again__12", Some("2")),
            ("w", "again", Some("2")),
            ("w", "again__1", None),
            ("w", "gre", None),
        ] {
            let found = tasks.by_reference(workflow, reference);
            assert_eq!(found.as_deref().map(|t| &*t.task_id), id, "{reference}");
        }
        drop(one);
        assert!(tasks.by_id("1").is_none() && !tasks.is_empty());
    }

    #[test]
    fn one_that_comes_again_is_another() {
        let tasks = HeldTasks::default();
        let first = tasks.hold(&task("1", "greet"));
        let again = tasks.hold(&task("1", "greet"));
        tasks.by_id("1").unwrap().settle(UpdateStatus::Completed);
        assert_eq!(first.settled().now_or_never().unwrap(), None);
        drop(first);
        assert!(tasks.by_id("1").is_some());
        assert!(again.settling().now_or_never().is_some());
    }

    #[tokio::test]
    async fn an_update_in_the_air_is_waited_for() {
        let tasks = HeldTasks::default();
        let held = tasks.hold(&task("1", "greet"));
        let turn = held.air.for_report().await;
        assert!(held.settled().now_or_never().is_none());
        held.settle(UpdateStatus::Failed);
        drop(turn);
        assert_eq!(held.settled().await, Some(UpdateStatus::Failed));
    }
}
