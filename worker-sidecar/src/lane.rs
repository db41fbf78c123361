//! What belongs to one task type.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use crate::{
    brake::Brake,
    breaker::{Admits, Breaker, Change},
    config::{Config, TaskConfig},
    execute,
    metrics::{Metrics, TaskMetrics},
    outcome::{Cause, End, Fault, Outcome},
    stats::Tally,
};

/// One task type of a sidecar.
#[derive(Debug)]
pub struct Lane {
    /// Its settings.
    pub task: TaskConfig,
    /// Where the handler takes it.
    pub uri: http::Uri,
    /// Slows down when the handler says it is busy.
    pub brake: Brake,
    /// Counts for `/stats`.
    pub tally: Arc<Tally>,
    /// Counts for `/metrics`.
    pub metrics: TaskMetrics,
    breaker: Option<Mutex<Breaker>>,
    verdict: Notify,
    flows: AtomicBool,
}

impl Lane {
    /// A type nothing has happened to yet.
    pub fn new(config: &Config, task: &TaskConfig, metrics: &Metrics) -> Result<Self, http::Error> {
        Ok(Self {
            uri: execute::uri(config.handler.port, task)?,
            brake: Brake::new(),
            tally: Tally::new(),
            metrics: metrics.of(&task.name),
            breaker: config.breaker.map(|b| Mutex::new(Breaker::new(b))),
            verdict: Notify::new(),
            flows: AtomicBool::new(false),
            task: task.clone(),
        })
    }

    /// What its breaker lets through.
    pub fn admits(&self, now: Instant) -> Admits {
        self.breaker().map_or(Admits::All, |b| b.admits(now))
    }

    /// Ends when a task's end may have changed what the breaker lets through.
    pub async fn verdict(&self) {
        self.verdict.notified().await;
    }

    /// Whether the breaker holds polls back.
    pub fn is_broken(&self) -> bool {
        self.breaker().is_some_and(|b| b.is_open())
    }

    /// Whether the last poll that did not wait came back full: there is more in the queue.
    pub fn flows(&self) -> bool {
        self.flows.load(Ordering::Relaxed)
    }

    /// Says so.
    pub fn set_flows(&self, flows: bool) {
        self.flows.store(flows, Ordering::Relaxed);
    }

    /// A poll brought so many tasks.
    pub fn polled(&self, got: usize, now: Instant) {
        self.tally.polled(got);
        if let Some(mut breaker) = self.breaker() {
            breaker.polled(got, now);
        }
    }

    /// A call of the handler ended: what that says about the next ones.
    pub fn call_ended(&self, outcome: &Outcome) {
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
        self.judge_handler(outcome.end);
    }

    fn judge_handler(&self, end: End) {
        let Some(mut breaker) = self.breaker() else {
            return;
        };
        let change = breaker.ended(handler_failed(end), Instant::now());
        drop(breaker);
        self.verdict.notify_one();
        let task_type = &self.task.name;
        match change {
            Some(Change::Opened(pause)) => {
                self.set_flows(false);
                tracing::error!(
                    task_type,
                    ?pause,
                    "the handler fails nearly every task; no more are taken for a while, then one as a test"
                );
            }
            Some(Change::Closed) => {
                tracing::info!(task_type, "the handler did a task again; all are taken");
            }
            None => {}
        }
    }

    fn breaker(&self) -> Option<MutexGuard<'_, Breaker>> {
        let breaker = self.breaker.as_ref()?;
        Some(breaker.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whether an end speaks against the handler, `None` where it says nothing about it. A 4xx
/// and the handler's own FAILED speak of the task.
fn handler_failed(end: End) -> Option<bool> {
    match end {
        End::Failed(fault) | End::Terminal(fault) => match fault {
            Fault::ServerError
            | Fault::NoAnswer
            | Fault::NotJson
            | Fault::BadResult
            | Fault::CutOff
            | Fault::Deadline
            | Fault::Circling => Some(true),
            Fault::ClientError | Fault::Handler | Fault::TooLarge => Some(false),
            Fault::LeaseLost | Fault::ExternalInput | Fault::PollTimeout => None,
        },
        End::Completed | End::Canceled | End::Deferred { .. } => Some(false),
        End::HandedBack { .. } => None,
    }
}
