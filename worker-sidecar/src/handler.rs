//! Whether the user's container takes calls.

use std::{io, time::Duration};

use tokio::{
    net::TcpStream,
    sync::{Notify, watch},
    time::timeout,
};

use crate::{
    config::{HandlerConfig, Probe},
    execute::{Loopback, loopback},
};

/// While it is not ready: soon at first, so that a start is not delayed, then slower.
const FIRST: Duration = Duration::from_millis(10);
/// The slowest, and the pace while it is ready.
const SLOWEST: Duration = Duration::from_secs(1);
/// How long a probe may take; kubelet's default.
const PATIENCE: Duration = Duration::from_secs(1);

/// The handler's readiness, as last seen.
#[derive(Debug)]
pub struct Handler {
    probe: Probe,
    http: Loopback,
    ready: watch::Sender<bool>,
    look: Notify,
}

/// What a probe saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Ready,
    /// It refused, or answered that it is not.
    NotReady,
    /// It did not answer in time.
    Silent,
}

/// A ready handler with work may be too busy to answer a probe: silence alone does not make
/// it unready then.
fn is_ready(before: bool, seen: Seen, busy: bool) -> bool {
    match seen {
        Seen::Ready => true,
        Seen::NotReady => false,
        Seen::Silent => before && busy,
    }
}

impl Handler {
    /// Not ready until it is seen so.
    pub fn new(config: &HandlerConfig) -> Self {
        Self {
            probe: config.probe.clone(),
            http: loopback(0),
            ready: watch::Sender::new(false),
            look: Notify::new(),
        }
    }

    /// Whether it takes calls, as far as is known.
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// Ends when it takes calls.
    pub async fn ready(&self) {
        let mut ready = self.ready.subscribe();
        // The sender lives in `self`, so the channel cannot close meanwhile.
        let _ = ready.wait_for(|ready| *ready).await;
    }

    /// A call was refused: polling stops until a probe succeeds.
    pub fn refused(&self) {
        self.set(false, "a call was refused");
        self.look.notify_one();
    }

    /// A call broke: look at once.
    pub fn suspect(&self) {
        self.look.notify_one();
    }

    /// Looks after it for ever. `busy`: calls are under way.
    pub async fn watch(&self, busy: impl Fn() -> bool) {
        let mut pause = FIRST;
        loop {
            let seen = self.probe().await;
            let ready = is_ready(self.is_ready(), seen, busy());
            self.set(ready, "a probe failed");
            if ready {
                pause = FIRST;
                tokio::select! {
                    () = tokio::time::sleep(SLOWEST) => {}
                    () = self.look.notified() => {}
                }
            } else {
                tokio::time::sleep(pause).await;
                pause = pause.mul_f64(1.5).min(SLOWEST);
            }
        }
    }

    fn set(&self, ready: bool, why_not: &str) {
        let changed = self
            .ready
            .send_if_modified(|now| std::mem::replace(now, ready) != ready);
        match (changed, ready) {
            (true, true) => tracing::info!("the handler is ready"),
            (true, false) => {
                tracing::warn!("the handler is not ready: {why_not}; no polls until it is");
            }
            (false, _) => {}
        }
    }

    async fn probe(&self) -> Seen {
        match &self.probe {
            Probe::Tcp(port) => {
                seen(&timeout(PATIENCE, TcpStream::connect(("127.0.0.1", *port))).await)
            }
            Probe::Http(uri) => match timeout(PATIENCE, self.http.get(uri.clone())).await {
                Ok(Ok(answer)) if (200..400).contains(&answer.status().as_u16()) => Seen::Ready,
                Ok(_) => Seen::NotReady,
                Err(_) => Seen::Silent,
            },
        }
    }
}

fn seen<T>(connected: &Result<io::Result<T>, tokio::time::error::Elapsed>) -> Seen {
    match connected {
        Ok(Ok(_)) => Seen::Ready,
        Ok(Err(_)) => Seen::NotReady,
        Err(_) => Seen::Silent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_no_refusal_while_there_is_work() {
        for (before, seen, busy, ready) in [
            (false, Seen::Ready, false, true),
            (true, Seen::Ready, true, true),
            (true, Seen::NotReady, true, false),
            (true, Seen::NotReady, false, false),
            (true, Seen::Silent, true, true),
            (true, Seen::Silent, false, false),
            (false, Seen::Silent, true, false),
            (false, Seen::Silent, false, false),
        ] {
            assert_eq!(
                is_ready(before, seen, busy),
                ready,
                "{before} {seen:?} {busy}"
            );
        }
    }
}
