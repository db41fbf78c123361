//! The sidecar: pollers, the tasks they bring, and the end of both.
//!
//! The only file that spawns: a poller a task type, a future a task, and the watch over the
//! handler. All of them have ended when [`Sidecar::run`] has.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use conductor_client::{Client, Task};
use jiff::Timestamp;
use prometheus::Registry;
use tokio::{sync::watch, task::JoinSet, time::Instant};

use crate::{
    config::{Config, TaskConfig},
    execute::{self, Executor},
    handler::Handler,
    lease,
    metrics::{Metrics, TaskMetrics},
    outcome::{Cause, Circumstances, End, Ended, Outcome, judge},
    poll::{Brake, Delivery, Poller},
    report, result,
    rule::Pace,
    shutdown::Shutdown,
    slots::{Slot, Slots},
    stats::{self, Stats, Tally},
};

/// A sidecar. Many fit into one process, each with its own registry.
#[derive(Debug)]
pub struct Sidecar {
    config: Config,
    client: Client,
    handler: Arc<Handler>,
    executor: Executor,
    slots: Arc<Slots>,
    lanes: Vec<Lane>,
    metrics: Metrics,
    shutdown: Shutdown,
    drained: watch::Sender<bool>,
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

/// Why a sidecar cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No HTTP client.
    #[error("an HTTP client cannot be made: {0}")]
    Http(#[from] reqwest::Error),
    /// No client of Conductor.
    #[error(transparent)]
    Conductor(#[from] conductor_client::Error),
    /// The registry has such metrics already.
    #[error("the metrics cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
    /// A task's path makes no address.
    #[error("task {name:?}: its path is no path: {why}")]
    Path {
        /// The task type.
        name: String,
        /// What is wrong with it.
        why: url::ParseError,
    },
}

impl Sidecar {
    /// A sidecar that does nothing yet.
    pub fn new(config: Config, registry: &Registry) -> Result<Self, StartError> {
        let metrics = Metrics::new(registry)?;
        metrics.set_slots(config.slots);
        let lane = |task: &TaskConfig| {
            let url = execute::url(config.handler.port, task).map_err(|why| StartError::Path {
                name: task.name.clone(),
                why,
            })?;
            Ok(Lane {
                url,
                brake: Arc::default(),
                tally: Tally::new(),
                metrics: Arc::new(metrics.of(&task.name)),
                task: task.clone(),
            })
        };
        let lanes = config
            .tasks
            .iter()
            .map(lane)
            .collect::<Result<Vec<_>, StartError>>()?;
        let caps = config.tasks.iter().map(|task| task.concurrency);
        Ok(Self {
            client: Client::new(config.conductor.clone())?,
            handler: Arc::new(Handler::new(&config.handler)?),
            executor: Executor::new(&config.handler, config.slots)?,
            slots: Arc::new(Slots::new(config.slots, caps)),
            shutdown: Shutdown::new(config.grace),
            drained: watch::Sender::new(false),
            started_at: stats::now_ms(),
            lanes,
            metrics,
            config,
        })
    }

    /// Polls and works until a shutdown has begun and nothing is left to do, or its grace
    /// period is over.
    pub async fn run(self: Arc<Self>) {
        let mut watching = JoinSet::new();
        let this = self.clone();
        watching.spawn(async move { this.handler.watch(|| this.in_flight() > 0).await });

        let mut lanes = JoinSet::new();
        for number in 0..self.lanes.len() {
            lanes.spawn(self.clone().work_off(number));
        }
        let all = async { while lanes.join_next().await.is_some() {} };
        tokio::select! {
            () = all => {}
            () = self.shutdown.end() => {
                tracing::error!(in_flight = self.in_flight(), "the grace period is over; what is left comes back when its lease ends");
            }
        }
        lanes.shutdown().await;
        watching.shutdown().await;
        self.drained.send_replace(true);
    }

    /// One task type, from its first poll to its last report.
    async fn work_off(self: Arc<Self>, number: usize) {
        let lane = &self.lanes[number];
        let mut poller = Poller {
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
        };
        let mut tasks = JoinSet::new();
        while let Some(deliveries) = poller.next().await {
            for delivery in deliveries {
                tasks.spawn(self.clone().work(number, delivery));
            }
            while tasks.try_join_next().is_some() {}
        }
        while tasks.join_next().await.is_some() {}
    }

    /// One task, from its delivery to the accepted report; the slot is dropped last.
    async fn work(self: Arc<Self>, number: usize, delivery: Delivery) {
        let Delivery { task, slot, at } = delivery;
        let lane = &self.lanes[number];
        let waited = first_wait(&task);
        if let Some(waited) = waited {
            lane.metrics.waited(waited);
        }
        let stay = lane.tally.arrive(at, waited);
        let gone = watch::Sender::new(false);
        let lost = gone.subscribe();
        let worker_id = &self.config.worker_id;
        let finish = async {
            let outcome = self.execute(lane, &task, slot.as_ref(), lost).await;
            lane.tally.ended(&outcome);
            lane.metrics.ended(&outcome);
            let report = result::report(&task, worker_id, outcome, stats::now_ms());
            report::send(&self.client, &report, &lane.metrics).await
        };
        tokio::select! {
            _ = finish => {}
            never = lease::keep(&self.client, &task, worker_id, &lane.metrics, &gone) => match never {},
        }
        drop(stay);
        drop(slot);
    }

    /// What becomes of a task: the handler's call, or why there is none.
    async fn execute(
        &self,
        lane: &Lane,
        task: &Task,
        slot: Option<&Slot>,
        lost: watch::Receiver<bool>,
    ) -> Outcome {
        let outcome = match self.hindrance(task, slot) {
            Some(ended) => self.judge(task, ended),
            None => self.call(lane, task, lost).await,
        };
        match outcome.end {
            End::HandedBack {
                cause: Cause::Busy,
                after,
            } => {
                lane.brake.busy(Duration::from_secs(after), fastrand::f64());
            }
            End::HandedBack { .. } => {}
            _ => lane.brake.free(),
        }
        let poll_timeout = task.poll_timeout_seconds();
        result::around_poll_timeout(outcome, poll_timeout, since(task.scheduled_time()))
    }

    /// Why the handler is not called.
    fn hindrance(&self, task: &Task, slot: Option<&Slot>) -> Option<Ended> {
        if let Some(path) = task.external_input_path() {
            return Some(Ended::ExternalInput(path.to_owned()));
        }
        if slot.is_none() {
            return Some(Ended::Surplus);
        }
        (!self.shutdown.may_begin()).then_some(Ended::ShutDown)
    }

    async fn call(&self, lane: &Lane, task: &Task, mut lost: watch::Receiver<bool>) -> Outcome {
        let elapsed = since(task.start_time());
        let left = execute::time_left(lane.task.timeout, task.timeout_seconds(), elapsed);
        let stop = async {
            tokio::select! {
                () = self.shutdown.cut() => Ended::ShutDown,
                // With a deadline the call ends by that; without one, nothing else would end it.
                _ = lost.wait_for(|lost| *lost), if left.is_none() => Ended::LeaseLost,
            }
        };
        lane.metrics.call_begins();
        let began = Instant::now();
        let running = lane.tally.call();
        let domain = lane.task.domain.as_deref();
        let ended = self
            .executor
            .call(&lane.url, task, domain, left, stop)
            .await;
        drop(running);
        let ended = match ended {
            // The handler was told to end, and did: not the task's fault.
            Ended::CutOff(_) if !self.shutdown.may_begin() => Ended::ShutDown,
            other => other,
        };
        match &ended {
            Ended::Refused => self.handler.refused(),
            Ended::CutOff(_) => self.handler.suspect(),
            _ => {}
        }
        let outcome = self.judge(task, ended);
        lane.metrics.call_ended(began.elapsed(), &outcome);
        outcome
    }

    fn judge(&self, task: &Task, ended: Ended) -> Outcome {
        let first = match task.first_start_time() {
            0 => task.start_time(),
            first => first,
        };
        let given = Circumstances {
            terminal: &self.config.handler.terminal,
            age: since(first),
            now: Timestamp::now(),
        };
        judge(ended, &given)
    }

    /// Begins, and knows of, the end.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Ends when [`Sidecar::run`] has no more to do.
    pub async fn drained(&self) {
        let mut drained = self.drained.subscribe();
        // The sender lives in `self`, so the channel cannot close meanwhile.
        let _ = drained.wait_for(|drained| *drained).await;
    }

    /// Whether it takes work.
    pub fn is_ready(&self) -> bool {
        self.handler.is_ready() && self.shutdown.limits().is_none()
    }

    fn in_flight(&self) -> usize {
        self.lanes.iter().map(|lane| lane.tally.in_flight()).sum()
    }

    /// What `/stats` says.
    pub fn stats(&self) -> Stats {
        let task = |(number, lane): (usize, &Lane)| {
            let domain = lane.task.domain.as_deref();
            lane.tally.stats(
                &lane.task.name,
                domain,
                self.slots.cap(number),
                self.slots.is_free(number),
            )
        };
        let tasks: Vec<_> = self.lanes.iter().enumerate().map(task).collect();
        Stats {
            version: stats::VERSION,
            started_at: self.started_at,
            observed_at: stats::now_ms(),
            draining: self.shutdown.limits().is_some(),
            cordoned: false,
            handler_ready: self.handler.is_ready(),
            slots: self.slots.total(),
            in_flight: tasks.iter().map(|task| task.in_flight).sum(),
            tasks,
        }
    }

    /// Brings the metrics up to date that are read, not counted. Before each scrape.
    pub fn refresh_metrics(&self) {
        for lane in &self.lanes {
            self.metrics
                .set_in_work(&lane.task.name, lane.tally.in_flight(), lane.tally.oldest());
        }
        let draining = self
            .shutdown
            .limits()
            .map_or(Duration::ZERO, |limits| limits.began.elapsed());
        self.metrics.refresh(self.handler.is_ready(), draining);
    }
}

/// From scheduled to started, by the server's clock; none for a later delivery of the same id.
fn first_wait(task: &Task) -> Option<Duration> {
    let millis = task.start_time() - task.scheduled_time();
    (task.poll_count() <= 1 && task.scheduled_time() > 0)
        .then(|| Duration::from_millis(u64::try_from(millis).unwrap_or(0)))
}

/// How long ago an epoch time in milliseconds was; nothing for 0, or for a time to come.
fn since(millis: i64) -> Duration {
    let Ok(millis @ 1..) = u64::try_from(millis) else {
        return Duration::ZERO;
    };
    let then = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
    SystemTime::now().duration_since(then).unwrap_or_default()
}
