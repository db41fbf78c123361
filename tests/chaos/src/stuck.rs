//! A server that hands out nothing of a queue any more.
//!
//! The queues of Conductor on Redis (orkes-queues up to 2.0.0.rc3) can lose their poller: two wake it
//! at once, its count goes below zero, and nobody polls Redis for that queue until the server is
//! started again. It is told of at <https://github.com/orkes-io/orkes-queues/pull/30>, and was seen
//! here once, in a run of 31,330 workflows, when 29,885 of their tasks had been executed. No worker
//! can do anything about it; who runs Conductor restarts it, and so do we, and say so.
//!
//! Workers that take nothing look the same from afar, and a restart would wake them too. So the queue
//! is polled from here first: a server that gives us a task is not the one that stands still.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use conductor_client::{BatchPoll, Client, QueueName, Task, TaskResult, UpdateStatus};
use live::clock::now;
use tokio::time::sleep;

use crate::{
    act::restart_conductor,
    course::{Course, Phase},
    kind::{Event, Kind},
    retry::again,
    world::World,
};

/// How often it is looked.
const TICK: Duration = Duration::from_secs(5);

/// For how many seconds nothing may have begun though tasks wait. Longer than a handler's longest
/// task, with which all slots may be filled.
const STANDS: f64 = 75.0;

/// How often the queue is polled from here, and how long each poll waits.
const POLLS: usize = 5;
const POLL: Duration = Duration::from_secs(2);

/// What we call ourselves to Conductor.
const ME: &str = "chaos";

/// What was seen of a queue.
#[derive(Debug, Default)]
struct Seen {
    begun: usize,
    /// Since when nothing has begun though tasks wait.
    since: Option<f64>,
}

impl Seen {
    /// Tasks wait, and so many executions have begun, at this time in seconds. Whether it has stood
    /// still for too long.
    fn stands(&mut self, waiting: u64, begun: usize, at: f64) -> bool {
        if waiting == 0 || begun != self.begun {
            *self = Self { begun, since: None };
            return false;
        }
        let since = *self.since.get_or_insert(at);
        at - since >= STANDS
    }
}

/// What a standstill was found to be.
#[derive(Debug, Clone, Copy, Default)]
struct Standstill {
    /// So many tasks Conductor gave to us.
    given: usize,
    /// So many still waited then.
    waiting: u64,
    /// Meanwhile workers took some.
    is_over: bool,
    /// So often Conductor was restarted for it in this run.
    restarts: usize,
}

impl Standstill {
    /// Whether it is Conductor's, and a restart is to end it. An error where it is not, or where a
    /// restart did not help for long.
    fn is_conductors(self) -> Result<bool> {
        if self.given > 0 {
            bail!("Conductor gives out tasks, and no worker took any for {STANDS} s");
        }
        if self.is_over || self.waiting == 0 {
            return Ok(false);
        }
        ensure!(
            self.restarts == 0,
            "Conductor hands out none of {} tasks for the second time in this run",
            self.waiting
        );
        Ok(true)
    }
}

/// Polls a queue, each time for so long; how many tasks came. They are handed back at once.
async fn poll(conductor: &Client, queue: &QueueName, wait: Duration) -> Result<usize> {
    for _ in 0..POLLS {
        let poll = BatchPoll {
            task_type: queue.task_type(),
            worker_id: ME,
            domain: queue.domain(),
            count: 1,
            wait,
        };
        let tasks = conductor.batch_poll(poll).await?;
        for task in &tasks {
            hand_back(conductor, task).await?;
        }
        if !tasks.is_empty() {
            return Ok(tasks.len());
        }
    }
    Ok(0)
}

/// Into its queue again, with the output that it had.
async fn hand_back(conductor: &Client, task: &Task) -> Result<()> {
    let back = TaskResult {
        workflow_instance_id: task.workflow_id().to_owned(),
        task_id: task.task_id().to_owned(),
        status: UpdateStatus::InProgress,
        worker_id: ME.to_owned(),
        output_data: task.output_data(),
        reason_for_incompletion: None,
        callback_after_seconds: 0,
        logs: vec![],
    };
    again("a task is handed back", || async {
        Ok(conductor.update_task(&back).await?)
    })
    .await
}

