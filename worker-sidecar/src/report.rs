//! Sends results until Conductor takes them or says that it never will.
//!
//! The first attempt is sent from memory, and holds the task's slot. If it fails, or hangs, the
//! result goes into the spool; from then on its slot is free, and it is sent again when the
//! [`Gate`] lets it through. Where there is no spool, or no room, the result keeps its slot.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use conductor_client::{Client, Error, Kind, Malformed, Task};
use tokio::time::Instant;

use crate::{
    backoff::Backoff,
    gate::Gate,
    lease::{Air, report_patience},
    metrics::{Request, TaskMetrics},
    result::Report,
    spool::{self, Kept, Spool},
};

/// An attempt that takes longer is kept on disk meanwhile.
const HANGS: Duration = Duration::from_secs(1);

/// How long a report that asks for the next task has its turn.
const LEAST_PATIENCE: Duration = Duration::from_secs(2);

/// How often a result is sent that the server, while it does other things, answers with a 500
/// that is not marked as retryable, or a gateway with a 4xx. Most mistakes of a client are
/// answered so by Conductor, but a busy `SQLite` file too.
const DOUBTFUL_ATTEMPTS: u32 = 20;

/// How often one that Conductor itself answers with a 4xx.
const REJECTED_ATTEMPTS: u32 = 3;

/// A 401 or 403: somebody has to mend the credentials first.
const UNAUTHORIZED: Duration = Duration::from_secs(5);

/// What became of a report.
#[derive(Debug)]
pub enum Sent {
    /// Conductor took it, and gave the next task where it was asked for one.
    Accepted(Option<Box<Result<Task, Malformed>>>),
    /// It never will.
    GivenUp,
}

/// What to do after a failed attempt. Pure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The server is away, for so long by its own word.
    Away(Option<Duration>),
    /// It refuses this one: again after a pause.
    Again(Duration),
    /// It refuses this one for good: a failure is sent instead.
    Instead,
    /// It does not know the task any more.
    GiveUp,
}

/// `refusals`: how often the server refused this report while it did other things, this time
/// included.
fn next(kind: Kind, status: Option<u16>, doubtful: bool, refusals: u32, random: f64) -> Next {
    let attempts = match kind {
        Kind::Gone => return Next::GiveUp,
        Kind::Unauthorized => return Next::Away(Some(UNAUTHORIZED)),
        // A 404 that is not Conductor's is a gateway without a server, and a 200 a page of its.
        Kind::Retryable { .. }
            if doubtful && !matches!(status, None | Some(200..=299 | 404 | 410)) =>
        {
            DOUBTFUL_ATTEMPTS
        }
        Kind::Retryable { after } => return Next::Away(after),
        Kind::Rejected => REJECTED_ATTEMPTS,
    };
    if refusals < attempts {
        Next::Again(Backoff::REPORT.pause(refusals, random))
    } else {
        Next::Instead
    }
}

/// Sends reports.
#[derive(Debug)]
pub struct Reporter {
    client: Client,
    gate: Arc<Gate>,
    spool: Option<Arc<Spool>>,
    /// The server knows no update-v2.
    no_v2: AtomicBool,
}

/// A report on its way.
#[derive(Debug)]
struct Letter {
    /// Where it could not be kept on disk.
    in_memory: Option<Report>,
    kept: Option<Kept>,
    /// Sent instead of a result that was refused for good.
    is_instead: bool,
    refusals: u32,
    /// How much the server had done when it refused this the last time.
    answers: Option<u64>,
}

