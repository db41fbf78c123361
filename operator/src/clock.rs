//! What time it is. The plan is told; it never looks.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::controller::observed::Now;

/// Counts from its making.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// A clock at zero.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Now.
    pub fn now(self) -> Now {
        Now {
            clock: scaling::Instant::at(self.elapsed()),
            wall: Timestamp::now(),
        }
    }

    fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}
