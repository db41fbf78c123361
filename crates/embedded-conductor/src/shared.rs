//! The state behind a lock, with a clock, and who waits for what.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{sync::Notify, time::Instant};

use crate::{
    faults::Faults,
    state::{BatchFill, Move, Poll, State, Task},
    tokens::{Auth, Tokens},
};

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    inner: Mutex<Inner>,
    fill: BatchFill,
    clock: Clock,
    /// Something is due earlier than the timer thought.
    earlier: Notify,
    pub(crate) faults: Faults,
    /// None: everybody is let in.
    pub(crate) tokens: Option<Arc<Tokens>>,
}

#[derive(Debug)]
struct Inner {
    state: State,
    /// Long polls by queue.
    waiting: HashMap<Arc<str>, Arc<Notify>>,
    /// What the timer waits for.
    armed: Option<i64>,
    /// What tasks did, if the journal is kept.
    journal: Vec<Moved>,
}

/// An entry of the journal: what a task did and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The task's id.
    pub task: Arc<str>,
    /// What it did.
    pub what: Move,
    /// When, by the machine's clock, in microseconds since 1970; finer than the API's times.
    pub at: i64,
}

/// Epoch milliseconds that never go back.
#[derive(Debug)]
struct Clock {
    epoch: i64,
    since: Instant,
}

impl Clock {
    fn start() -> Self {
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            epoch: epoch.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX)),
            since: Instant::now(),
        }
    }

    fn now(&self) -> i64 {
        let passed = self.since.elapsed().as_millis();
        self.epoch + i64::try_from(passed).unwrap_or(i64::MAX - self.epoch)
    }

    fn instant(&self, at: i64) -> Instant {
        let ahead = u64::try_from(at - self.epoch).unwrap_or(0);
        self.since + Duration::from_millis(ahead)
    }
}

fn micros() -> i64 {
    let epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    epoch.map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX))
}

impl Shared {
    pub(crate) fn new(
        fill: BatchFill,
        keep_ended: usize,
        auth: Option<Auth>,
        journal: bool,
    ) -> Self {
        let clock = Clock::start();
        // Ids are to differ between runs, no more.
        let seed = clock.epoch.cast_unsigned() ^ (u64::from(std::process::id()) << 48);
        let mut state = State::new(seed, keep_ended, fill);
        if journal {
            state.note_moves();
        }
        Self {
            inner: Mutex::new(Inner {
                state,
                waiting: HashMap::new(),
                armed: None,
                journal: Vec::new(),
            }),
            fill,
            clock,
            earlier: Notify::new(),
            faults: Faults::default(),
            tokens: auth.map(|auth| Arc::new(Tokens::new(auth))),
        }
    }

    /// Calls the state at the time it is now, and wakes who waits for what changed.
    pub(crate) fn call<T>(&self, call: impl FnOnce(&mut State, i64) -> T) -> T {
        let now = self.clock.now();
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.state.tick(now);
        let answer = call(&mut inner.state, now);
        for queue in inner.state.take_woken() {
            if let Some(waiting) = inner.waiting.get(&queue) {
                waiting.notify_one();
            }
        }
        let moves = inner.state.take_moves();
        if !moves.is_empty() {
            let at = micros();
            let entries = moves.into_iter();
            let entries = entries.map(|(task, what)| Moved { task, what, at });
            inner.journal.extend(entries);
        }
        let due = inner.state.next_due();
        if let Some(at) = due
            && inner.armed.is_none_or(|armed| at < armed)
        {
            inner.armed = due;
            self.earlier.notify_one();
        }
        answer
    }

    /// What tasks did since the last time this was asked, oldest first.
    pub(crate) fn take_journal(&self) -> Vec<Moved> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut inner.journal)
    }

    /// Does what is due, for as long as it is polled.
    pub(crate) async fn run_timer(&self) {
        loop {
            let due = {
                self.call(|_, _| ());
                let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
                inner.armed = inner.state.next_due();
                inner.armed
            };
            match due {
                None => self.earlier.notified().await,
                Some(at) => tokio::select! {
                    () = tokio::time::sleep_until(self.clock.instant(at)) => {}
                    () = self.earlier.notified() => {}
                },
            }
        }
    }

    /// A poll, to its end. Whoever asked may be gone by then; the tasks are given out all the
    /// same, as in Conductor.
    pub(crate) async fn poll(
        self: &Arc<Self>,
        poll: Poll,
        count: i64,
        wait: Duration,
    ) -> Vec<Task> {
        let count = self.fill.wanted(count);
        let queue = poll.queue();
        let mut held = Vec::new();
        if let Some(given) = self.try_poll(&poll, &queue, &mut held, count, wait.is_zero()) {
            return given;
        }
        // In a task of its own: a connection that closes drops the handler, not the poll.
        let shared = self.clone();
        let deadline = Instant::now() + wait;
        let rest = tokio::spawn(async move {
            let waiting = shared.waiting(&queue);
            let mut late = false;
            loop {
                let mut woken = std::pin::pin!(waiting.notified());
                woken.as_mut().enable();
                if let Some(given) = shared.try_poll(&poll, &queue, &mut held, count, late) {
                    return given;
                }
                tokio::select! {
                    () = woken => {}
                    () = tokio::time::sleep_until(deadline) => late = true,
                }
            }
        });
        rest.await.unwrap_or_default()
    }

    /// One look into the queue; the poll's answer if that ends it.
    fn try_poll(
        &self,
        poll: &Poll,
        queue: &str,
        held: &mut Vec<Arc<str>>,
        count: usize,
        last: bool,
    ) -> Option<Vec<Task>> {
        self.call(|state, now| {
            held.extend(state.pop(queue, count.saturating_sub(held.len())));
            let enough = match self.fill {
                BatchFill::Sql => held.len() == count,
                BatchFill::Redis => !held.is_empty() || count == 0,
            };
            (enough || last).then(|| state.hand_out(poll, held, now))
        })
    }

    fn waiting(&self, queue: &Arc<str>) -> Arc<Notify> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.waiting.entry(queue.clone()).or_default().clone()
    }
}
