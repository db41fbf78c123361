//! Free slots become tasks.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use conductor_client::{BatchPoll, Client, Kind, Task};
use tokio::time::Instant;

use crate::{
    backoff::Backoff,
    handler::Handler,
    metrics::TaskMetrics,
    rule::{self, Appetite, Pace, Polled},
    shutdown::Shutdown,
    slots::{Slot, Slots},
    stats::Tally,
};

/// A task that a poll brought.
#[derive(Debug)]
pub struct Delivery {
    /// The task.
    pub task: Task,
    /// Its slot; none if the server sent more than was asked for.
    pub slot: Option<Slot>,
    /// When the poll was answered.
    pub at: Instant,
}

/// Polls one task type. At most one of its polls is in the air.
#[derive(Debug)]
pub struct Poller {
    /// Conductor.
    pub client: Client,
    /// Who polls.
    pub worker_id: String,
    /// The task type.
    pub task_type: String,
    /// Its domain.
    pub domain: Option<String>,
    /// The longest pause between polls of an empty queue.
    pub interval: Duration,
    /// This type's number among those that share the slots.
    pub lane: usize,
    /// The slots.
    pub slots: Arc<Slots>,
    /// The handler.
    pub handler: Arc<Handler>,
    /// Slows down when the handler says it is busy.
    pub brake: Arc<Brake>,
    /// Ends the polls.
    pub shutdown: Shutdown,
    /// Counts for `/stats`.
    pub tally: Arc<Tally>,
    /// Counts for `/metrics`.
    pub metrics: Arc<TaskMetrics>,
    /// How the polls have gone.
    pub pace: Pace,
    /// No poll before.
    pub not_before: Instant,
}

impl Poller {
    /// The next poll's tasks, maybe none; `None` once there will be no more.
    ///
    /// A shutdown ends what comes before a poll, but not the poll: a future that is dropped
    /// would strand the task it was about to bring. For the same reason, do not drop this one.
    pub async fn next(&mut self) -> Option<Vec<Delivery>> {
        let shutdown = self.shutdown.clone();
        let slots = tokio::select! {
            biased;
            _ = shutdown.begun() => return None,
            slots = self.slots_to_poll_for() => slots,
        };
        Some(self.poll(slots).await)
    }

    /// Waits until it may poll, and takes the slots.
    async fn slots_to_poll_for(&mut self) -> Vec<Slot> {
        loop {
            tokio::time::sleep_until(self.not_before).await;
            self.handler_takes_calls().await;
            if !self.slots.is_free(self.lane) {
                self.metrics.queue_full();
            }
            let Some(first) = self.slots.first(self.lane, self.pace.appetite()).await else {
                return std::future::pending().await; // the semaphores are never closed
            };
            // Waiting for a slot may have taken long.
            if !self.handler.is_ready() || self.brake.until() > Instant::now() {
                continue;
            }
            let mut slots = vec![first];
            if self.pace.appetite() == Appetite::Hungry {
                slots.extend(self.slots.more(self.lane));
            }
            self.slots.wants(self.lane, Appetite::InTheAir);
            return slots;
        }
    }

    async fn handler_takes_calls(&self) {
        let brake = self.brake.until();
        if !self.handler.is_ready() || brake > Instant::now() {
            self.metrics.paused();
            self.slots.wants(self.lane, Appetite::Off);
            tokio::time::sleep_until(brake).await;
            self.handler.ready().await;
        }
    }

