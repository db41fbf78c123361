//! The pipeline: tasks flow from polls through calls of the handler to reports.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use conductor_client::{Client, Task};
use jiff::Timestamp;
use prometheus::Registry;
use tokio::{sync::watch, task::JoinHandle, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::{Config, TaskConfig},
    execute::{self, Executor},
    handler::Handler,
    lease::{self, Air},
    metrics::{Metrics, TaskMetrics},
    outcome::{Cause, Circumstances, End, Ended, Outcome, judge},
    poll::{Brake, Delivery, Poller},
    report,
    result::{around_poll_timeout, report},
    rule::Pace,
    shutdown::Shutdown,
    slots::Slots,
    stats::{self, Stats, Tally},
};

/// A sidecar. See [`Sidecar::run`].
#[derive(Debug)]
pub struct Sidecar {
    config: Config,
    client: Client,
    executor: Executor,
    handler: Arc<Handler>,
    slots: Arc<Slots>,
    lanes: Vec<Arc<Lane>>,
    shutdown: Shutdown,
    /// Pollers and tasks in work: the sidecar is drained when this is empty.
    work: TaskTracker,
    metrics: Metrics,
    started_at: i64,
}

/// What belongs to one task type.
#[derive(Debug)]
struct Lane {
    task: TaskConfig,
    url: url::Url,
    brake: Arc<Brake>,
    tally: Arc<Tally>,
    metrics: Arc<TaskMetrics>,
}

