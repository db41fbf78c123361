//! Finds out, while calls are not answered, that Conductor has come back.
//!
//! After an outage in which packets vanish (a node's network, a gateway that forgot its
//! connections) a call that was in the air may wait for minutes on a connection that leads nowhere,
//! while another would be answered at once. So while a report hangs, something small is asked again
//! and again on other connections. Where that is answered after it was not, what hangs is sent
//! again. A server that is only slow answers, late or not: nothing is cut short for that.

use std::{convert::Infallible, time::Duration};

use conductor_client::{Client, Kind, QueueName};
use tokio::{
    sync::{Mutex, watch},
    time::{Instant, sleep_until, timeout},
};

use crate::metrics::TaskMetrics;

/// How long a look may take, and the least from one that is not answered to the next.
const LOOK: Duration = Duration::from_millis(600);

/// From a look that is answered to the next: then nobody waits for a return.
const ANSWERED: Duration = Duration::from_secs(2);

/// A silence that nobody has looked at for so long tells nothing any more.
const STALE: Duration = Duration::from_secs(3);

/// Whether Conductor has come back; one for all of a sidecar's calls.
#[derive(Debug, Default)]
pub struct Presence {
    returns: watch::Sender<u64>,
    /// When the last look was not answered. Who has it looks, for all.
    silent: Mutex<Option<Instant>>,
}

/// From the beginning of a look to that of the next. Pure; randomness is a parameter, 0 to 1.
fn next(answered: bool, random: f64) -> Duration {
    let least = if answered { ANSWERED } else { LOOK };
    // Up to a third later: what went away together does not come back together.
    least.mul_f64(1.0 + random.clamp(0.0, 1.0) / 3.0)
}

impl Presence {
    /// Ends when the server answers that did not before. `look`: one look, whether it was
    /// answered in time. However many wait, one looks at a time.
    pub async fn returned<F: Future<Output = bool>>(&self, look: impl Fn() -> F) {
        let mut returns = self.returns.subscribe();
        tokio::select! {
            // The sender lives in `self`, so the channel cannot close meanwhile.
            _ = returns.changed() => {}
            never = self.watch(look) => match never {},
        }
    }

    async fn watch<F: Future<Output = bool>>(&self, look: impl Fn() -> F) -> Infallible {
        let mut silent = self.silent.lock().await;
        loop {
            let began = Instant::now();
            let answered = look().await;
            if !answered {
                *silent = Some(Instant::now());
            } else if silent.take().is_some_and(|since| since.elapsed() < STALE) {
                tracing::info!("Conductor answers again; what hangs is sent once more");
                self.returns.send_modify(|returns| *returns += 1);
            }
            sleep_until(began + next(answered, fastrand::f64())).await;
        }
    }
}

/// A look: whether Conductor answers. By the queue's size, which is little, and which it reads
/// from the store that updates go to.
pub(crate) async fn answers(client: &Client, task_type: &str, metrics: &TaskMetrics) -> bool {
    let queue = QueueName::new(task_type, None);
    let began = Instant::now();
    let failure = match timeout(LOOK, client.queue_size(&queue)).await {
        Ok(size) => size.err().map(|error| (error.kind(), error.status())),
        Err(_) => Some((Kind::Retryable { after: None }, None)),
    };
    metrics.queue_looked_at(began.elapsed(), failure);
    // A refusal is an answer.
    !matches!(failure, Some((Kind::Retryable { .. }, _)))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt as _;
    use tokio::time::{advance, sleep};

    use super::*;

    #[test]
    fn a_return_is_noticed_within_a_second() {
        for random in [0.0, 0.5, 1.0] {
            // The server comes back just after a look was lost, which takes all its time.
            let worst = next(false, random).max(LOOK);
            assert!(worst < Duration::from_millis(850), "{worst:?}");
            assert!(worst >= LOOK, "looks would overlap");
            assert!(next(true, random) >= ANSWERED);
        }
        assert!(next(false, 0.0) < next(false, 0.9), "no lockstep");
    }

    #[tokio::test(start_paused = true)]
    async fn all_that_wait_hear_of_a_return_and_one_looks_at_a_time() {
        let (presence, looking) = (Presence::default(), AtomicUsize::new(0));
        let back = Instant::now() + Duration::from_secs(20);
        let look = || async {
            assert_eq!(looking.fetch_add(1, Ordering::SeqCst), 0, "two look");
            let _gone = Gone(&looking);
            if Instant::now() < back {
                sleep(LOOK).await;
                return false;
            }
            true
        };
        tokio::join!(
            presence.returned(look),
            presence.returned(look),
            presence.returned(look)
        );
        let late = back.elapsed();
        assert!(late < Duration::from_millis(850), "{late:?}");
    }

    struct Gone<'a>(&'a AtomicUsize);

    impl Drop for Gone<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_always_answers_has_not_come_back() {
        let presence = Presence::default();
        let looks = AtomicUsize::new(0);
        let look = || async {
            looks.fetch_add(1, Ordering::SeqCst);
            true
        };
        let waits = timeout(Duration::from_secs(60), presence.returned(look));
        assert!(waits.await.is_err());
        assert!(looks.into_inner() <= 31, "no storm");
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_silence_is_forgotten_and_a_recent_one_is_not() {
        for (pause, returns) in [(1, true), (10, false)] {
            let presence = Presence::default();
            // Nobody waits any more after the first look.
            let silent = timeout(LOOK * 3 / 2, presence.returned(|| async { false }));
            assert!(silent.await.is_err());
            advance(Duration::from_secs(pause)).await;
            let waits = timeout(Duration::from_secs(5), presence.returned(|| async { true }));
            assert_eq!(waits.await.is_ok(), returns, "{pause} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_no_more_leaves_the_looks_to_the_next() {
        let presence = Presence::default();
        let away = Instant::now() + Duration::from_secs(5);
        let look = || async move { Instant::now() >= away };
        let first = timeout(Duration::from_secs(2), presence.returned(look));
        let second = async {
            sleep(Duration::from_millis(100)).await;
            presence.returned(look).await;
        };
        let (first, ()) = tokio::join!(first, second);
        assert!(first.is_err());
        assert!(away.elapsed() < Duration::from_millis(850));
        assert!(presence.returned(look).now_or_never().is_none());
    }
}
