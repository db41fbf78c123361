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
    outcome::{Cause, End, Fault},
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

/// Held by the task that shows whether a failing handler works again. It travels with the task,
/// and ends with it, whatever becomes of that: unless a call has told how the handler does, the
/// next task is tried. Until then the breaker lets nothing through.
#[derive(Debug)]
pub struct Trial {
    lane: Arc<Lane>,
    failed: Option<bool>,
}

impl Trial {
    fn end(mut self, failed: Option<bool>) {
        self.failed = failed;
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        let now = Instant::now();
        let breaker = self.lane.breaker();
        let change = breaker.and_then(|mut b| b.trial_ended(self.failed, now));
        self.lane.tell(change);
        self.lane.verdict.notify_one();
    }
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

    /// Makes a task the breaker's test, if it is time for one. Only for one that will be called
    /// as far as is known: it can be read and has a slot.
    pub fn trial(self: &Arc<Self>, now: Instant) -> Option<Trial> {
        let begins = self.breaker().is_some_and(|mut b| b.begin_trial(now));
        begins.then(|| Trial {
            lane: self.clone(),
            failed: None,
        })
    }

    /// Ends when a trial's end may have changed what the breaker lets through.
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

    /// A call of the handler ended: what that says about the next ones. `said`: by the handler's
    /// word. `became`: for its task, which may not be handed back any more.
    pub fn call_ended(&self, said: End, became: End, trial: Option<Trial>) {
        match said {
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
        let failed = handler_failed(said, became);
        if let Some(trial) = trial {
            return trial.end(failed);
        }
        let breaker = self.breaker();
        let change = breaker.and_then(|mut b| b.ended(failed, Instant::now()));
        self.tell(change);
    }

    fn tell(&self, change: Option<Change>) {
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
/// and the handler's own FAILED speak of the task. A task that the handler did not take, and that
/// could not be handed back, has lost a try by it.
fn handler_failed(said: End, became: End) -> Option<bool> {
    match said {
        End::Failed(fault) | End::Terminal(fault) => match fault {
            Fault::ServerError
            | Fault::NoAnswer
            | Fault::NotJson
            | Fault::BadResult
            | Fault::CutOff
            | Fault::Deadline => Some(true),
            Fault::ClientError | Fault::Handler | Fault::TooLarge => Some(false),
            // The last two are nobody's word.
            Fault::LeaseLost | Fault::ExternalInput | Fault::Circling | Fault::PollTimeout => None,
        },
        End::Completed | End::Canceled | End::Deferred { .. } => Some(false),
        End::HandedBack {
            cause: Cause::Busy | Cause::Refused,
            ..
        } => became.is_final().then_some(true),
        End::HandedBack { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use prometheus::Registry;

    use super::*;
    use crate::breaker::Settings;

    const PAUSE: Duration = Duration::from_secs(5);

    fn lane() -> Arc<Lane> {
        let conductor = "http://127.0.0.1:9/api".parse().unwrap();
        let task = TaskConfig::new("t");
        let mut config = Config::new(conductor, vec![task.clone()], "w".to_owned());
        config.breaker = Some(Settings {
            window: 1,
            pause: PAUSE,
            ..Settings::default()
        });
        let metrics = Metrics::new(&Registry::new()).unwrap();
        Arc::new(Lane::new(&config, &task, &metrics).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_is_over_however_its_task_ends() {
        let lane = lane();
        assert!(lane.trial(Instant::now()).is_none());
        let failed = End::Failed(Fault::ServerError);
        lane.call_ended(failed, failed, None);
        assert!(lane.is_broken() && lane.trial(Instant::now()).is_none());
        tokio::time::advance(PAUSE).await;

        let trial = lane.trial(Instant::now()).unwrap();
        assert_eq!(lane.admits(Instant::now()), Admits::Verdict);
        assert!(lane.verdict().now_or_never().is_none());
        drop(trial);
        assert!(lane.verdict().now_or_never().is_some());
        assert_eq!(lane.admits(Instant::now()), Admits::One);

        let trial = lane.trial(Instant::now());
        let panics = std::thread::spawn(move || {
            let _trial = trial.unwrap();
            std::panic::resume_unwind(Box::new("a panic"));
        });
        assert!(panics.join().is_err());
        assert_eq!(lane.admits(Instant::now()), Admits::One);

        let trial = lane.trial(Instant::now());
        lane.call_ended(End::Completed, End::Completed, trial);
        assert_eq!(lane.admits(Instant::now()), Admits::All);
    }

    const fn back(cause: Cause) -> End {
        End::HandedBack { cause, after: 0 }
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_that_takes_nothing_is_asked_seldom_whatever_becomes_of_its_tasks() {
        for cause in [Cause::Busy, Cause::Refused] {
            for became in [
                back(cause),
                End::Failed(Fault::PollTimeout),
                End::Failed(Fault::Circling),
            ] {
                let lane = lane();
                for _ in 0..12 {
                    tokio::time::sleep_until(lane.brake.until()).await;
                    lane.call_ended(back(cause), became, None);
                }
                let pause = lane.brake.until() - Instant::now();
                assert!(pause >= Duration::from_secs(15), "{became:?}: {pause:?}");
                let took = End::Deferred { after: 60 };
                tokio::time::sleep_until(lane.brake.until()).await;
                lane.call_ended(took, End::Failed(Fault::PollTimeout), None);
                lane.call_ended(back(cause), became, None);
                let pause = lane.brake.until() - Instant::now();
                assert!(pause <= Duration::from_secs(1), "{became:?}: {pause:?}");
            }
        }
    }

    #[test]
    fn what_speaks_against_the_handler() {
        use End::{Completed, Deferred, Failed, Terminal};
        use Fault::{Circling, ClientError, CutOff, LeaseLost, PollTimeout, ServerError, TooLarge};
        let put_off = Deferred { after: 60 };
        for (said, became, against) in [
            (Completed, Completed, Some(false)),
            (Completed, Terminal(TooLarge), Some(false)),
            (put_off, put_off, Some(false)),
            (put_off, Failed(PollTimeout), Some(false)),
            (Failed(ClientError), Failed(ClientError), Some(false)),
            (Failed(ServerError), Failed(ServerError), Some(true)),
            (Failed(CutOff), Failed(CutOff), Some(true)),
            (Failed(LeaseLost), Failed(LeaseLost), None),
            (back(Cause::Busy), back(Cause::Busy), None),
            (back(Cause::Busy), Failed(Circling), Some(true)),
            (back(Cause::Busy), Failed(PollTimeout), Some(true)),
            (back(Cause::Refused), Failed(PollTimeout), Some(true)),
            (back(Cause::Shutdown), Failed(PollTimeout), None),
        ] {
            assert_eq!(handler_failed(said, became), against, "{said:?} {became:?}");
        }
    }
}
