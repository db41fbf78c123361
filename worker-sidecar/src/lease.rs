//! Keeps a task's lease while it is in work.

use std::{
    convert::Infallible,
    future::{Future, pending},
    pin::Pin,
    sync::{
        Mutex as Lock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use conductor_client::{Client, Kind, Task, TaskStatus};
use tokio::{
    sync::{Mutex, MutexGuard, Notify, watch},
    time::Instant,
};

use crate::{backoff::Backoff, metrics::TaskMetrics};

/// When a lease is extended. Pure; randomness is a parameter, 0 to 1.
///
/// The first attempt comes after a third of the lease. No attempt takes longer than an eighth
/// of it, nor does the pause after one that failed: so a third attempt begins after 5/6 at the
/// latest, and has an eighth too.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    lease: Duration,
}

impl Schedule {
    /// The schedule of a lease; `None` for a task that has none.
    pub fn new(lease: Duration) -> Option<Self> {
        (!lease.is_zero()).then_some(Self { lease })
    }

    /// From the poll, or the last extension, to the next.
    pub fn next(self, random: f64) -> Duration {
        // Up to a tenth sooner: tasks that came in a batch need not be extended in one.
        (self.lease / 3).mul_f64(1.0 - random.clamp(0.0, 1.0) / 10.0)
    }

    /// After so many failures in a row, to the next attempt.
    pub fn retry(self, failures: u32, random: f64) -> Duration {
        Backoff::POLL
            .pause(failures, random)
            .min(self.lease / 8)
            .max(Duration::from_millis(50))
    }

    /// How long an attempt may take.
    pub fn patience(self) -> Duration {
        (self.lease / 8).max(Duration::from_millis(50))
    }
}

/// How long an extension stays in the air once a report wants to follow it.
const GIVES_WAY: Duration = Duration::from_secs(1);

/// How long a report may have its turn: the lease is not extended meanwhile, so it takes no more
/// of it than an extension does. For long leases: the next attempt may find a connection that
/// works.
pub fn report_patience(lease: Duration) -> Duration {
    (lease / 8).clamp(Duration::from_secs(2), Duration::from_secs(10))
}

/// How soon a server that answers is done with what had come to it before, as a rule: seen are 1 to
/// 6 s of one that starts, of which most are over when it answers at all.
pub const CROSSES: Duration = Duration::from_secs(3);

/// A task's request that was given up without an answer may lie in a socket of a server that is slow
/// or starts, and be executed beside one that comes later.
#[derive(Debug, Clone, Copy, Default)]
enum GivenUp {
    /// There is none.
    #[default]
    None,
    /// There is one, and none has been answered since.
    Lies,
    /// The first that came after it was answered then.
    Answered(Instant),
}

/// Of a task's reports and extensions one is in the air at a time: the server reads the task
/// and writes it back, and an extension that crosses a report could undo it.
#[derive(Debug, Default)]
pub struct Air {
    one: Mutex<()>,
    given_up: Lock<GivenUp>,
    /// How many reports wait for their turn.
    waiting: AtomicUsize,
    /// Told of each that begins to wait.
    wanted: Notify,
}

impl Air {
    /// Whether a request that nobody here waits for may cross one that is answered now, and undo it.
    pub fn may_cross(&self, now: Instant) -> bool {
        match *self.lock() {
            GivenUp::None => false,
            GivenUp::Lies => true,
            GivenUp::Answered(at) => now < at + CROSSES,
        }
    }

    /// A request was given up that the server may still get, or be at.
    pub fn gave_up(&self) {
        *self.lock() = GivenUp::Lies;
    }

    fn answered(&self, now: Instant) {
        let mut given_up = self.lock();
        if let GivenUp::Lies = *given_up {
            *given_up = GivenUp::Answered(now);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, GivenUp> {
        self.given_up.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For a report, until dropped. An extension that is in the air gives way soon.
    pub async fn for_report(&self) -> MutexGuard<'_, ()> {
        if let Ok(one) = self.one.try_lock() {
            return one;
        }
        let _waits = Waits::begin(self);
        self.one.lock().await
    }

    /// An extension's attempt, when there is no report in the air; none if that took too long.
    async fn extend<T>(&self, patience: Duration, attempt: impl Future<Output = T>) -> Option<T> {
        let _one = self.one.lock().await;
        let wanted = async {
            self.report_waits().await;
            tokio::time::sleep(GIVES_WAY).await;
        };
        tokio::select! {
            biased;
            done = tokio::time::timeout(patience, attempt) => done.ok(),
            () = wanted => None,
        }
    }

    /// Ends when a report waits for its turn, be it since before this was called.
    async fn report_waits(&self) {
        let begins = self.wanted.notified();
        if self.waiting.load(Ordering::SeqCst) == 0 {
            begins.await;
        }
    }
}

/// A report's wait for its turn.
struct Waits<'a>(&'a Air);

impl<'a> Waits<'a> {
    fn begin(air: &'a Air) -> Self {
        air.waiting.fetch_add(1, Ordering::SeqCst);
        air.wanted.notify_waiters();
        Self(air)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Which lease.
#[derive(Debug, Clone)]
pub struct Lease {
    /// The task's workflow.
    pub workflow_id: String,
    /// The task.
    pub task_id: String,
    /// How long it lasts; zero for a task without one.
    pub length: Duration,
}

impl Lease {
    /// A polled task's.
    pub fn of(task: &Task) -> Self {
        Self {
            workflow_id: task.workflow_id().to_owned(),
            task_id: task.task_id().to_owned(),
            length: Duration::from_secs(task.response_timeout_seconds()),
        }
    }

    /// How often the task is looked at, whether the server still wants it: three times a
    /// lease, within bounds that neither burden the server nor let work run on for long.
    fn look(&self) -> Duration {
        (self.length / 3).clamp(OFTENEST_LOOK, RAREST_LOOK)
    }

    /// How long a look may take: it is over before the next one.
    fn look_patience(&self) -> Duration {
        self.look() / 2
    }
}

const OFTENEST_LOOK: Duration = Duration::from_secs(5);
const RAREST_LOOK: Duration = Duration::from_secs(60);

/// Whether the server has given the task up, or to somebody else: what comes of it here would
/// be thrown away. A task that is complete has a handler that completed it by another way.
fn is_given_up(status: TaskStatus, holder: Option<&str>, me: &str) -> bool {
    match status {
        TaskStatus::TimedOut
        | TaskStatus::Canceled
        | TaskStatus::Failed
        | TaskStatus::FailedWithTerminalError
        | TaskStatus::Skipped => true,
        TaskStatus::InProgress => holder.is_some_and(|holder| holder != me),
        TaskStatus::Scheduled
        | TaskStatus::Completed
        | TaskStatus::CompletedWithErrors
        | TaskStatus::Unknown => false,
    }
}

/// Extends leases.
#[derive(Debug)]
pub struct Keeper<'a> {
    /// Conductor.
    pub client: &'a Client,
    /// Who holds the tasks.
    pub worker_id: &'a str,
    /// Counts them.
    pub metrics: &'a TaskMetrics,
}

impl Keeper<'_> {
    /// Extends a lease until dropped. When the server has given the task up there is nothing
    /// left to keep: `gone` becomes true, and nothing more is sent.
    pub async fn keep(&self, lease: &Lease, gone: &watch::Sender<bool>, air: &Air) -> Infallible {
        let schedule = Schedule::new(lease.length);
        let mut extend_at = schedule.map(|s| Instant::now() + s.next(fastrand::f64()));
        let mut look_at = Instant::now() + lease.look();
        let mut failures = 0;
        // Beside the extensions: one that hangs must not hold them up.
        let mut look = None;
        loop {
            let next = extend_at.map_or(look_at, |at| at.min(look_at));
            let still_there = tokio::select! {
                biased;
                wanted = found(&mut look) => wanted,
                () = tokio::time::sleep_until(next) => {
                    let now = Instant::now();
                    if let (Some(schedule), Some(at)) = (schedule, extend_at)
                        && at <= now
                    {
                        let (pause, there) =
                            Box::pin(self.extend(lease, schedule, &mut failures, air)).await;
                        extend_at = Some(Instant::now() + pause);
                        there
                    } else {
                        look_at = now + lease.look().mul_f64(1.0 - fastrand::f64() / 10.0);
                        look = Some(Box::pin(self.is_wanted(lease)));
                        true
                    }
                }
            };
            if !still_there {
                gone.send_replace(true);
                return pending().await;
            }
        }
    }

    /// One attempt; the pause to the next, and whether the server knows the task.
    async fn extend(
        &self,
        lease: &Lease,
        schedule: Schedule,
        failures: &mut u32,
        air: &Air,
    ) -> (Duration, bool) {
        let Lease {
            workflow_id: workflow,
            task_id: task,
            ..
        } = lease;
        let began = Instant::now();
        let extend = self.client.extend_lease(workflow, task, self.worker_id);
        let failure = match air.extend(schedule.patience(), extend).await {
            Some(Ok(())) => {
                air.answered(Instant::now());
                None
            }
            Some(Err(error)) => {
                tracing::warn!(task, workflow, failures, %error, "the lease was not extended");
                if error.may_be_under_way() {
                    air.gave_up();
                }
                Some((error.kind(), error.status()))
            }
            None => {
                tracing::warn!(
                    task,
                    workflow,
                    failures,
                    "the lease was not extended in time"
                );
                air.gave_up();
                Some((Kind::Retryable { after: None }, None))
            }
        };
        self.metrics.lease_extended(began.elapsed(), failure);
        match failure {
            None => {
                *failures = 0;
                (schedule.next(fastrand::f64()), true)
            }
            Some((kind, _)) => {
                *failures += 1;
                (
                    schedule.retry(*failures, fastrand::f64()),
                    kind != Kind::Gone,
                )
            }
        }
    }

    /// The answers to updates do not tell it: a late result is taken with a 200 and thrown
    /// away.
    async fn is_wanted(&self, lease: &Lease) -> bool {
        let began = Instant::now();
        let look = self.client.get_task(&lease.task_id);
        let looked = tokio::time::timeout(lease.look_patience(), look).await;
        let failure = match &looked {
            Ok(looked) => looked.as_ref().err().map(|e| (e.kind(), e.status())),
            Err(_) => Some((Kind::Retryable { after: None }, None)),
        };
        self.metrics.looked(began.elapsed(), failure);
        match looked {
            Ok(Ok(task)) => !is_given_up(task.status(), task.worker_id(), self.worker_id),
            Ok(Err(error)) => error.kind() != Kind::Gone,
            Err(_) => true,
        }
    }
}

/// What the look in the air finds; without one it never ends.
async fn found<F: Future<Output = bool>>(look: &mut Option<Pin<Box<F>>>) -> bool {
    let Some(in_the_air) = look else {
        return pending().await;
    };
    let wanted = in_the_air.await;
    *look = None;
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_has_given_up() {
        use TaskStatus as S;
        for (status, holder, given_up) in [
            (S::InProgress, Some("me"), false),
            (S::InProgress, None, false),
            (S::InProgress, Some("another"), true),
            (S::Canceled, Some("me"), true),
            (S::TimedOut, Some("me"), true),
            (S::Failed, Some("me"), true),
            (S::Completed, Some("me"), false),
            (S::Scheduled, Some("another"), false),
            (S::Unknown, Some("another"), false),
        ] {
            let is = is_given_up(status, holder, "me");
            assert_eq!(is, given_up, "{status:?} {holder:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_given_up_may_cross_until_a_while_after_the_next_answer() {
        let (air, now) = (Air::default(), Instant::now());
        air.answered(now);
        assert!(!air.may_cross(now), "nothing was given up");
        air.gave_up();
        assert!(air.may_cross(now + 1000 * CROSSES), "it may lie for long");
        air.answered(now);
        air.answered(now + CROSSES / 2);
        assert!(air.may_cross(now + CROSSES / 2));
        assert!(!air.may_cross(now + CROSSES));
        air.gave_up();
        assert!(air.may_cross(now + CROSSES), "another");
    }

    #[test]
    fn looks_are_bounded() {
        for (lease, look) in [(0, 5), (3, 5), (60, 20), (3600, 60)] {
            let lease = Lease {
                workflow_id: String::new(),
                task_id: String::new(),
                length: Duration::from_secs(lease),
            };
            assert_eq!(lease.look(), Duration::from_secs(look), "{lease:?}");
            // The next one comes up to a tenth sooner.
            assert!(lease.look_patience() < lease.look().mul_f64(0.9));
        }
    }

    #[test]
    fn no_lease_needs_no_extension() {
        assert!(Schedule::new(Duration::ZERO).is_none());
    }

    #[test]
    fn two_failed_attempts_leave_time_for_a_third() {
        for seconds in [1, 2, 5, 20, 60, 600, 3600] {
            let lease = Duration::from_secs(seconds);
            let schedule = Schedule::new(lease).unwrap();
            for random in [0.0, 0.5, 1.0] {
                // The worst case: each failed attempt takes all the time it may.
                let first = schedule.next(random);
                let second = first + schedule.patience() + schedule.retry(1, random);
                let third = second + schedule.patience() + schedule.retry(2, random);
                assert!(first <= lease / 3);
                assert!(
                    third + schedule.patience() <= lease,
                    "{seconds} s, {random}: third at {third:?}"
                );
                // Failures that are told at once leave at least a third.
                let quick = first + schedule.retry(1, random) + schedule.retry(2, random);
                assert!(
                    lease.checked_sub(quick).unwrap() >= lease / 4,
                    "{seconds} s: {quick:?}"
                );
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_extension_gives_way_to_a_report_and_waits_for_one() {
        let patience = Duration::from_secs(100);
        let air = Air::default();
        let began = Instant::now();
        let report = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            let _one = air.for_report().await;
            assert_eq!(began.elapsed(), Duration::from_secs(5) + GIVES_WAY);
        };
        let hangs = air.extend(patience, pending::<()>());
        assert_eq!(tokio::join!(hangs, report).0, None);

        let one = air.for_report().await;
        let began = Instant::now();
        let report = async {
            tokio::time::sleep(Duration::from_secs(7)).await;
            drop(one);
        };
        let extended = air.extend(patience, async { began.elapsed() });
        let (after, ()) = tokio::join!(extended, report);
        assert_eq!(after, Some(Duration::from_secs(7)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_extension_gives_way_to_a_report_that_waited_before_it_began() {
        let air = Air::default();
        let one = air.for_report().await;
        let hangs = air.extend(Duration::from_secs(100), pending::<()>());
        let began = Instant::now();
        let report = async {
            let _turn = air.for_report().await;
            began.elapsed()
        };
        let first = async {
            // Both wait by now, the extension before the report.
            tokio::time::sleep(Duration::from_secs(3)).await;
            drop(one);
        };
        let (extended, after, ()) = tokio::join!(hangs, report, first);
        assert_eq!(extended, None);
        assert_eq!(after, Duration::from_secs(3) + GIVES_WAY);
        // Nobody waits any more, nor one that gave up waiting.
        let one = air.for_report().await;
        let given_up = tokio::time::timeout(Duration::from_secs(1), air.for_report()).await;
        assert!(given_up.is_err());
        drop(one);
        let slow = async { tokio::time::sleep(Duration::from_secs(9)).await };
        assert_eq!(air.extend(Duration::from_secs(10), slow).await, Some(()));
    }

    #[test]
    fn a_report_takes_no_more_of_a_lease_than_an_extension() {
        for (lease, patience) in [(0, 2), (3, 2), (40, 5), (3600, 10)] {
            let patience = Duration::from_secs(patience);
            assert_eq!(report_patience(Duration::from_secs(lease)), patience);
        }
    }

    #[test]
    fn long_leases_are_retried_soon() {
        let schedule = Schedule::new(Duration::from_secs(3600)).unwrap();
        assert_eq!(schedule.next(0.0), Duration::from_secs(1200));
        assert_eq!(schedule.retry(1, 1.0), Duration::from_millis(250));
        assert_eq!(schedule.retry(50, 1.0), Duration::from_secs(4));
    }
}
