//! The sidecar's metrics: the names that Conductor's SDKs share, the older ones of the Go
//! SDK (gauges with the last value, with its units), and our own, which begin with `worker_`.
//!
//! Label values are task types from the configuration or words of an enum.

use std::time::Duration;

use conductor_client::Kind;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, core::Collector,
};

use crate::{
    outcome::{Cause, End, Fault, Outcome},
    spool::{Spool, Trouble},
};

/// As the SDKs agreed; poor beyond 10 s, hence [`LONG_SECONDS`] for ours.
const SECONDS: &[f64] = &[
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
const BYTES: &[f64] = &[1e2, 1e3, 1e4, 1e5, 1e6, 1e7];
const LONG_SECONDS: &[f64] = &[
    0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0,
];

const TYPE: &str = "taskType";

/// A metric, for the reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Its name.
    pub name: String,
    /// counter, gauge or histogram.
    pub kind: &'static str,
    /// Its labels.
    pub labels: Vec<String>,
    /// Its help text.
    pub help: String,
}

/// Every metric of one sidecar.
#[derive(Debug)]
pub struct Metrics {
    poll_counter: IntCounterVec,
    poll_error: IntCounterVec,
    execute_error: IntCounterVec,
    update_error: IntCounterVec,
    poll_time: GaugeVec,
    execute_time: GaugeVec,
    result_size: GaugeVec,
    poll_total: IntCounterVec,
    poll_error_total: IntCounterVec,
    started_total: IntCounterVec,
    execute_error_total: IntCounterVec,
    update_error_total: IntCounterVec,
    queue_full_total: IntCounterVec,
    paused_total: IntCounterVec,
    poll_seconds: HistogramVec,
    execute_seconds: HistogramVec,
    update_seconds: HistogramVec,
    request_seconds: HistogramVec,
    result_bytes: HistogramVec,
    active_workers: IntGaugeVec,
    queue_wait: HistogramVec,
    long_execute: HistogramVec,
    slots: IntGauge,
    slots_busy: IntGaugeVec,
    oldest: GaugeVec,
    leases: IntCounterVec,
    hand_backs: IntCounterVec,
    results: IntCounterVec,
    unreadable: IntCounterVec,
    not_spooled: IntCounterVec,
    poison: IntCounterVec,
    breaker_open: IntGaugeVec,
    spooled: IntGauge,
    spooled_bytes: IntGauge,
    spool_trouble: IntGaugeVec,
    unremoved: IntGauge,
    handler_ready: IntGauge,
    drain_seconds: Gauge,
    ignored: IntCounterVec,
    local_requests: IntCounterVec,
    cordoned: IntGauge,
    reference: Vec<Described>,
}

/// One task type's metrics, looked up once.
#[derive(Debug, Clone)]
pub struct TaskMetrics {
    task_type: String,
    poll_counter: IntCounter,
    poll_error: IntCounterVec,
    execute_error: IntCounter,
    update_error: IntCounter,
    poll_time: Gauge,
    execute_time: Gauge,
    result_size: Gauge,
    poll_total: IntCounter,
    poll_error_total: IntCounterVec,
    started_total: IntCounter,
    execute_error_total: IntCounterVec,
    update_error_total: IntCounterVec,
    queue_full_total: IntCounter,
    paused_total: IntCounter,
    poll_seconds: ByStatus,
    execute_seconds: ByStatus,
    update_seconds: ByStatus,
    request_seconds: HistogramVec,
    /// Those of calls that succeeded, by [`Request`]: every task has some.
    succeeded: [Histogram; Request::ALL.len()],
    completed: IntCounter,
    result_bytes: Histogram,
    active_workers: IntGauge,
    queue_wait: Histogram,
    long_execute: Histogram,
    leases: IntCounterVec,
    hand_backs: IntCounterVec,
    results: IntCounterVec,
    unreadable: IntCounter,
    not_spooled: IntCounter,
    poison: IntCounterVec,
    ignored: IntCounter,
}