/// Why a sidecar could not be made.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The HTTP client for Conductor.
    #[error(transparent)]
    Conductor(#[from] conductor_client::Error),
    /// The HTTP client for the handler.
    #[error("no HTTP client for the handler: {0}")]
    Handler(#[from] reqwest::Error),
    /// A task type's path is no URL's.
    #[error("task path: {0}")]
    Path(#[from] url::ParseError),
    /// The registry has a sidecar's metrics already.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

impl Sidecar {
    /// Puts one together; nothing moves until [`Sidecar::run`]. Each needs a registry of its
    /// own. Call it within a tokio runtime.
    pub fn new(config: Config, registry: &Registry) -> Result<Arc<Self>, StartError> {
        runtime::install_tls_provider();
        let metrics = Metrics::new(registry)?;
        metrics.set_slots(config.slots);
        let lanes = config
            .tasks
            .iter()
            .map(|task| {
                Ok(Arc::new(Lane {
                    url: execute::url(config.handler.port, task)?,
                    brake: Arc::new(Brake::new()),
                    tally: Tally::new(),
                    metrics: Arc::new(metrics.of(&task.name)),
                    task: task.clone(),
                }))
            })
            .collect::<Result<_, url::ParseError>>()?;
        let caps = config.tasks.iter().map(|task| task.concurrency);
        Ok(Arc::new(Self {
            client: Client::new(config.conductor.clone())?,
            executor: Executor::new(&config.handler, config.slots)?,
            handler: Arc::new(Handler::new(&config.handler)?),
            slots: Arc::new(Slots::new(config.slots, caps)),
            lanes,
            shutdown: Shutdown::new(config.grace),
            work: TaskTracker::new(),
            metrics,
            started_at: stats::now_ms(),
            config,
        }))
    }

    /// Works until `shutdown` ends and all work has ended or the grace period has. Let it
    /// run to its end: dropped earlier, it leaves pollers behind.
    pub async fn run(self: Arc<Self>, shutdown: impl Future<Output = ()>) {
        let over = CancellationToken::new();
        let watcher = tokio::spawn(
            over.clone()
                .run_until_cancelled_owned(self.clone().watch_handler()),
        );
        for number in 0..self.lanes.len() {
            let polls = self.work.spawn(self.clone().take_in(number));
            self.work.spawn(self.clone().mind_polls(number, polls));
        }

        tokio::select! {
            () = shutdown => {}
            () = self.shutdown_begun() => {}
        }
        self.begin_shutdown();
        self.shut_down().await;

        over.cancel();
        let _ = watcher.await;
    }

    async fn watch_handler(self: Arc<Self>) {
        self.handler.watch(|| self.in_flight() > 0).await;
    }

    async fn take_in(self: Arc<Self>, number: usize) {
        let lane = self.lanes[number].clone();
        let mut poller = self.poller(number);
        while let Some(deliveries) = poller.next().await {
            for delivery in deliveries {
                self.work.spawn(self.clone().attend(lane.clone(), delivery));
            }
        }
    }

    /// Without its polls a type would be forgotten in silence: then it is better to end, and
    /// to be started again.
    async fn mind_polls(self: Arc<Self>, number: usize, polls: JoinHandle<()>) {
        let ended = polls.await;
        if !self.is_draining() {
            let (task_type, error) = (&self.lanes[number].task.name, ended.err());
            tracing::error!(
                task_type,
                ?error,
                "its polls have ended; the sidecar ends too"
            );
            self.begin_shutdown();
        }
    }

    async fn attend(self: Arc<Self>, lane: Arc<Lane>, delivery: Delivery) {
        let Delivery { task, slot, at } = delivery;
        let wait = first_wait(&task);
        if let Some(wait) = wait {
            lane.metrics.waited(wait);
        }
        let stay = lane.tally.arrive(at, wait);
        let gone = watch::Sender::new(false);
        let air = Air::default();
        let work = async {
            let outcome = self.execute(&lane, &task, slot.is_some(), at, &gone).await;
            self.report(&lane, &task, at, outcome, &air).await;
        };
        let lease = lease::keep(
            &self.client,
            &task,
            &self.config.worker_id,
            &lane.metrics,
            &gone,
            &air,
        );
        tokio::select! {
            () = work => {}
            never = lease => match never {},
            () = self.shutdown.end() => {
                lane.metrics.lost();
                tracing::error!(task = task.task_id(), "the grace period is over; the task's result is lost");
            }
        }
        drop(stay);
        drop(slot);
    }

    async fn execute(
        &self,
        lane: &Lane,
        task: &Task,
        has_slot: bool,
        at: Instant,
        gone: &watch::Sender<bool>,
    ) -> Outcome {
        let ended = if !has_slot {
            Ended::Surplus
        } else if let Some(path) = task.external_input_path() {
            Ended::ExternalInput(path.to_owned())
        } else if !self.shutdown.may_begin() {
            Ended::ShutDown
        } else {
            return self.call(lane, task, at, gone).await;
        };
        self.judge(task, at, ended)
    }

    async fn call(
        &self,
        lane: &Lane,
        task: &Task,
        at: Instant,
        gone: &watch::Sender<bool>,
    ) -> Outcome {
        let left = execute::time_left(
            lane.task.timeout,
            task.timeout_seconds(),
            elapsed(task, task.start_time()),
        )
        .map(|left| left.saturating_sub(at.elapsed()));
        let stop = async {
            let mut gone = gone.subscribe();
            tokio::select! {
                _ = gone.wait_for(|gone| *gone) => Ended::LeaseLost,
                () = self.shutdown.cut() => Ended::ShutDown,
            }
        };
        let begun = Instant::now();
        let counted = lane.tally.call();
        lane.metrics.call_begins();
        let ended = self
            .executor
            .call(&lane.url, task, lane.task.domain.as_deref(), left, stop)
            .await;
        drop(counted);
        let ended = self.unless_shutting_down(ended);
        self.mind_the_handler(&ended);
        let outcome = self.judge(task, at, ended);
        lane.metrics.call_ended(begun.elapsed(), &outcome);
        lane.brake(&outcome);
        outcome
    }

    /// During a shutdown the handler is stopped too, maybe in the middle of a call: that is
    /// not the task's fault.
    fn unless_shutting_down(&self, ended: Ended) -> Ended {
        match ended {
            Ended::CutOff(_) | Ended::Refused if self.shutdown.limits().is_some() => {
                Ended::ShutDown
            }
            other => other,
        }
    }

    fn mind_the_handler(&self, ended: &Ended) {
        match ended {
            Ended::Refused => self.handler.refused(),
            Ended::CutOff(_) => self.handler.suspect(),
            _ => {}
        }
    }

    fn judge(&self, task: &Task, at: Instant, ended: Ended) -> Outcome {
        let first = match task.first_start_time() {
            0 => task.start_time(),
            first => first,
        };
        let given = Circumstances {
            terminal: &self.config.handler.terminal,
            age: elapsed(task, first) + at.elapsed(),
            now: Timestamp::now(),
        };
        let outcome = judge(ended, &given);
        let waited = elapsed(task, task.scheduled_time()) + at.elapsed();
        around_poll_timeout(outcome, task.poll_timeout_seconds(), waited)
    }

    async fn report(&self, lane: &Lane, task: &Task, at: Instant, outcome: Outcome, air: &Air) {
        tracing::debug!(
            task = task.task_id(), task_type = lane.task.name, end = ?outcome.end,
            reason = outcome.reason, ms = at.elapsed().as_millis(), "ended"
        );
        lane.tally.ended(&outcome);
        lane.metrics.ended(&outcome);
        let report = report(task, &self.config.worker_id, outcome, stats::now_ms());
        report::send(&self.client, &report, &lane.metrics, air).await;
    }

    fn poller(&self, number: usize) -> Poller {
        let lane = &self.lanes[number];
        Poller {
            client: self.client.clone(),
            worker_id: self.config.worker_id.clone(),
            task_type: lane.task.name.clone(),
            domain: lane.task.domain.clone(),
            interval: lane.task.poll_interval,
            lane: number,
            slots: self.slots.clone(),
            handler: self.handler.clone(),
            brake: lane.brake.clone(),
            shutdown: self.shutdown.clone(),
            tally: lane.tally.clone(),
            metrics: lane.metrics.clone(),
            pace: Pace::default(),
            not_before: Instant::now(),
        }
    }

    // === the end ===

    /// Stops polling at once and starts the grace period; what is in work goes on.
    pub fn begin_shutdown(&self) {
        let first = self.shutdown.limits().is_none();
        self.shutdown.begin();
        self.work.close();
        if first {
            let grace = self.config.grace;
            tracing::info!(
                in_flight = self.in_flight(),
                ?grace,
                "no more polls; work is brought to its end"
            );
        }
    }

    /// Ends when the shutdown has begun.
    pub async fn shutdown_begun(&self) {
        self.shutdown.begun().await;
    }

    /// Ends once nothing is in work after the shutdown began, or nothing may begin any more.
    pub async fn drained(&self) {
        let limits = self.shutdown.begun().await;
        let _ = tokio::time::timeout_at(limits.drain, self.work.wait()).await;
    }

    async fn shut_down(&self) {
        let limits = self.shutdown.begin();
        let ended = tokio::time::timeout_at(limits.end, self.work.wait()).await;
        let took = limits.began.elapsed();
        if ended.is_ok() {
            tracing::info!(?took, "all work has ended");
        } else {
            // The tasks end by themselves now; only a poll in the air may take longer.
            let in_flight = self.in_flight();
            tracing::error!(in_flight, ?took, "the grace period is over");
        }
    }

    // === what is to be seen from outside ===

    /// A snapshot.
    pub fn stats(&self) -> Stats {
        let (total, in_flight) = (self.slots.total(), self.in_flight());
        let tasks = self.lanes.iter().enumerate().map(|(i, lane)| {
            let slots = self.slots.cap(i);
            // By the tasks: a slot that only a waiting poll holds is free.
            let free = in_flight < total && lane.tally.in_flight() < slots;
            lane.tally
                .stats(&lane.task.name, lane.task.domain.as_deref(), slots, free)
        });
        Stats {
            version: stats::VERSION,
            started_at: self.started_at,
            observed_at: stats::now_ms(),
            draining: self.is_draining(),
            cordoned: false,
            handler_ready: self.handler.is_ready(),
            slots: total,
            in_flight,
            tasks: tasks.collect(),
        }
    }

    /// Brings those metrics up to date that are read rather than counted.
    pub fn refresh_metrics(&self) {
        let draining_for = self
            .shutdown
            .limits()
            .map_or(Duration::ZERO, |limits| limits.began.elapsed());
        self.metrics.refresh(self.handler.is_ready(), draining_for);
        let mut by_type: BTreeMap<&str, (usize, Option<i64>)> = BTreeMap::new();
        for lane in &self.lanes {
            let (busy, oldest) = by_type.entry(&lane.task.name).or_default();
            *busy += lane.tally.in_flight();
            *oldest = lane.tally.oldest().into_iter().chain(*oldest).min();
        }
        for (task_type, (busy, oldest)) in by_type {
            self.metrics.set_in_work(task_type, busy, oldest);
        }
    }

    /// The metrics, described.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// How many tasks are in work.
    pub fn in_flight(&self) -> usize {
        self.lanes.iter().map(|lane| lane.tally.in_flight()).sum()
    }

    /// Whether a shutdown has begun.
    pub fn is_draining(&self) -> bool {
        self.shutdown.limits().is_some()
    }

    /// Whether it takes work.
    pub fn is_ready(&self) -> bool {
        self.handler.is_ready() && !self.is_draining()
    }

    /// Whether the handler takes calls.
    pub fn handler_ready(&self) -> bool {
        self.handler.is_ready()
    }
}

impl Lane {
    fn brake(&self, outcome: &Outcome) {
        match outcome.end {
            End::HandedBack {
                cause: Cause::Busy,
                after,
            } => {
                tracing::info!(
                    task_type = self.task.name,
                    after,
                    "the handler is busy; its polls slow down"
                );
                self.brake.busy(Duration::from_secs(after), fastrand::f64());
            }
            End::HandedBack {
                cause: Cause::Refused,
                ..
            } => self.brake.refused(fastrand::f64()),
            End::HandedBack { .. } => {}
            _ => self.brake.free(),
        }
    }
}

/// From scheduled to started, on the first delivery.
fn first_wait(task: &Task) -> Option<Duration> {
    let millis = task.start_time().saturating_sub(task.scheduled_time());
    (task.poll_count() <= 1 && task.scheduled_time() > 0 && task.start_time() > 0)
        .then(|| Duration::from_millis(u64::try_from(millis).unwrap_or(0)))
}

/// The time from `since` to the poll that brought the task, both by the server's clock, which
/// may differ from ours: a poll sets `updateTime`, the first one `startTime` too. By our own
/// clock where the server says neither.
fn elapsed(task: &Task, since: i64) -> Duration {
    if since <= 0 {
        return Duration::ZERO;
    }
    let polled = match task.update_time().max(task.start_time()) {
        0 => stats::now_ms(),
        at => at,
    };
    Duration::from_millis(u64::try_from(polled.saturating_sub(since)).unwrap_or(0))
}

#[cfg(test)]
#[path = "pipeline_tests.rs"]
mod tests;
