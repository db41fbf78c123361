//! Whether the API server can be read from. Watches do not say so: one that is quiet looks like one
//! whose connection leads nowhere, and one that was begun again brings no event.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use scaling::Instant;

use crate::clock::Clock;

/// How often it is tried.
const PAUSE: Duration = Duration::from_secs(5);

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// When the API server was read from.
#[derive(Debug)]
pub struct Contact {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    last: Instant,
    fails: bool,
}

impl Contact {
    /// As if it had been read from now.
    pub fn new(clock: Clock) -> Self {
        let state = State {
            last: clock.now().clock,
            fails: false,
        };
        Self {
            clock,
            state: Mutex::new(state),
        }
    }

    /// Something was read.
    pub fn succeeded(&self) {
        let last = self.clock.now().clock;
        *self.state() = State { last, fails: false };
    }

    /// Something could not be read.
    pub fn failed(&self) {
        self.state().fails = true;
    }

    /// Since when nothing could be read; none while it can.
    pub fn unread_since(&self) -> Option<Instant> {
        let state = self.state();
        state.fails.then_some(state.last)
    }

    /// Tries again and again to read something, until it is dropped.
    pub async fn run<T, E: fmt::Display>(&self, read: impl AsyncFn() -> Result<T, E>) {
        loop {
            self.attempt(PATIENCE, &read).await;
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn attempt<T, E: fmt::Display>(
        &self,
        patience: Duration,
        read: impl AsyncFn() -> Result<T, E>,
    ) {
        let why = match tokio::time::timeout(patience, read()).await {
            Ok(Ok(_)) => return self.succeeded(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", patience.as_secs()),
        };
        if self.unread_since().is_none() {
            tracing::warn!(why, "the API server cannot be read from");
        }
        self.failed();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn an_error_and_an_answer_that_does_not_come_are_alike_and_end_with_an_answer() {
        let contact = Contact::new(Clock::start());
        assert_eq!(contact.unread_since(), None, "before it was tried");
        let answers = || contact.attempt(PATIENCE, async || Ok::<_, &str>(()));
        for hangs in [false, true] {
            answers().await;
            assert_eq!(contact.unread_since(), None);
            let last = contact.state().last;
            for _ in 0..2 {
                if hangs {
                    let never = async || pending::<Result<(), &str>>().await;
                    contact.attempt(Duration::ZERO, never).await;
                } else {
                    contact.attempt(PATIENCE, async || Err::<(), _>("no")).await;
                }
                assert_eq!(contact.unread_since(), Some(last), "since the last time");
            }
        }
        // What a watch brings counts, too.
        contact.succeeded();
        assert_eq!(contact.unread_since(), None);
    }
}