#[derive(Debug, Clone)]
struct ByStatus {
    success: Histogram,
    failure: Histogram,
}

/// A failed call's kind and HTTP status; none for a success.
pub type Failure = Option<(Kind, Option<u16>)>;

/// A call to Conductor, as `http_api_client_request_seconds` names it.
#[derive(Debug, Clone, Copy)]
pub enum Request {
    /// A batch poll.
    Poll,
    /// An update, lease extensions included.
    Update,
    /// An update that polls for the next task.
    UpdateV2,
    /// A look at a task.
    Task,
    /// A look at a queue's size.
    QueueSize,
    /// A log line.
    Log,
}

impl Metrics {
    /// Registers them all. Fails when the registry has them already: each sidecar has its own.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let mut r = Registrar {
            registry,
            reference: Vec::new(),
        };
        Ok(Self {
            poll_counter: r.counter("task_poll_counter", "Polls, each counting once however many tasks it asks for. The older name of task_poll_total.", &[TYPE])?,
            poll_error: r.counter("task_poll_error", "Polls that failed, by HTTP status (0: no answer). includeRetries is true: every attempt counts.", &[TYPE, "includeRetries", "status"])?,
            execute_error: r.counter("task_execute_error", "Tasks that failed in the handler. The older name of task_execute_error_total.", &[TYPE])?,
            update_error: r.counter("task_update_error", "Attempts to report a result that failed. The older name of task_update_error_total.", &[TYPE])?,
            poll_time: r.gauge("task_poll_time", "How long the last poll took, in seconds.", &[TYPE])?,
            execute_time: r.gauge("task_execute_time", "How long the last call of the handler took, in milliseconds.", &[TYPE])?,
            result_size: r.gauge("task_result_size", "The size of the last result's output, in bytes.", &[TYPE])?,
            poll_total: r.counter("task_poll_total", "Polls, each counting once however many tasks it asks for.", &[TYPE])?,
            poll_error_total: r.counter("task_poll_error_total", "Polls that failed, by kind: retryable, rejected, gone, unauthorized.", &[TYPE, "exception"])?,
            started_total: r.counter("task_execution_started_total", "Calls of the handler begun.", &[TYPE])?,
            execute_error_total: r.counter("task_execute_error_total", "Tasks that failed, by fault.", &[TYPE, "exception"])?,
            update_error_total: r.counter("task_update_error_total", "Attempts to report a result that failed, by kind: retryable, rejected, gone, unauthorized.", &[TYPE, "exception"])?,
            queue_full_total: r.counter("task_execution_queue_full_total", "Polls that had to wait for a free slot.", &[TYPE])?,
            paused_total: r.counter("task_paused_total", "Polls that had to wait for the handler to be ready, or because it was busy.", &[TYPE])?,
            poll_seconds: r.histogram("task_poll_time_seconds", "How long polls take, long polls included.", &[TYPE, "status"], SECONDS)?,
            execute_seconds: r.histogram("task_execute_time_seconds", "How long calls of the handler take.", &[TYPE, "status"], SECONDS)?,
            update_seconds: r.histogram("task_update_time_seconds", "How long attempts to report a result take.", &[TYPE, "status"], SECONDS)?,
            request_seconds: r.histogram("http_api_client_request_seconds", "How long calls to Conductor take, by HTTP status (0: no answer).", &["method", "uri", "status"], SECONDS)?,
            result_bytes: r.histogram("task_result_size_bytes", "The size of results' outputs.", &[TYPE], BYTES)?,
            active_workers: r.int_gauge("active_workers", "Calls of the handler under way.", &[TYPE])?,
            queue_wait: r.histogram("worker_queue_wait_seconds", "How long tasks waited from being scheduled to their first start, by the server's clock.", &[TYPE], LONG_SECONDS)?,
            long_execute: r.histogram("worker_execute_seconds", "How long calls of the handler take, with buckets up to four hours.", &[TYPE], LONG_SECONDS)?,
            slots: r.one(IntGauge::new("worker_slots", "How many tasks may be in work at once.")?, "gauge")?,
            slots_busy: r.int_gauge("worker_slots_busy", "How many tasks are in work, from their poll to their accepted report.", &[TYPE])?,
            oldest: r.gauge("worker_oldest_task_start_timestamp_seconds", "When the oldest task in work arrived, as a Unix time; 0 while there is none. Its age is time() less this.", &[TYPE])?,
            leases: r.counter("worker_lease_extensions_total", "Attempts to extend a lease, by result: ok, retryable, rejected, gone, unauthorized.", &[TYPE, "result"])?,
            hand_backs: r.counter("worker_hand_backs_total", "Tasks given back without an end, by cause: busy, refused, shutdown, surplus.", &[TYPE, "cause"])?,
            results: r.counter("worker_results_total", "Tasks by what became of them: completed, failed, terminal, canceled, deferred, handed_back, and lost for results that Conductor did not take.", &[TYPE, "result"])?,
            unreadable: r.counter("worker_unreadable_tasks_total", "What polls brought and could not be read as a task; the server will time it out.", &[TYPE])?,
            not_spooled: r.counter("worker_spool_errors_total", "Attempts to put a result into the spool that failed: it was full or broken, or the result larger than all of it. The result is kept in memory, and keeps its slot.", &[TYPE])?,
            poison: r.counter("worker_poison_tasks_total", "Tasks that ended the handler's calls at their third attempt or later (cut_off, deadline), or that went round for 15 minutes (circling).", &[TYPE, "fault"])?,
            breaker_open: r.int_gauge("worker_breaker_open", "1 while no tasks are taken, or one as a test, because the handler failed nearly all of the last ones.", &[TYPE])?,
            spooled: r.one(IntGauge::new("worker_spooled_results", "Results on disk that Conductor has not taken yet.")?, "gauge")?,
            spooled_bytes: r.one(IntGauge::new("worker_spooled_bytes", "The size of the results on disk.")?, "gauge")?,
            spool_trouble: r.int_gauge("worker_spool_trouble", "1 while the spool takes no results and no tasks are polled: full or broken.", &["trouble"])?,
            unremoved: r.one(IntGauge::new("worker_spool_unremoved_files", "Files of results that are not needed any more and could not be removed from the disk. It is tried again; a restart before it succeeds would send them once more.")?, "gauge")?,
            handler_ready: r.one(IntGauge::new("worker_handler_ready", "1 while the handler takes calls.")?, "gauge")?,
            drain_seconds: r.one(Gauge::new("worker_drain_seconds", "How long the shutdown has taken so far; 0 before it.")?, "gauge")?,
            ignored: r.counter("worker_answers_ignored_total", "Answers of the handler that counted for nothing: the task had been ended by an update over the local task API.", &[TYPE])?,
            local_requests: r.counter("worker_local_api_requests_total", "Requests to the local task API, by call (other for none that it has) and HTTP status.", &["call", "status"])?,
            cordoned: r.one(IntGauge::new("worker_cordoned", "1 while the operator has told the worker to take no more work.")?, "gauge")?,
            reference: r.reference,
        })
    }

    /// The metrics of a task type, all present from the start.
    pub fn of(&self, task_type: &str) -> TaskMetrics {
        let t = &[task_type];
        let by_status = |histogram: &HistogramVec| ByStatus {
            success: histogram.with_label_values(&[task_type, "SUCCESS"]),
            failure: histogram.with_label_values(&[task_type, "FAILURE"]),
        };
        for cause in Cause::ALL {
            self.hand_backs
                .with_label_values(&[task_type, cause.as_str()]);
        }
        for fault in Fault::ALL {
            self.execute_error_total
                .with_label_values(&[task_type, fault.as_str()]);
        }
        self.leases.with_label_values(&[task_type, "ok"]);
        self.results.with_label_values(&[task_type, "lost"]);
        TaskMetrics {
            task_type: task_type.to_owned(),
            poll_counter: self.poll_counter.with_label_values(t),
            poll_error: self.poll_error.clone(),
            execute_error: self.execute_error.with_label_values(t),
            update_error: self.update_error.with_label_values(t),
            poll_time: self.poll_time.with_label_values(t),
            execute_time: self.execute_time.with_label_values(t),
            result_size: self.result_size.with_label_values(t),
            poll_total: self.poll_total.with_label_values(t),
            poll_error_total: self.poll_error_total.clone(),
            started_total: self.started_total.with_label_values(t),
            execute_error_total: self.execute_error_total.clone(),
            update_error_total: self.update_error_total.clone(),
            queue_full_total: self.queue_full_total.with_label_values(t),
            paused_total: self.paused_total.with_label_values(t),
            poll_seconds: by_status(&self.poll_seconds),
            execute_seconds: by_status(&self.execute_seconds),
            update_seconds: by_status(&self.update_seconds),
            request_seconds: self.request_seconds.clone(),
            succeeded: Request::ALL.map(|request| {
                let (method, uri) = request.name();
                self.request_seconds
                    .with_label_values(&[method, uri, SUCCESS])
            }),
            completed: self.results.with_label_values(&[task_type, "completed"]),
            result_bytes: self.result_bytes.with_label_values(t),
            active_workers: self.active_workers.with_label_values(t),
            queue_wait: self.queue_wait.with_label_values(t),
            long_execute: self.long_execute.with_label_values(t),
            leases: self.leases.clone(),
            hand_backs: self.hand_backs.clone(),
            results: self.results.clone(),
            unreadable: self.unreadable.with_label_values(t),
            not_spooled: self.not_spooled.with_label_values(t),
            poison: self.poison.clone(),
            ignored: self.ignored.with_label_values(t),
        }
    }

    /// How many slots there are.
    pub fn set_slots(&self, slots: usize) {
        self.slots.set(i64::try_from(slots).unwrap_or(i64::MAX));
    }

    /// The tasks of a type in work; `oldest` in epoch milliseconds. Before each scrape.
    pub fn set_in_work(&self, task_type: &str, busy: usize, oldest: Option<i64>) {
        let busy = i64::try_from(busy).unwrap_or(i64::MAX);
        self.slots_busy.with_label_values(&[task_type]).set(busy);
        #[expect(
            clippy::cast_precision_loss,
            reason = "exact for the next 200,000 years"
        )]
        let seconds = oldest.unwrap_or(0) as f64 / 1000.0;
        self.oldest.with_label_values(&[task_type]).set(seconds);
    }

    /// Whether a type's breaker holds its polls back. Before each scrape.
    pub fn set_breaker(&self, task_type: &str, open: bool) {
        let open = i64::from(open);
        self.breaker_open.with_label_values(&[task_type]).set(open);
    }

    /// What the spool holds. Before each scrape.
    pub fn set_spool(&self, spool: &Spool) {
        let (files, bytes) = (spool.results(), spool.bytes());
        self.spooled.set(i64::try_from(files).unwrap_or(i64::MAX));
        self.spooled_bytes
            .set(i64::try_from(bytes).unwrap_or(i64::MAX));
        let unremoved = i64::try_from(spool.unremoved()).unwrap_or(i64::MAX);
        self.unremoved.set(unremoved);
        for trouble in [Trouble::Full, Trouble::Broken] {
            let is = i64::from(spool.trouble() == Some(trouble));
            self.spool_trouble
                .with_label_values(&[trouble.as_str()])
                .set(is);
        }
    }

    /// The other things that are not counted but read. Before each scrape.
    pub fn refresh(&self, handler_ready: bool, draining_for: Duration, cordoned: bool) {
        self.handler_ready.set(i64::from(handler_ready));
        self.drain_seconds.set(draining_for.as_secs_f64());
        self.cordoned.set(i64::from(cordoned));
    }

    /// A request to the local task API was answered; `call` is a word of an enum.
    pub fn local_request(&self, call: &str, status: u16) {
        self.local_requests
            .with_label_values(&[call, &status.to_string()])
            .inc();
    }

    /// Every metric, in order of their names.
    pub fn reference(&self) -> Vec<Described> {
        let mut reference = self.reference.clone();
        reference.sort_by(|a, b| a.name.cmp(&b.name));
        reference
    }
}

