//! Holds polls back while the handler answers that it is busy, or refuses calls.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::backoff::Backoff;

/// Holds one type's polls back while its handler answers that it is busy.
#[derive(Debug)]
pub struct Brake(Mutex<Braked>);

#[derive(Debug, Clone, Copy)]
struct Braked {
    until: Instant,
    strikes: u32,
}

impl Brake {
    /// Not braked.
    pub fn new() -> Self {
        Self(Mutex::new(Braked {
            until: Instant::now(),
            strikes: 0,
        }))
    }

    /// No poll before.
    pub fn until(&self) -> Instant {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).until
    }

    /// The handler is busy, for `after` by its own word.
    pub fn busy(&self, after: Duration, random: f64) {
        self.pull(Backoff::BUSY, after, random);
    }

    /// The handler refused a call.
    pub fn refused(&self, random: f64) {
        self.pull(Backoff::REFUSED, Duration::ZERO, random);
    }

    fn pull(&self, backoff: Backoff, after: Duration, random: f64) {
        let mut braked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *braked = braked.pulled(backoff, Instant::now(), after, random);
    }

    /// The handler took a task.
    pub fn free(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .strikes = 0;
    }
}

impl Default for Brake {
    fn default() -> Self {
        Self::new()
    }
}

impl Braked {
    /// Calls that run side by side are refused together: only the first of them is a strike.
    fn pulled(self, backoff: Backoff, now: Instant, after: Duration, random: f64) -> Self {
        let strikes = self.strikes.saturating_add(u32::from(now >= self.until));
        let pause = backoff.pause_or_later(strikes, Some(after), random);
        Self {
            until: self.until.max(now + pause),
            strikes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_brake_tightens_once_a_period() {
        let s = Duration::from_secs;
        let now = Instant::now();
        let fresh = Braked {
            until: now,
            strikes: 0,
        };
        let once = fresh.pulled(Backoff::BUSY, now, Duration::ZERO, 1.0);
        assert_eq!((once.until, once.strikes), (now + s(1), 1));
        let same = once.pulled(Backoff::BUSY, now, Duration::ZERO, 1.0);
        assert_eq!((same.until, same.strikes), (now + s(1), 1));
        let later = now + s(2);
        let twice = same.pulled(Backoff::BUSY, later, Duration::ZERO, 1.0);
        assert_eq!((twice.until, twice.strikes), (later + s(2), 2));
        let asked = fresh.pulled(Backoff::BUSY, now, s(60), 0.0);
        assert_eq!(asked.until, now + s(60));
        let endless = fresh.pulled(Backoff::BUSY, now, s(u64::MAX), 0.0);
        assert_eq!(endless.until, now + s(300));
    }
}
