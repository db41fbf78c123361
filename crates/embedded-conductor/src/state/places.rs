//! Moving tasks into and out of their queues, and setting their alarms.

use std::sync::Arc;

use super::{Move, State, queue::Place, timers::Event};

impl State {
    /// Puts a task into its queue, to be seen after `delay` milliseconds.
    pub(super) fn enqueue(&mut self, id: &Arc<str>, delay: i64, now: i64) {
        self.leave_queue(id);
        if delay <= 0 {
            self.make_ready(id);
            return;
        }
        let Some(task) = self.tasks.get_mut(id) else {
            return;
        };
        let due = self.timers.add(now + delay, Event::Deliver(id.clone()));
        let queue = self.queues.entry(task.queue.clone()).or_default();
        task.place = queue.delay(id.clone(), due);
    }

    /// Lets polls see a task now.
    pub(super) fn make_ready(&mut self, id: &Arc<str>) {
        let Some(task) = self.tasks.get_mut(id) else {
            return;
        };
        let rank = self.like.rank(task.priority);
        let queue = self.queues.entry(task.queue.clone()).or_default();
        queue.remove(task.place);
        task.place = queue.push(id.clone(), rank);
        self.woken.push(task.queue.clone());
        self.note(id, Move::Queued);
    }

    pub(super) fn leave_queue(&mut self, id: &str) {
        let Some(task) = self.tasks.get_mut(id) else {
            return;
        };
        let place = std::mem::replace(&mut task.place, Place::Out);
        if let Place::Delayed(due) = place {
            self.timers.cancel(due);
        }
        if let Some(queue) = self.queues.get_mut(&task.queue) {
            queue.remove(place);
        }
    }

    /// Sets the timer of a task's next time-out in place of the one before.
    pub(super) fn set_alarm(&mut self, id: &str) {
        let Some(task) = self.tasks.get_mut(id) else {
            return;
        };
        if let Some(alarm) = task.alarm.take() {
            self.timers.cancel(alarm);
        }
        if let Some(at) = task.deadline() {
            let event = Event::Decide(task.workflow_id.clone());
            task.alarm = Some(self.timers.add(at, event));
        }
    }
}

/// A queue's name.
pub(super) fn queue_name(task_type: &str, domain: Option<&str>) -> Arc<str> {
    match domain {
        Some(domain) => Arc::from(format!("{domain}:{task_type}")),
        None => Arc::from(task_type),
    }
}