impl TaskMetrics {
    /// A poll ended, in error with a kind and HTTP status.
    pub fn polled(&self, took: Duration, error: Failure) {
        let seconds = took.as_secs_f64();
        self.poll_counter.inc();
        self.poll_total.inc();
        self.poll_time.set(seconds);
        self.poll_seconds.observe(error.is_none(), seconds);
        self.request(Request::Poll, error, seconds);
        if let Some((kind, _)) = error {
            let status = status(error);
            self.poll_error
                .with_label_values(&[self.task_type.as_str(), "true", &status])
                .inc();
            self.poll_error_total
                .with_label_values(&[&self.task_type, kind.as_str()])
                .inc();
        }
    }

    /// A poll had to wait for a slot.
    pub fn queue_full(&self) {
        self.queue_full_total.inc();
    }

    /// A poll had to wait for the handler.
    pub fn paused(&self) {
        self.paused_total.inc();
    }

    /// A task came for the first time.
    pub fn waited(&self, wait: Duration) {
        self.queue_wait.observe(wait.as_secs_f64());
    }

    /// A call of the handler begins.
    pub fn call_begins(&self) {
        self.started_total.inc();
        self.active_workers.inc();
    }

    /// A call of the handler ended.
    pub fn call_ended(&self, took: Duration, outcome: &Outcome) {
        let seconds = took.as_secs_f64();
        self.active_workers.dec();
        self.execute_time.set(seconds * 1000.0);
        let failed = matches!(outcome.end, End::Failed(_) | End::Terminal(_));
        self.execute_seconds.observe(!failed, seconds);
        self.long_execute.observe(seconds);
    }