    async fn poll(&mut self, mut slots: Vec<Slot>) -> Vec<Delivery> {
        let (alone, grace) = (self.slots.is_alone(), self.shutdown.grace());
        let ask = rule::ask(self.pace.appetite(), slots.len(), alone, grace);
        let began = Instant::now();
        let answer = self
            .client
            .batch_poll(BatchPoll {
                task_type: &self.task_type,
                worker_id: &self.worker_id,
                domain: self.domain.as_deref(),
                count: ask.count,
                wait: ask.wait,
            })
            .await;
        let at = Instant::now();
        let took = at - began;
        let (polled, tasks) = match answer {
            Ok(tasks) => {
                self.metrics.polled(took, None);
                self.tally.polled(tasks.len());
                let got = tasks.len();
                (
                    Polled::Tasks {
                        got,
                        asked: ask.count,
                    },
                    tasks,
                )
            }
            Err(error) => {
                tracing::warn!(task_type = self.task_type, %error, "a poll failed");
                self.metrics
                    .polled(took, Some((error.kind(), error.status())));
                self.tally.poll_failed();
                let after = match error.kind() {
                    Kind::Retryable { after } => after,
                    _ => None,
                };
                let unauthorized = error.kind() == Kind::Unauthorized;
                (
                    Polled::Failed {
                        unauthorized,
                        after,
                    },
                    Vec::new(),
                )
            }
        };
        self.pace = self.pace.after(polled);
        self.not_before = at + self.pace.pause(polled, self.interval, fastrand::f64());
        self.slots.wants(self.lane, self.pace.appetite());
        let mut slots = slots.drain(..);
        tasks
            .into_iter()
            .map(|task| Delivery {
                task,
                slot: slots.next(),
                at,
            })
            .collect()
    }
}

/// Holds one type's polls back while its handler answers that it is busy.
#[derive(Debug)]
pub struct Brake(Mutex<Braked>);

#[derive(Debug, Clone, Copy)]
struct Braked {
    until: Instant,
    strikes: u32,
}

impl Brake {
    /// Not braked.
    pub fn new() -> Self {
        Self(Mutex::new(Braked {
            until: Instant::now(),
            strikes: 0,
        }))
    }

    /// No poll before.
    pub fn until(&self) -> Instant {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).until
    }

    /// The handler is busy, for `after` by its own word.
    pub fn busy(&self, after: Duration, random: f64) {
        self.pull(Backoff::BUSY, after, random);
    }

    /// The handler refused a call.
    pub fn refused(&self, random: f64) {
        self.pull(Backoff::REFUSED, Duration::ZERO, random);
    }

    fn pull(&self, backoff: Backoff, after: Duration, random: f64) {
        let mut braked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *braked = braked.pulled(backoff, Instant::now(), after, random);
    }

    /// The handler took a task.
    pub fn free(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .strikes = 0;
    }
}

impl Default for Brake {
    fn default() -> Self {
        Self::new()
    }
}

impl Braked {
    /// Calls that run side by side are refused together: only the first of them is a strike.
    fn pulled(self, backoff: Backoff, now: Instant, after: Duration, random: f64) -> Self {
        let strikes = self.strikes.saturating_add(u32::from(now >= self.until));
        let pause = backoff.pause_or_later(strikes, Some(after), random);
        Self {
            until: self.until.max(now + pause),
            strikes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_brake_tightens_once_a_period() {
        let s = Duration::from_secs;
        let now = Instant::now();
        let fresh = Braked {
            until: now,
            strikes: 0,
        };
        let once = fresh.pulled(Backoff::BUSY, now, Duration::ZERO, 1.0);
        assert_eq!((once.until, once.strikes), (now + s(1), 1));
        let same = once.pulled(Backoff::BUSY, now, Duration::ZERO, 1.0);
        assert_eq!((same.until, same.strikes), (now + s(1), 1));
        let later = now + s(2);
        let twice = same.pulled(Backoff::BUSY, later, Duration::ZERO, 1.0);
        assert_eq!((twice.until, twice.strikes), (later + s(2), 2));
        let asked = fresh.pulled(Backoff::BUSY, now, s(60), 0.0);
        assert_eq!(asked.until, now + s(60));
        let endless = fresh.pulled(Backoff::BUSY, now, s(u64::MAX), 0.0);
        assert_eq!(endless.until, now + s(300));
    }
}