impl Reporter {
    /// For one sidecar.
    pub fn new(client: Client, gate: Arc<Gate>, spool: Option<Arc<Spool>>) -> Self {
        Self {
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
        report: Report,
        air: &Air,
        metrics: &TaskMetrics,
        hold: &mut Option<H>,
    ) -> Sent {
        let mut kept = None;
        if !self.gate.is_away() {
            let first = async {
                let _turn = air.for_report().await;
                self.attempt(&report, metrics).await
            };
            tokio::pin!(first);
            let sent = tokio::select! {
                biased;
                sent = &mut first => sent,
                () = tokio::time::sleep(HANGS) => {
                    kept = Box::pin(self.keep(&report, metrics)).await;
                    first.await
                }
            };
            let Err(error) = sent else {
                if let Some(kept) = kept {
                    kept.remove().await;
                }
                self.taken(&report, metrics).await;
                return Sent::Accepted(None);
            };
            self.failed_first(&report, &error);
        }
        if kept.is_none() {
            kept = Box::pin(self.keep(&report, metrics)).await;
        }
        if kept.is_some() {
            hold.take();
        }
        // Boxed, here and below: what happens seldom should not make every task's future large.
        let letter = Letter::new(report, kept);
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
            tokio::time::timeout(LEAST_PATIENCE, &mut asked).await
        };
        match in_time {
            Ok(Ok(task)) => {
                self.taken(&report, metrics).await;
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
            Err(_) => {
                let again = async {
                    let sent = Box::pin(self.send(report.clone(), air, metrics, hold)).await;
                    hold.take();
                    sent
                };
                match tokio::join!(again, asked) {
                    (_, Ok(Some(task))) => Sent::Accepted(Some(Box::new(task))),
                    (sent, _) => sent,
                }
            }
        }
    }

    async fn taken(&self, report: &Report, metrics: &TaskMetrics) {
        self.gate.open();
        if !report.more_logs.is_empty() {
            Box::pin(self.more_logs(report, metrics)).await;
        }
    }

    /// The row of those that wait moves on by itself, so the next attempt may be early.
    fn failed_first(&self, report: &Report, error: &Error) {
        let (kind, status) = (error.kind(), error.status());
        if let Next::Away(after) = next(kind, status, error.is_doubtful(), 0, 0.0) {
            self.gate.shut(after, fastrand::f64());
        }
        warn(report, error);
    }

    /// Sends one that an earlier process left.
    pub async fn send_left(&self, kept: Kept, air: &Air, metrics: &TaskMetrics) -> Sent {
        let letter = Letter {
            in_memory: None,
            kept: Some(kept),
            is_instead: false,
            refusals: 0,
            answers: None,
        };
        self.deliver(letter, air, metrics, &mut None::<()>).await
    }

    async fn attempt(&self, report: &Report, metrics: &TaskMetrics) -> Result<(), Error> {
        let patience = report_patience(report.lease().length);
        let began = Instant::now();
        let sent = self
            .client
            .update_task_within(&report.update, patience)
            .await;
        metrics.updated(Request::Update, began.elapsed(), failure(&sent));
        sent
    }

    /// After the first attempt. Repeats may reach the server twice: it takes the first and
    /// ignores the others.
    async fn deliver<H>(
        &self,
        mut letter: Letter,
        air: &Air,
        metrics: &TaskMetrics,
        hold: &mut Option<H>,
    ) -> Sent {
        loop {
            let pass = self.gate.pass().await;
            let report = match letter.report().await {
                Ok(Some(report)) => report,
                Ok(None) => return Sent::GivenUp, // a letter has one of the two
                Err(error) => {
                    metrics.lost();
                    let (task, workflow) = letter.kept.as_ref().map(Kept::ids).unzip();
                    tracing::error!(task, workflow, %error, "a result in the spool cannot be read any more; it is lost");
                    return Sent::GivenUp;
                }
            };
            let sent = {
                let _turn = air.for_report().await;
                self.attempt(&report, metrics).await
            };
            let Err(error) = sent else {
                drop(pass);
                letter.remove().await;
                self.taken(&report, metrics).await;
                return Sent::Accepted(None);
            };
            let next = letter.next(&error, self.gate.answers(), fastrand::f64());
            if let Next::Away(after) = next {
                self.gate.shut(after, fastrand::f64());
            }
            drop(pass);
            match next {
                Next::Away(_) => warn(&report, &error),
                Next::Again(pause) => {
                    warn(&report, &error);
                    drop(report); // it may be large, and the pause long
                    tokio::time::sleep(pause).await;
                }
                Next::Instead => {
                    given_up(&report, &error, metrics);
                    letter.remove().await;
                    letter = Letter::instead(&report, &error);
                }
                Next::GiveUp => {
                    given_up(&report, &error, metrics);
                    letter.remove().await;
                    return Sent::GivenUp;
                }
            }
            // There may be room by now.
            if let Some(report) = letter.in_memory.take() {
                match self.keep(&report, metrics).await {
                    Some(kept) => letter.kept = Some(kept),
                    None => letter.in_memory = Some(report),
                }
            }
            if letter.kept.is_some() {
                hold.take();
            }
        }
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

    async fn more_logs(&self, report: &Report, metrics: &TaskMetrics) {
        for line in &report.more_logs {
            let began = Instant::now();
            let sent = self.client.log_task(&report.update.task_id, line).await;
            metrics.logged(began.elapsed(), failure(&sent));
            // Logs are not worth a slot: the first failure ends them.
            if let Err(error) = sent {
                let (task, workflow) = ids(report);
                tracing::warn!(task, workflow, %error, "the task's further log lines were not taken");
                break;
            }
        }
    }
}

impl Letter {
    fn new(report: Report, kept: Option<Kept>) -> Self {
        Self {
            in_memory: kept.is_none().then_some(report),
            kept,
            is_instead: false,
            refusals: 0,
            answers: None,
        }
    }

    fn instead(report: &Report, error: &Error) -> Self {
        Self {
            is_instead: true,
            ..Self::new(report.instead(&error.to_string()), None)
        }
    }

    async fn report(&self) -> Result<Option<Report>, spool::Error> {
        match &self.kept {
            Some(kept) => kept.load().await.map(Some),
            None => Ok(self.in_memory.clone()),
        }
    }

    async fn remove(&mut self) {
        if let Some(kept) = self.kept.take() {
            kept.remove().await;
        }
    }

    /// What follows a failed attempt. A refusal counts against the report only if the server
    /// did something else since the one before: an outage may look like a refusal.
    fn next(&mut self, error: &Error, answers: u64, random: f64) -> Next {
        if self.answers.replace(answers) != Some(answers) {
            self.refusals += 1;
        }
        let next = next(
            error.kind(),
            error.status(),
            error.is_doubtful(),
            self.refusals,
            random,
        );
        match next {
            Next::Instead if self.is_instead => Next::GiveUp,
            next => next,
        }
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

fn given_up(report: &Report, error: &Error, metrics: &TaskMetrics) {
    let (task, workflow) = ids(report);
    metrics.lost();
    tracing::error!(
        task, workflow, status = ?report.update.status, %error,
        "Conductor does not take the result; given up"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_a_failure() {
        let again = |millis| Next::Again(Duration::from_millis(millis));
        let retryable = Kind::Retryable { after: None };
        let asked = Kind::Retryable {
            after: Some(Duration::from_secs(7)),
        };
        let away = Next::Away(None);
        let rows = [
            (retryable, None, false, 1, away),
            (retryable, Some(500), false, 99, away),
            (retryable, Some(404), true, 99, away),
            (retryable, Some(200), true, 99, away),
            (
                asked,
                Some(503),
                false,
                1,
                Next::Away(Some(Duration::from_secs(7))),
            ),
            (
                Kind::Unauthorized,
                Some(401),
                false,
                99,
                Next::Away(Some(UNAUTHORIZED)),
            ),
            (retryable, Some(500), true, 1, again(200)),
            (retryable, Some(500), true, 2, again(400)),
            (retryable, Some(500), true, 19, again(30_000)),
            (retryable, Some(500), true, 20, Next::Instead),
            (retryable, Some(400), true, 19, again(30_000)),
            (retryable, Some(302), true, 20, Next::Instead),
            (Kind::Rejected, Some(400), false, 1, again(200)),
            (Kind::Rejected, Some(400), false, 3, Next::Instead),
            (Kind::Gone, Some(404), false, 1, Next::GiveUp),
        ];
        for (kind, status, doubtful, refusals, expected) in rows {
            assert_eq!(
                next(kind, status, doubtful, refusals, 1.0),
                expected,
                "{kind:?} {status:?} {doubtful} {refusals}"
            );
        }
    }
}
