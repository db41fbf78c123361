//! The phases of a shutdown, and when each ends.
//!
//! ```text
//! terminating or TERM      drain limit           cut              end
//! ├── polls stop, calls ───┼── nothing begins ───┼── hand back ───┤
//! │   go on                │   any more          │   what is left │
//! 0                        grace − 10 s          grace − 3 s      grace − 0.5 s
//! ```
//! The parts are `runtime::grace`'s: a short grace period has shorter ones.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

/// The limits of a shutdown that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// When it began.
    pub began: Instant,
    /// `/drain` answers now at the latest, and no call begins any more.
    pub drain: Instant,
    /// Calls that still run are closed and their tasks handed back.
    pub cut: Instant,
    /// Reports end; kubelet kills the pod soon.
    pub end: Instant,
}

impl Limits {
    /// The limits of a shutdown that began then, with a grace period.
    pub fn new(began: Instant, grace: Duration) -> Self {
        Self {
            began,
            drain: began + runtime::grace::drain(grace),
            cut: began + runtime::grace::cut(grace),
            end: began + runtime::grace::end(grace),
        }
    }
}

/// Whether the sidecar is shutting down. Clones are one.
#[derive(Debug, Clone)]
pub struct Shutdown {
    grace: Duration,
    limits: watch::Sender<Option<Limits>>,
    /// When the preStop hooks were called that wait to be told of it.
    hooks: Arc<Mutex<Vec<Instant>>>,
}

/// A preStop hook that waits; dropping it ends that.
#[derive(Debug)]
pub struct Hook {
    shutdown: Shutdown,
    called: Instant,
}

impl Shutdown {
    /// Running, with this grace period for later.
    pub fn new(grace: Duration) -> Self {
        Self {
            grace,
            limits: watch::Sender::new(None),
            hooks: Arc::default(),
        }
    }

    fn hooks(&self) -> MutexGuard<'_, Vec<Instant>> {
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A container's preStop hook is called, maybe because the pod ends.
    pub fn hook(&self) -> Hook {
        let called = Instant::now();
        self.hooks().push(called);
        Hook {
            shutdown: self.clone(),
            called,
        }
    }

    /// The grace period.
    pub fn grace(&self) -> Duration {
        self.grace
    }

    /// Begins it, as of the first hook that waits: kubelet calls all of them at once and counts
    /// the grace period from there, however late we hear of it. What begins it again changes
    /// nothing: the first counts.
    pub fn begin(&self) -> Limits {
        let called = self.hooks().iter().min().copied();
        let since = called.unwrap_or_else(Instant::now);
        let mut begun = None;
        self.limits.send_if_modified(|limits| {
            let is_first = limits.is_none();
            begun = Some(*limits.get_or_insert_with(|| Limits::new(since, self.grace)));
            is_first
        });
        begun.unwrap_or_else(|| Limits::new(since, self.grace))
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        self.limits().is_some()
    }

    /// The limits, if it has begun.
    pub fn limits(&self) -> Option<Limits> {
        *self.limits.borrow()
    }

    /// Ends when it begins.
    pub async fn begun(&self) -> Limits {
        let mut limits = self.limits.subscribe();
        // The sender lives in `self`, so the channel cannot close meanwhile.
        match limits.wait_for(Option::is_some).await.map(|limits| *limits) {
            Ok(Some(limits)) => limits,
            _ => std::future::pending().await,
        }
    }

    /// Whether a call may begin.
    pub fn may_begin(&self) -> bool {
        self.limits()
            .is_none_or(|limits| Instant::now() < limits.drain)
    }

    /// Ends when calls that still run must be closed.
    pub async fn cut(&self) {
        let limits = self.begun().await;
        tokio::time::sleep_until(limits.cut).await;
    }

    /// Ends when even reports must end.
    pub async fn end(&self) {
        let limits = self.begun().await;
        tokio::time::sleep_until(limits.end).await;
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        let mut hooks = self.shutdown.hooks();
        if let Some(mine) = hooks.iter().position(|called| *called == self.called) {
            hooks.swap_remove(mine);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn limits_by_grace_period() {
        let began = Instant::now();
        for (grace, drain, cut, end) in [
            (600_000, 590_000, 597_000, 599_500),
            (30_000, 20_000, 27_000, 29_500),
            (6_000, 4_000, 4_500, 5_700),
            (1_500, 1_000, 1_125, 1_425),
            (12_000, 8_000, 9_000, 11_500),
            (0, 0, 0, 0),
        ] {
            let at = |millis| began + Duration::from_millis(millis);
            let limits = Limits::new(began, Duration::from_millis(grace));
            assert_eq!(
                (limits.drain, limits.cut, limits.end),
                (at(drain), at(cut), at(end))
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_begin_counts() {
        let shutdown = Shutdown::new(Duration::from_secs(30));
        assert!(shutdown.limits().is_none() && shutdown.may_begin());
        let first = shutdown.begin();
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(shutdown.begin(), first);
        assert_eq!(shutdown.begun().await, first);
        assert!(shutdown.may_begin());
        tokio::time::advance(Duration::from_secs(15)).await;
        assert!(!shutdown.may_begin());
        shutdown.cut().await;
        assert_eq!(Instant::now(), first.cut);
        shutdown.end().await;
        assert_eq!(Instant::now(), first.end);
    }

    #[tokio::test(start_paused = true)]
    async fn it_began_when_the_first_hook_was_called_that_waits() {
        let second = Duration::from_secs(1);
        let shutdown = Shutdown::new(30 * second);
        let gone = shutdown.hook();
        tokio::time::advance(second).await;
        let (first, same) = (shutdown.hook(), shutdown.hook());
        let called = Instant::now();
        tokio::time::advance(second).await;
        let _later = shutdown.hook();
        drop((gone, same));
        let limits = shutdown.begin();
        assert_eq!(limits, Limits::new(called, shutdown.grace()));
        drop(first);
        assert_eq!(shutdown.begin(), limits);
    }
}
