//! What follows the first attempt.

use conductor_client::Error;
use tokio::time::Instant;

use super::{Reporter, Sent, attempt, hung::Cut, ids, look, on_time, warn};
use crate::{
    lease::Air,
    letter::{Failure, HANGS, Letter, Next},
    metrics::TaskMetrics,
    result::Report,
    spool::Kept,
};

/// What became of another attempt.
pub(super) enum Tried {
    Taken(Box<Report>),
    GivenUp,
    Failed,
}

impl Reporter {
    /// After the first attempt.
    pub(super) async fn deliver<H>(
        &self,
        mut letter: Letter,
        air: &Air,
        metrics: &TaskMetrics,
        hold: &mut Option<H>,
    ) -> Sent {
        loop {
            match self.try_again(&mut letter, air, metrics).await {
                Tried::Taken(report) => {
                    self.log_lines.send(&report, metrics).await;
                    return Sent::Accepted(None);
                }
                Tried::GivenUp => return Sent::GivenUp,
                Tried::Failed => self.keep_late(&mut letter, metrics, hold).await,
            }
        }
    }

    /// One more attempt, when the gate lets it through, and the pause after it. Repeats may
    /// reach the server twice. Of those that end a task it takes the first and ignores the
    /// others. May be dropped.
    pub(super) async fn try_again(
        &self,
        letter: &mut Letter,
        air: &Air,
        metrics: &TaskMetrics,
    ) -> Tried {
        let pass = self.gate.pass().await;
        let mut report = match letter.report().await {
            Ok(Some(report)) => report,
            Ok(None) => return Tried::GivenUp, // a letter has one of the two
            Err(error) => {
                metrics.lost();
                let (task, workflow) = letter.kept.as_ref().map(Kept::ids).unzip();
                tracing::error!(task, workflow, %error, "a result in the spool cannot be read any more; it is lost");
                return Tried::GivenUp;
            }
        };
        let is_hand_back = letter.is_hand_back(&report);
        on_time(&mut report);
        let look_first = is_hand_back && letter.was_sent;
        let (probe, hangs) = (letter.probe.take(), letter.hangs());
        let is_probe = probe.is_some();
        let (sent, timeouts) = (&mut letter.was_sent, &mut letter.timeouts);
        let began = Instant::now();
        let mut probed = began;
        let attempt = async {
            if look_first && self.is_settled(&report, metrics).await? {
                return Ok(());
            }
            let _turn = air.for_report().await;
            *sent = true;
            probed = Instant::now();
            let sent = attempt(&self.client, &report, timeouts, metrics).await;
            sent.inspect(|()| self.gate.open())
        };
        let sent = self
            .unless_lost(&report, began, hangs, probe, attempt, metrics)
            .await;
        let error = match sent {
            Ok(Err(error)) => error,
            Ok(Ok(())) => {
                drop(pass);
                if is_probe && probed.elapsed() < HANGS {
                    self.gate.presence().came_back(probed);
                }
                if is_hand_back {
                    letter.remove().await;
                } else {
                    self.forget(&report, letter.kept.take(), air, metrics).await;
                }
                return Tried::Taken(Box::new(report));
            }
            Err(Cut { probe }) => {
                letter.was_cut(probe);
                return Tried::Failed;
            }
        };
        let (failure, seen) = (Failure::from(&error), self.gate.seen());
        let others =
            failure.is_forbidden() && letter.is_forbidden_alone(seen, || self.gate.forbidden());
        let next = letter.next(failure, others, seen, fastrand::f64());
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
                *letter = Letter::instead(&report, &error, is_hand_back);
            }
            Next::GiveUp => {
                given_up(&report, &error, metrics);
                letter.remove().await;
                return Tried::GivenUp;
            }
        }
        Tried::Failed
    }

    /// Whether a hand-back need not be sent again: the server has taken it, or has given the
    /// task to somebody else. A repetition would take the task away from them.
    async fn is_settled(&self, report: &Report, metrics: &TaskMetrics) -> Result<bool, Error> {
        let task = look(&self.client, report, metrics).await?;
        let open = report.is_open(&task);
        if !open {
            let (id, workflow) = ids(report);
            let (status, holder) = (task.status(), task.worker_id());
            tracing::info!(
                task = id,
                workflow,
                ?status,
                holder,
                "the task is no longer held here; its hand-back is not sent again"
            );
        }
        Ok(!open)
    }

    /// There may be room by now. Not to be dropped: what is written would stay.
    pub(super) async fn keep_late<H>(
        &self,
        letter: &mut Letter,
        metrics: &TaskMetrics,
        hold: &mut Option<H>,
    ) {
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

fn given_up(report: &Report, error: &Error, metrics: &TaskMetrics) {
    let (task, workflow) = ids(report);
    metrics.lost();
    tracing::error!(
        task, workflow, status = ?report.update.status, %error,
        "Conductor does not take the result; given up"
    );
}
