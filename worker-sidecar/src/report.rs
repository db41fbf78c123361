//! Sends results until Conductor takes them or says that it never will.
//!
//! The first attempt is sent from memory, and holds the task's slot. If it fails, or hangs, the
//! result goes into the spool; from then on its slot is free, and it is sent again when the
//! [`Gate`] lets it through. Where there is no spool, or no room, the result keeps its slot.

mod again;
mod hung;
mod undone;

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use conductor_client::{Client, Error, Malformed, Task};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use again::Tried;
use undone::Undone;

use crate::{
    gate::Gate,
    lease::Air,
    letter::{Failure, HANGS, Letter, Next, next, patience, patience_to_ask},
    log_lines::LogLines,
    metrics::{Request, TaskMetrics},
    result::Report,
    shutdown::Shutdown,
    spool::{Kept, Spool},
    stats,
};

/// What became of a report.
#[derive(Debug)]
pub enum Sent {
    /// Conductor took it, and gave the next task where it was asked for one.
    Accepted(Option<Box<Result<Task, Malformed>>>),
    /// It never will.
    GivenUp,
}

/// Sends reports.
#[derive(Debug)]
pub struct Reporter {
    client: Client,
    gate: Arc<Gate>,
    spool: Option<Arc<Spool>>,
    /// The server knows no update-v2.
    no_v2: AtomicBool,
    log_lines: LogLines,
    undone: Undone,
}

/// The answer to a report that asked for the next task.
type Asked = Result<Option<Result<Task, Malformed>>, Error>;

impl Reporter {
    /// For one sidecar.
    pub fn new(
        client: Client,
        gate: Arc<Gate>,
        spool: Option<Arc<Spool>>,
        work: TaskTracker,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            undone: Undone::new(client.clone(), gate.clone(), work.clone(), shutdown.clone()),
            log_lines: LogLines::new(client.clone(), work, shutdown),
            client,
            gate,
            spool,
            no_v2: AtomicBool::new(false),
        }
    }

    /// Whether a report may ask for the next task.
    pub fn may_ask(&self) -> bool {
        !self.no_v2.load(Ordering::Relaxed) && !self.gate.is_away()
    }

    /// Sends one. `hold` is dropped as soon as the result is safe: taken, or on disk.
    pub async fn send<H>(
        &self,
        mut report: Report,
        air: &Air,
        metrics: &TaskMetrics,
        hold: &mut Option<H>,
    ) -> Sent {
        on_time(&mut report);
        let (mut kept, mut cut) = (None, None);
        let was_sent = !self.gate.is_away();
        let mut timeouts = 0;
        if was_sent {
            let began = Instant::now();
            let first = async {
                let _turn = air.for_report().await;
                attempt(&self.client, &report, &mut timeouts, metrics).await
            };
            tokio::pin!(first);
            let sent = tokio::select! {
                biased;
                sent = &mut first => Ok(sent),
                () = tokio::time::sleep(HANGS) => {
                    kept = Box::pin(self.keep(&report, metrics)).await;
                    Box::pin(self.unless_lost(&report, began, Duration::ZERO, None, first, metrics)).await
                }
            };
            match sent {
                Ok(Ok(())) => {
                    self.taken(&report, kept, air, metrics).await;
                    return Sent::Accepted(None);
                }
                Ok(Err(error)) => self.failed_first(&report, &error),
                Err(lost) => cut = Some(lost),
            }
        }
        if kept.is_none() {
            kept = Box::pin(self.keep(&report, metrics)).await;
        }
        if kept.is_some() {
            hold.take();
        }
        // Boxed, here and below: what happens seldom should not make every task's future large.
        let mut letter = Letter::new(report, kept);
        (letter.was_sent, letter.timeouts) = (was_sent, timeouts);
        if let Some(cut) = cut {
            letter.was_cut(cut.probe);
        }
        Box::pin(self.deliver(letter, air, metrics, hold)).await
    }

    /// The same, and asks for the next task. Never drop its future: the server may have given
    /// a task to it. For that reason an answer that is overdue is awaited beside the repetition.
    pub async fn send_and_ask<H>(
        &self,
        report: Report,
        air: &Air,
        metrics: &TaskMetrics,
        hold: &mut Option<H>,
    ) -> Sent {
        let asked = async {
            let began = Instant::now();
            let asked = self.client.update_task_v2(&report.update).await;
            metrics.updated(Request::UpdateV2, began.elapsed(), failure(&asked));
            asked
        };
        tokio::pin!(asked);
        let in_time = {
            let _turn = air.for_report().await;
            tokio::time::timeout(patience_to_ask(report.bytes()), &mut asked).await
        };
        match in_time {
            Ok(Ok(task)) => {
                self.taken(&report, None, air, metrics).await;
                Sent::Accepted(task.map(Box::new))
            }
            Ok(Err(error)) if matches!(error.status(), Some(404 | 405)) => {
                // Of the task, or of the call? The older call tells.
                let sent = Box::pin(self.send(report.clone(), air, metrics, hold)).await;
                let taken = matches!(sent, Sent::Accepted(_));
                if taken && !self.no_v2.swap(true, Ordering::Relaxed) {
                    tracing::info!("this Conductor has no update-v2; tasks come by polls alone");
                }
                sent
            }
            Ok(Err(error)) => {
                self.failed_first(&report, &error);
                Box::pin(self.send(report.clone(), air, metrics, hold)).await
            }
            Err(_) => Box::pin(self.send_beside(&report, asked, air, metrics, hold)).await,
        }
    }

    /// Sends one again whose answer is overdue, and maybe the next task with it. If that comes
    /// after all, the report was taken, and the next task need not wait for anything else.
    async fn send_beside<H>(
        &self,
        report: &Report,
        mut asked: Pin<&mut impl Future<Output = Asked>>,
        air: &Air,
        metrics: &TaskMetrics,
        hold: &mut Option<H>,
    ) -> Sent {
        // It has no turn any more.
        air.gave_up();
        let kept = self.keep(report, metrics).await;
        if kept.is_some() {
            hold.take();
        }
        let mut letter = Letter::new(report.clone(), kept);
        letter.was_sent = true;
        let mut overdue = true;
        loop {
            let tried = {
                let again = self.try_again(&mut letter, air, metrics);
                tokio::pin!(again);
                tokio::select! {
                    biased;
                    answer = &mut asked, if overdue => if let Ok(next) = answer {
                        Err(next)
                    } else {
                        overdue = false;
                        Ok(again.await)
                    },
                    tried = &mut again => Ok(tried),
                }
            };
            let sent = match tried {
                Err(next) => {
                    self.taken(report, letter.kept.take(), air, metrics).await;
                    return Sent::Accepted(next.map(Box::new));
                }
                Ok(Tried::Failed) => {
                    self.keep_late(&mut letter, metrics, hold).await;
                    continue;
                }
                Ok(Tried::Taken(report)) => {
                    self.log_lines.send(&report, metrics).await;
                    Sent::Accepted(None)
                }
                Ok(Tried::GivenUp) => Sent::GivenUp,
            };
            hold.take();
            if overdue && let Ok(Some(task)) = asked.await {
                return Sent::Accepted(Some(Box::new(task)));
            }
            return sent;
        }
    }

    async fn taken(&self, report: &Report, kept: Option<Kept>, air: &Air, metrics: &TaskMetrics) {
        self.gate.open();
        Box::pin(self.forget(report, kept, air, metrics)).await;
        if !report.more_logs.is_empty() {
            Box::pin(self.log_lines.send(report, metrics)).await;
        }
    }

    /// One that was taken is not kept any more, once it is sure that it stays so.
    async fn forget(&self, report: &Report, kept: Option<Kept>, air: &Air, metrics: &TaskMetrics) {
        if air.may_cross(Instant::now()) && !report.goes_back() {
            self.undone.watch(report, kept, metrics);
        } else if let Some(kept) = kept {
            kept.remove().await;
        }
    }

    /// The row of those that wait moves on by itself, so the next attempt may be early.
    fn failed_first(&self, report: &Report, error: &Error) {
        let failure = Failure::from(error);
        // If all are forbidden, the next attempt will tell.
        if let Next::Away(after) = next(failure, true, 0, 0, 0.0) {
            self.gate.shut(after, fastrand::f64());
        }
        warn(report, error);
    }

    /// Sends one that an earlier process left.
    pub async fn send_left(&self, kept: Kept, air: &Air, metrics: &TaskMetrics) -> Sent {
        self.deliver(Letter::left(kept), air, metrics, &mut None::<()>)
            .await
    }

    /// Into the spool, if there is one with room.
    async fn keep(&self, report: &Report, metrics: &TaskMetrics) -> Option<Kept> {
        let spool = self.spool.as_ref()?;
        match spool.keep(report).await {
            Ok(kept) => Some(kept),
            Err(error) => {
                metrics.not_kept();
                tracing::error!(
                    task = report.update.task_id, workflow = report.update.workflow_instance_id, %error,
                    "a result could not be spooled; it is kept in memory, and keeps its slot"
                );
                None
            }
        }
    }
}