    /// A task has an outcome.
    pub fn ended(&self, outcome: &Outcome) {
        if outcome.end == End::Completed {
            self.completed.inc();
        } else {
            self.results
                .with_label_values(&[self.task_type.as_str(), outcome.end.as_str()])
                .inc();
        }
        match outcome.end {
            End::Failed(fault) | End::Terminal(fault) => {
                self.execute_error.inc();
                self.execute_error_total
                    .with_label_values(&[self.task_type.as_str(), fault.as_str()])
                    .inc();
            }
            End::HandedBack { cause, .. } => {
                self.hand_backs
                    .with_label_values(&[self.task_type.as_str(), cause.as_str()])
                    .inc();
            }
            _ => {}
        }
        if let Some(output) = &outcome.output {
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            let bytes = output.get().len() as f64;
            self.result_size.set(bytes);
            self.result_bytes.observe(bytes);
        }
    }

    /// An attempt to report a result ended.
    pub fn updated(&self, request: Request, took: Duration, error: Failure) {
        let seconds = took.as_secs_f64();
        self.update_seconds.observe(error.is_none(), seconds);
        self.request(request, error, seconds);
        if let Some((kind, _)) = error {
            self.update_error.inc();
            self.update_error_total
                .with_label_values(&[self.task_type.as_str(), kind.as_str()])
                .inc();
        }
    }

