//! A server that hands out nothing of a queue any more.
//!
//! The queues of Conductor on Redis (orkes-queues up to 2.0.0.rc3) can lose their poller: two wake it
//! at once, its count goes below zero, and nobody polls Redis for that queue until the server is
//! started again. It is told of at <https://github.com/orkes-io/orkes-queues/pull/30>, and was seen
//! here once in 31,330 tasks. No worker can do anything about it; who runs Conductor restarts it, and
//! so do we, and say so.

use std::time::Duration;

use anyhow::Result;
use conductor_client::QueueName;
use live::clock::now;
use tokio::time::sleep;

use crate::{
    act::restart_conductor,
    course::{Course, Phase},
    kind::{Event, Kind},
    world::World,
};

/// How often it is looked.
const TICK: Duration = Duration::from_secs(5);

/// For how many seconds nothing may have begun though tasks wait. Longer than a handler's longest
/// task, with which all slots may be filled.
const STANDS: f64 = 75.0;

/// What was seen of a queue.
#[derive(Debug, Default)]
struct Seen {
    begun: usize,
    /// Since when nothing has begun though tasks wait.
    since: Option<f64>,
}

impl Seen {
    /// Tasks wait, and so many executions have begun, at this time in seconds. Since when it has
    /// stood still, where that is for too long.
    fn stands_since(&mut self, waiting: u64, begun: usize, at: f64) -> Option<f64> {
        if waiting == 0 || begun != self.begun {
            *self = Self { begun, since: None };
            return None;
        }
        let since = *self.since.get_or_insert(at);
        (at - since >= STANDS).then_some(since)
    }
}

/// Restarts a server that stands still, until the run is over; each time as an event.
pub async fn restart_where_stuck(world: &World<'_>, course: &Course) -> Result<Vec<Event>> {
    let queue = QueueName::new(&world.setting.name, None);
    let mut seen = Seen::default();
    let mut events = Vec::new();
    while course.phase() < Phase::Over {
        sleep(TICK).await;
        // Nothing begins while the way to Conductor is broken on purpose.
        let Ok(_road) = world.turns.road.try_lock() else {
            seen = Seen::default();
            continue;
        };
        let Ok(waiting) = world.stage.bed.conductor.queue_size(&queue).await else {
            continue;
        };
        let begun = world.ledger.begun();
        if let Some(from) = seen.stands_since(waiting, begun, now()) {
            eprintln!("Conductor hands out none of {waiting} tasks: it is restarted");
            restart_conductor("TERM").await?;
            seen = Seen::default();
            events.push(Event {
                kind: Kind::QueueStuck,
                pods: vec![],
                from,
                to: now(),
            });
        }
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_stuck_where_nothing_begins_for_long_though_tasks_wait() {
        let mut seen = Seen::default();
        let mut look = |waiting, begun, at| seen.stands_since(waiting, begun, at);
        assert_eq!(look(5, 3, 0.0), None);
        assert_eq!(look(5, 3, 10.0), None);
        // One begins, or none waits: it begins anew.
        assert_eq!(look(5, 4, 80.0), None);
        assert_eq!(look(5, 4, 85.0), None);
        assert_eq!(look(0, 4, 150.0), None);
        assert_eq!(look(9, 4, 155.0), None);
        assert_eq!(look(9, 4, 229.0), None);
        assert_eq!(look(9, 4, 230.0), Some(155.0));
    }
}