/// Sends one once. `timeouts` counts the attempts that have taken all the time they may.
async fn attempt(
    client: &Client,
    report: &Report,
    timeouts: &mut u32,
    metrics: &TaskMetrics,
) -> Result<(), Error> {
    let at_most = patience(report.lease_length(), report.bytes(), *timeouts);
    let began = Instant::now();
    let sent = client.update_task_within(&report.update, at_most).await;
    let took = began.elapsed();
    metrics.updated(Request::Update, took, failure(&sent));
    if sent.is_err() && took >= at_most {
        *timeouts += 1;
    }
    sent
}

/// A report's task, as the server has it.
async fn look(client: &Client, report: &Report, metrics: &TaskMetrics) -> Result<Task, Error> {
    let at_most = patience(report.lease_length(), 0, 0);
    let began = Instant::now();
    let looked = client
        .get_task_within(&report.update.task_id, at_most)
        .await;
    metrics.looked(began.elapsed(), failure(&looked));
    looked
}

/// A hand-back that comes too late would time its workflow out.
fn on_time(report: &mut Report) {
    if report.queued.is_some() && report.fail_if_late(stats::now_ms()) {
        let (task, workflow) = ids(report);
        let reason = report.update.reason_for_incompletion.as_deref();
        tracing::warn!(
            task,
            workflow,
            reason,
            "a hand-back is too late; the task is failed"
        );
    }
}

fn ids(report: &Report) -> (&str, &str) {
    let update = &report.update;
    (&update.task_id, &update.workflow_instance_id)
}

fn failure<T>(sent: &Result<T, Error>) -> crate::metrics::Failure {
    sent.as_ref()
        .err()
        .map(|error| (error.kind(), error.status()))
}

fn warn(report: &Report, error: &Error) {
    let (task, workflow) = ids(report);
    tracing::warn!(task, workflow, %error, "the result was not taken; it is sent again");
}