    /// A result was not taken by Conductor, and never will be.
    pub fn lost(&self) {
        self.results
            .with_label_values(&[self.task_type.as_str(), "lost"])
            .inc();
    }

    /// The handler answered about a task that had been ended by an update.
    pub fn answer_ignored(&self) {
        self.ignored.inc();
    }

    /// An attempt to extend a lease ended.
    pub fn lease_extended(&self, took: Duration, error: Failure) {
        let result = error.map_or("ok", |(kind, _)| kind.as_str());
        self.leases
            .with_label_values(&[self.task_type.as_str(), result])
            .inc();
        self.request(Request::Update, error, took.as_secs_f64());
    }

    /// A task was looked at, or not.
    pub fn looked(&self, took: Duration, error: Failure) {
        self.request(Request::Task, error, took.as_secs_f64());
    }

    /// The queue was looked at, or not.
    pub fn queue_looked_at(&self, took: Duration, error: Failure) {
        self.request(Request::QueueSize, error, took.as_secs_f64());
    }

    /// A poll brought what cannot be read as a task.
    pub fn unreadable(&self) {
        self.unreadable.inc();
    }

    /// A result could not be put into the spool.
    pub fn not_kept(&self) {
        self.not_spooled.inc();
    }

    /// A task ended the handler's calls time and again.
    pub fn poison(&self, fault: Fault) {
        self.poison
            .with_label_values(&[self.task_type.as_str(), fault.as_str()])
            .inc();
    }

