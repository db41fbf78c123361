//! The pipeline: tasks flow from polls through calls of the handler to reports.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use conductor_client::Client;
use prometheus::Registry;
use tokio::{sync::watch, task::JoinHandle, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::Config,
    cordon::Cordon,
    execute::Executor,
    gate::Gate,
    handler::Handler,
    held::HeldTasks,
    lane::Lane,
    lease::{Air, Keeper},
    metrics::Metrics,
    poll::{Intake, Line, Poller},
    report::Reporter,
    rule::Pace,
    shutdown::Shutdown,
    slots::Slots,
    spool::{self, Kept, Left, Spool},
    stats::{self, Stats},
};

/// A sidecar. See [`Sidecar::run`].
#[derive(Debug)]
pub struct Sidecar {
    pub(crate) config: Config,
    pub(crate) client: Client,
    pub(crate) executor: Executor,
    pub(crate) intake: Arc<Intake>,
    pub(crate) slots: Arc<Slots>,
    pub(crate) lanes: Vec<Arc<Lane>>,
    pub(crate) shutdown: Shutdown,
    pub(crate) reporter: Reporter,
    gate: Arc<Gate>,
    /// What an earlier process left in the spool, until it runs.
    left: Mutex<Vec<Kept>>,
    /// Pollers and tasks in work: the sidecar is drained when this is empty.
    work: TaskTracker,
    metrics: Metrics,
    started_at: i64,
}

