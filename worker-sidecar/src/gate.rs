//! Lets reports that failed through to Conductor again: while the server is away one at a
//! time, less than a second apart, so that its return is noticed within that second and
//! an outage does not become a storm; when it is back, all of them, some at once.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Mutex as Turns, MutexGuard as Turn, Semaphore, SemaphorePermit},
    time::Instant,
};

use crate::{backoff::Backoff, presence::Presence};

/// How many repeated reports are in the air at once when the server is there, at most.
const WIDTH: usize = 16;

/// Whether the server takes reports, as last seen.
#[derive(Debug)]
pub struct Gate {
    away: AtomicBool,
    polls: AtomicU64,
    batches: AtomicU64,
    taken: AtomicU64,
    /// How many were taken when one was forbidden the last time.
    taken_when_forbidden: AtomicU64,
    next_try: Mutex<Try>,
    turns: Turns<()>,
    width: Semaphore,
    presence: Presence,
}

#[derive(Debug, Clone, Copy)]
struct Try {
    failures: u32,
    not_before: Instant,
}

/// What the server has done: whether it did something since tells whether a refusal concerns
/// all or one result alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Polls it answered, and reports it took.
    pub answered: u64,
    /// Polls it answered with tasks, and reports it took: it reached its store for these.
    pub worked: u64,
    /// Reports it took.
    pub taken: u64,
}

/// The right to try once more.
#[derive(Debug)]
pub struct Pass<'a> {
    _turn: Option<Turn<'a, ()>>,
    _permit: Option<SemaphorePermit<'a>>,
}

impl Gate {
    /// Open, for a sidecar with so many slots: reports that wait on disk are read when they are
    /// let through, and no more of them at once than there may be tasks.
    pub fn new(slots: usize) -> Self {
        Self {
            away: AtomicBool::new(false),
            polls: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            taken_when_forbidden: AtomicU64::new(0),
            next_try: Mutex::new(Try {
                failures: 0,
                not_before: Instant::now(),
            }),
            turns: Turns::new(()),
            width: Semaphore::new(slots.clamp(1, WIDTH)),
            presence: Presence::default(),
        }
    }

    /// Whether the last report found no server that takes it.
    pub fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// Tells calls that hang that the server has come back.
    pub fn presence(&self) -> &Presence {
        &self.presence
    }

    /// A poll was answered, with so many tasks.
    pub fn polled(&self, got: usize) {
        self.polls.fetch_add(1, Ordering::Relaxed);
        if got > 0 {
            self.batches.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What the server has done so far.
    pub fn seen(&self) -> Seen {
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        let taken = count(&self.taken);
        Seen {
            answered: count(&self.polls) + taken,
            worked: count(&self.batches) + taken,
            taken,
        }
    }

    /// A report was answered 403. Whether one was taken since that was so the last time: then
    /// it may be about this one alone.
    pub fn forbidden(&self) -> bool {
        let taken = self.taken.load(Ordering::Relaxed);
        self.taken_when_forbidden.swap(taken, Ordering::Relaxed) != taken
    }

    /// A report was taken.
    pub fn open(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
        if self.away.swap(false, Ordering::Relaxed) {
            self.lock().failures = 0;
            tracing::info!("Conductor takes results again");
        }
    }

    /// A report found no server that takes it: `after` by the server's own word. Those that
    /// were in the air together fail together: only the first of them counts.
    pub fn shut(&self, after: Option<Duration>, random: f64) {
        let now = Instant::now();
        let mut next = self.lock();
        if self.away.swap(true, Ordering::Relaxed) && now < next.not_before {
            return;
        }
        next.failures = next.failures.saturating_add(1);
        next.not_before = now + Backoff::AWAY.pause_or_later(next.failures, after, random);
    }

    /// Waits for the right to try again.
    pub async fn pass(&self) -> Pass<'_> {
        loop {
            if !self.is_away() {
                // An error would mean a closed semaphore; this one never is.
                let permit = self.width.acquire().await.ok();
                if !self.is_away() {
                    return Pass {
                        _turn: None,
                        _permit: permit,
                    };
                }
                continue;
            }
            // First come, first served: a result that the server never takes goes to the end
            // of the row each time.
            let turn = self.turns.lock().await;
            let not_before = self.lock().not_before;
            tokio::time::sleep_until(not_before).await;
            if self.is_away() {
                return Pass {
                    _turn: Some(turn),
                    _permit: None,
                };
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Try> {
        self.next_try.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn while_the_server_is_away_one_report_at_a_time_tries_within_every_second() {
        let gate = Gate::new(WIDTH);
        gate.shut(None, 1.0);
        let mut gaps = Vec::new();
        for _ in 0..8 {
            let began = Instant::now();
            let _pass = gate.pass().await;
            gaps.push(began.elapsed().as_millis());
            assert!(gate.pass().now_or_never().is_none(), "one at a time");
            gate.shut(None, 1.0);
        }
        // tokio's timer has steps of a millisecond and rounds up.
        let expected = [100, 200, 400, 800, 800, 800, 800, 800];
        for (gap, expected) in gaps.iter().zip(expected) {
            assert!((expected..=expected + 1).contains(gap), "{gaps:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn when_the_server_is_back_some_go_at_once() {
        let gate = Gate::new(WIDTH);
        gate.shut(None, 1.0);
        let first = gate.pass().await;
        gate.open();
        drop(first);
        let passes: Vec<_> = (0..WIDTH)
            .map(|_| gate.pass().now_or_never().unwrap())
            .collect();
        assert!(gate.pass().now_or_never().is_none());
        drop(passes);
        assert!(gate.pass().now_or_never().is_some());
    }

    #[test]
    fn no_more_go_at_once_than_there_are_slots() {
        for (slots, width) in [(0, 1), (1, 1), (3, 3), (100, WIDTH)] {
            let gate = Gate::new(slots);
            let pass = || gate.pass().now_or_never();
            let passes: Vec<_> = std::iter::from_fn(pass).collect();
            assert_eq!(passes.len(), width, "{slots} slots");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failures_side_by_side_count_once() {
        let gate = Gate::new(WIDTH);
        for _ in 0..64 {
            gate.shut(None, 1.0);
        }
        let began = Instant::now();
        gate.pass().await;
        assert!(began.elapsed() <= Duration::from_millis(101));
    }

    #[test]
    fn an_empty_poll_is_an_answer_and_no_work() {
        let gate = Gate::new(WIDTH);
        gate.polled(0);
        gate.polled(3);
        gate.open();
        let (answered, worked, taken) = (3, 2, 1);
        let seen = Seen {
            answered,
            worked,
            taken,
        };
        assert_eq!(gate.seen(), seen);
    }

    #[test]
    fn what_is_forbidden_while_others_are_taken_is_forbidden_alone() {
        let gate = Gate::new(WIDTH);
        assert!(!gate.forbidden(), "none was ever taken");
        gate.open();
        assert!(gate.forbidden());
        assert!(!gate.forbidden(), "maybe all are");
        gate.open();
        assert!(gate.forbidden());
    }

    #[tokio::test(start_paused = true)]
    async fn the_servers_own_time_is_heeded_up_to_a_minute() {
        let gate = Gate::new(WIDTH);
        gate.shut(Some(Duration::from_secs(7)), 0.0);
        let began = Instant::now();
        gate.pass().await;
        assert!(began.elapsed() >= Duration::from_secs(7));
    }
}