    /// A log line was sent, or not.
    pub fn logged(&self, took: Duration, error: Failure) {
        self.request(Request::Log, error, took.as_secs_f64());
    }

    fn request(&self, request: Request, error: Failure, seconds: f64) {
        if error.is_none() {
            return self.succeeded[request as usize].observe(seconds);
        }
        let (method, uri) = request.name();
        self.request_seconds
            .with_label_values(&[method, uri, &status(error)])
            .observe(seconds);
    }
}

impl Request {
    const ALL: [Self; 6] = [
        Self::Poll,
        Self::Update,
        Self::UpdateV2,
        Self::Task,
        Self::QueueSize,
        Self::Log,
    ];

    /// Its method and path.
    fn name(self) -> (&'static str, &'static str) {
        match self {
            Self::Poll => ("GET", "/tasks/poll/batch/{taskType}"),
            Self::Update => ("POST", "/tasks"),
            Self::UpdateV2 => ("POST", "/tasks/update-v2"),
            Self::Task => ("GET", "/tasks/{taskId}"),
            Self::QueueSize => ("GET", "/tasks/queue/size"),
            Self::Log => ("POST", "/tasks/{taskId}/log"),
        }
    }
}

const SUCCESS: &str = "200";

/// An HTTP status as a label; successes are 200.
fn status(error: Failure) -> String {
    error
        .map_or(200, |(_, status)| status.unwrap_or(0))
        .to_string()
}

impl ByStatus {
    fn observe(&self, success: bool, seconds: f64) {
        let histogram = if success {
            &self.success
        } else {
            &self.failure
        };
        histogram.observe(seconds);
    }
}

struct Registrar<'r> {
    registry: &'r Registry,
    reference: Vec<Described>,
}

impl Registrar<'_> {
    fn one<C: Collector + Clone + 'static>(
        &mut self,
        metric: C,
        kind: &'static str,
    ) -> Result<C, prometheus::Error> {
        for desc in metric.desc() {
            self.reference.push(Described {
                name: desc.fq_name.clone(),
                kind,
                labels: desc.variable_labels.clone(),
                help: desc.help.clone(),
            });
        }
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn counter(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        self.one(
            IntCounterVec::new(Opts::new(name, help), labels)?,
            "counter",
        )
    }

    fn gauge(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<GaugeVec, prometheus::Error> {
        self.one(GaugeVec::new(Opts::new(name, help), labels)?, "gauge")
    }

    fn int_gauge(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, prometheus::Error> {
        self.one(IntGaugeVec::new(Opts::new(name, help), labels)?, "gauge")
    }

    fn histogram(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> Result<HistogramVec, prometheus::Error> {
        let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.one(HistogramVec::new(opts, labels)?, "histogram")
    }
}