/// Restarts a server that stands still, once, until the run is over; as an event. An error where
/// it is not the server that does, or it does so again.
pub async fn restart_where_stuck(world: &World<'_>, course: &Course) -> Result<Option<Event>> {
    let conductor = &world.stage.bed.conductor;
    let queue = QueueName::new(&world.setting.name, None);
    let mut seen = Seen::default();
    let mut restarted = None;
    while course.phase() < Phase::Over {
        sleep(TICK).await;
        // Nothing begins while the way to Conductor is broken on purpose.
        let Ok(_road) = world.turns.road.try_lock() else {
            seen = Seen::default();
            continue;
        };
        let Ok(waiting) = conductor.queue_size(&queue).await else {
            continue;
        };
        let begun = world.ledger.begun();
        if !seen.stands(waiting, begun, now()) {
            continue;
        }
        eprintln!("of {waiting} tasks none has begun for {STANDS} s: does Conductor give out any?");
        // Who does not answer at all is another matter.
        let Ok(given) = poll(conductor, &queue, POLL).await else {
            continue;
        };
        let Ok(waiting) = conductor.queue_size(&queue).await else {
            continue;
        };
        let standstill = Standstill {
            given,
            waiting,
            is_over: world.ledger.begun() != begun,
            restarts: usize::from(restarted.is_some()),
        };
        if standstill.is_conductors()? {
            eprintln!("Conductor hands out none of {waiting} tasks: it is restarted");
            let from = now();
            restart_conductor("TERM").await?;
            restarted = Some(Event {
                kind: Kind::QueueStuck,
                pods: vec![],
                from,
                to: now(),
            });
        }
        seen = Seen::default();
    }
    Ok(restarted)
}

#[cfg(test)]
mod tests {
    use harness::Server;

    use super::*;

    #[test]
    fn a_queue_stands_still_where_nothing_begins_for_long_though_tasks_wait() {
        let mut seen = Seen::default();
        let mut look = |waiting, begun, at| seen.stands(waiting, begun, at);
        assert!(!look(5, 3, 0.0));
        assert!(!look(5, 3, 10.0));
        // One begins, or none waits: it begins anew.
        assert!(!look(5, 4, 80.0));
        assert!(!look(5, 4, 85.0));
        assert!(!look(0, 4, 150.0));
        assert!(!look(9, 4, 155.0));
        assert!(!look(9, 4, 229.0));
        assert!(look(9, 4, 230.0));
    }

    #[test]
    fn a_stuck_queue_is_told_from_workers_that_take_nothing() {
        let found = Standstill {
            waiting: 9,
            ..Standstill::default()
        };
        assert!(found.is_conductors().unwrap());
        let is_over = true;
        let goes_on = Standstill { is_over, ..found };
        assert!(!goes_on.is_conductors().unwrap());
        let all_taken = Standstill {
            waiting: 0,
            ..found
        };
        assert!(!all_taken.is_conductors().unwrap());
        let ours = Standstill { given: 1, ..found };
        let why = ours.is_conductors().unwrap_err().to_string();
        let blames_workers = "Conductor gives out tasks, and no worker took any for 75 s";
        assert_eq!(why, blames_workers);
        let again = Standstill {
            restarts: 1,
            ..found
        };
        let why = again.is_conductors().unwrap_err().to_string();
        assert!(why.contains("for the second time"), "{why}");
    }

    #[tokio::test]
    async fn what_conductor_gives_is_put_back_as_it_was() {
        let server = Server::embedded().await.unwrap();
        let name = server.register("stands").await.unwrap();
        let queue = QueueName::new(&name, None);
        let conductor = server.client();
        server.start(&name, serde_json::json!(1)).await.unwrap();
        let poll = || poll(conductor, &queue, Duration::ZERO);
        assert_eq!(poll().await.unwrap(), 1);
        let task = conductor.poll(&name, "w", None).await.unwrap().unwrap();
        assert_eq!((task.retry_count(), task.worker_id()), (0, Some("w")));
        assert_eq!(poll().await.unwrap(), 0);
    }
}
