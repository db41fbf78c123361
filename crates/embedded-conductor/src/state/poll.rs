//! Polls, and what there is to know about queues.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    BatchFill, Move, State,
    error::Refused,
    places::queue_name,
    queue::Place,
    task::{Task, TaskStatus},
};

/// How long a task over one of its definition's limits is put away.
const POSTPONED: i64 = 60_000;

/// Who polls for what.
#[derive(Debug, Clone)]
pub(crate) struct Poll {
    pub(crate) task_type: String,
    pub(crate) domain: Option<String>,
    pub(crate) worker_id: Option<String>,
}

/// The last poll of a type in a domain.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Polled {
    queue_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker_id: Option<String>,
    pub(crate) last_poll_time: i64,
}

impl Poll {
    pub(crate) fn queue(&self) -> Arc<str> {
        queue_name(&self.task_type, self.domain.as_deref())
    }
}

impl State {
    /// Takes up to `count` tasks into a poll's hand: nobody else gets them, and they are not
    /// started yet.
    pub(crate) fn pop(&mut self, queue: &str, count: usize) -> Vec<Arc<str>> {
        let Some(queue) = self.queues.get_mut(queue) else {
            return Vec::new();
        };
        let mut taken = Vec::new();
        while taken.len() < count
            && let Some(id) = queue.pop()
        {
            if let Some(task) = self.tasks.get_mut(&id) {
                task.place = Place::Held;
            }
            taken.push(id);
        }
        taken
    }

    /// Ends a poll: what it holds is started and given out, or put away if one of its
    /// definition's limits is reached.
    pub(crate) fn hand_out(&mut self, poll: &Poll, held: &[Arc<str>], now: i64) -> Vec<Task> {
        let mut given = Vec::with_capacity(held.len());
        for id in held {
            let Some(task) = self.tasks.get(id) else {
                continue;
            };
            // Ended or handed back meanwhile by somebody who did not poll it.
            if task.place != Place::Held {
                continue;
            }
            let task_type = task.step.task_type.clone();
            let running = self.running.get(&task_type).copied().unwrap_or_default();
            let full = task.step.def.limit().is_some_and(|limit| running >= limit);
            let limited = full
                || self.like.limits_rates() && !self.rates.admit(&task_type, &task.step.def, now);
            if limited {
                self.enqueue(id, POSTPONED, now);
                continue;
            }
            self.leave_queue(id);
            let Some(task) = self.tasks.get_mut(id) else {
                continue;
            };
            let was_running = task.status == TaskStatus::InProgress; // after a requeue
            task.status = TaskStatus::InProgress;
            if task.started == 0 {
                task.started = now;
            }
            task.updated = now;
            task.callback_after = 0;
            task.worker_id.clone_from(&poll.worker_id);
            task.poll_count += 1;
            given.push(task.clone());
            if !was_running {
                self.count_running(&task_type, 1);
            }
            self.set_alarm(id);
            self.note(id, Move::Given);
        }
        self.polled.insert(
            (poll.task_type.clone(), poll.domain.clone()),
            Polled {
                queue_name: poll.task_type.clone(),
                domain: poll.domain.clone(),
                worker_id: poll.worker_id.clone(),
                last_poll_time: now,
            },
        );
        self.counts.polls += 1;
        self.counts.empty_polls += u64::from(given.is_empty());
        self.counts.delivered += given.len() as u64;
        given
    }

    /// Waiting tasks of a queue, delayed ones included; 0 if there is no such queue.
    pub(crate) fn queue_size(&self, queue: &str) -> usize {
        self.queues.get(queue).map_or(0, super::Queue::size)
    }

    /// The queue of a task type, in a domain if one is named.
    pub(crate) fn size_of(&self, task_type: &str, domain: Option<&str>) -> usize {
        self.queue_size(&queue_name(task_type, domain))
    }

    /// `GET /tasks/queue/all`.
    pub(crate) fn queues(&self) -> BTreeMap<&str, usize> {
        self.queues
            .iter()
            .map(|(name, queue)| (&**name, queue.size_without_held()))
            .collect()
    }

    /// `GET /tasks/queue/all/verbose`.
    pub(crate) fn queues_verbose(&self) -> Result<Value, Refused> {
        if self.like == BatchFill::Redis {
            // Its shards have no name.
            return Err(Refused::mistake(
                "Could not write JSON: Null key for a Map not allowed in JSON",
            ));
        }
        Ok(self
            .queues
            .iter()
            .map(|(name, queue)| {
                let shard =
                    json!({ "a": { "size": queue.size_without_held(), "uacked": queue.held() } });
                (name.to_string(), shard)
            })
            .collect())
    }

    /// The last pollers of a task type, or of all.
    pub(crate) fn poll_data(&self, task_type: Option<&str>) -> Vec<&Polled> {
        self.polled
            .values()
            .filter(|p| task_type.is_none_or(|t| t == p.queue_name))
            .collect()
    }

    /// `POST /tasks/queue/requeue/{type}`: tasks in progress come a second time, under the
    /// same id; how many.
    pub(crate) fn requeue(&mut self, task_type: &str, now: i64) -> usize {
        let live: Vec<_> = self
            .tasks
            .values()
            .filter(|t| &*t.step.task_type == task_type && !t.status.is_terminal())
            .map(|t| t.id.clone())
            .collect();
        for id in &live {
            self.enqueue(id, 0, now);
        }
        live.len()
    }
}