/// Why a sidecar could not be made.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The HTTP client for Conductor.
    #[error(transparent)]
    Conductor(#[from] conductor_client::Error),
    /// A task type's path is no URL's.
    #[error("task path: {0}")]
    Path(#[from] http::Error),
    /// The spool.
    #[error("the spool cannot be used: {0}")]
    Spool(#[from] spool::Error),
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
            .map(|task| Lane::new(&config, task, &metrics).map(Arc::new))
            .collect::<Result<_, http::Error>>()?;
        let caps = config.tasks.iter().map(|task| task.concurrency);
        let client = Client::with_connection(config.conductor.clone())?;
        let (spool, left) = match &config.spool {
            Some(spool) => Spool::open(&spool.dir, spool.limit).map(|(s, left)| (Some(s), left))?,
            None => (None, Left::default()),
        };
        for path in &left.broken {
            tracing::error!(path = %path.display(), "a result in the spool cannot be read; it was set aside");
        }
        for error in &left.refused {
            tracing::error!(%error, "the spool's disk refuses; what can be read is delivered");
        }
        let gate = Arc::new(Gate::new(config.slots));
        let (work, shutdown) = (TaskTracker::new(), Shutdown::new(config.grace));
        let reporter = Reporter::new(
            client.clone(),
            gate.clone(),
            spool.clone(),
            work.clone(),
            shutdown.clone(),
        );
        Ok(Arc::new(Self {
            executor: Executor::new(&config.handler, config.slots),
            reporter,
            client,
            gate,
            left: Mutex::new(left.kept),
            intake: Arc::new(Intake {
                handler: Arc::new(Handler::new(&config.handler)),
                spool,
                cordon: Cordon::default(),
                held: HeldTasks::default(),
            }),
            slots: Arc::new(Slots::new(config.slots, caps)),
            lanes,
            shutdown,
            work,
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
        let tended = tokio::spawn(
            over.clone()
                .run_until_cancelled_owned(self.clone().tend_spool()),
        );
        for kept in self.take_left() {
            self.work.spawn(self.clone().deliver_left(kept));
        }
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
        let _ = tokio::join!(watcher, tended);
    }

    async fn watch_handler(self: Arc<Self>) {
        let busy = || self.in_flight() > 0;
        self.intake.handler.watch(busy).await;
    }

    async fn tend_spool(self: Arc<Self>) {
        if let Some(spool) = &self.intake.spool {
            match spool.tend().await {}
        }
    }

    fn take_left(&self) -> Vec<Kept> {
        std::mem::take(&mut *self.left.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Delivers what an earlier process left, and keeps its task's lease until then.
    async fn deliver_left(self: Arc<Self>, kept: Kept) {
        // The result itself stays on disk until it is its turn.
        let about = kept.about().clone();
        let lease = about.lease;
        let (task, workflow) = (&lease.task_id, &lease.workflow_id);
        tracing::info!(
            task,
            workflow,
            "a result is left from before the restart; it is delivered"
        );
        let metrics = self.metrics.of(&about.task_type);
        let keeper = Keeper {
            client: &self.client,
            worker_id: &about.worker_id,
            metrics: &metrics,
        };
        let (air, gone) = (Air::default(), watch::Sender::new(false));
        // Its last extension may have been in the air when the process ended.
        air.gave_up();
        tokio::select! {
            _ = self.reporter.send_left(kept, &air, &metrics) => {}
            never = keeper.keep(&lease, &gone, &air) => match never {},
            () = self.shutdown.end() => {}
        }
    }

    async fn take_in(self: Arc<Self>, number: usize) {
        let mut poller = self.poller(number);
        while let Some(deliveries) = poller.next().await {
            for delivery in deliveries {
                self.work.spawn(self.clone().attend(number, delivery));
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

    pub(crate) fn poller(&self, number: usize) -> Poller {
        Poller::new(Line {
            client: self.client.clone(),
            worker_id: self.config.worker_id.clone(),
            lane: self.lanes[number].clone(),
            number,
            slots: self.slots.clone(),
            intake: self.intake.clone(),
            shutdown: self.shutdown.clone(),
            gate: self.gate.clone(),
            pace: Pace::default(),
            not_before: Instant::now(),
        })
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
        // In this order, as in `is_idle`: nothing is between the two.
        let (polls_in_flight, held) = (self.cordon().polls(), self.held().len());
        let (total, in_flight) = (self.slots.total(), self.in_flight());
        let spooled = self.spooled();
        let tasks = self.lanes.iter().enumerate().map(|(i, lane)| {
            let slots = self.slots.cap(i);
            // By the tasks: a slot that only a waiting poll holds is free.
            let free = in_flight < total && lane.tally.in_flight() < slots;
            let domain = lane.task.domain.as_deref();
            let broken = lane.is_broken();
            lane.tally
                .stats(&lane.task.name, domain, slots, free, broken)
        });
        Stats {
            version: stats::VERSION,
            started_at: self.started_at,
            observed_at: stats::now_ms(),
            draining: self.is_draining(),
            cordoned: self.is_cordoned(),
            handler_ready: self.handler_ready(),
            slots: total,
            // A task is held before it counts as in work, and after its result is on disk.
            in_flight: held.max(in_flight + spooled),
            spooled,
            polls_in_flight,
            tasks: tasks.collect(),
        }
    }

    /// Brings those metrics up to date that are read rather than counted.
    pub fn refresh_metrics(&self) {
        let draining_for = self
            .shutdown
            .limits()
            .map_or(Duration::ZERO, |limits| limits.began.elapsed());
        self.metrics
            .refresh(self.handler_ready(), draining_for, self.is_cordoned());
        if let Some(spool) = &self.intake.spool {
            self.metrics.set_spool(spool);
        }
        let mut by_type: BTreeMap<&str, (usize, Option<i64>)> = BTreeMap::new();
        for lane in &self.lanes {
            self.metrics.set_breaker(&lane.task.name, lane.is_broken());
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

    /// How many results lie in the spool.
    fn spooled(&self) -> usize {
        let spooled = self
            .intake
            .spool
            .as_ref()
            .map_or(0, |spool| spool.results());
        usize::try_from(spooled).unwrap_or(usize::MAX)
    }

    /// Stops its polls for a while.
    pub fn cordon(&self) -> &Cordon {
        &self.intake.cordon
    }

    /// Whether it was told to take no work for now.
    pub fn is_cordoned(&self) -> bool {
        self.cordon().is_on(Instant::now())
    }

    /// Whether no task is in work, none may be on its way, and no result waits.
    pub fn is_idle(&self) -> bool {
        // In this order: what a poll brings is held before the poll is over.
        self.cordon().polls() == 0 && self.held().is_empty() && self.spooled() == 0
    }

    /// Whether it takes work, or has some.
    pub fn is_ready(&self) -> bool {
        let gone_idle = self.is_cordoned() && self.is_idle();
        self.handler_ready() && !self.is_draining() && !gone_idle
    }

    /// The tasks in work.
    pub fn held(&self) -> &HeldTasks {
        &self.intake.held
    }

    /// Conductor, by the sidecar's own connection.
    pub fn conductor(&self) -> &Client {
        &self.client
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether the handler takes calls.
    pub fn handler_ready(&self) -> bool {
        self.intake.handler.is_ready()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TaskConfig;

    #[tokio::test]
    async fn polls_that_end_by_themselves_end_the_sidecar() {
        // Aborted: to whoever waits for them that is as good as a panic.
        let aborted = tokio::spawn(std::future::pending());
        aborted.abort();
        for polls in [tokio::spawn(async {}), aborted] {
            let tasks = vec![TaskConfig::new("t")];
            let conductor = "http://127.0.0.1:9/api".parse().unwrap();
            let config = Config::new(conductor, tasks, "w".to_owned());
            let sidecar = Sidecar::new(config, &Registry::new()).unwrap();
            sidecar.clone().mind_polls(0, polls).await;
            assert!(sidecar.is_draining());
        }
    }
}
