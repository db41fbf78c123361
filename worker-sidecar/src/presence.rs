//! Finds out, while calls are not answered, that Conductor has come back.
//!
//! After an outage in which packets vanish (a node's network, a gateway that forgot its
//! connections) a call that was in the air may wait for minutes on a connection that leads nowhere,
//! while another would be answered at once. So while a call hangs, something small is asked again
//! and again on other connections. Where that is answered after it was not, what was in the air
//! before is sent again.
//!
//! The outage may have ended before anybody looked: then every look is answered, as by a server
//! that is only slow with what hangs. So one call at a time is sent again as a probe. If that is
//! answered soon, the server was away, and what is older is sent again too; if not, nothing else
//! is cut short for that, and a slow server has one request more in the air.

use std::{convert::Infallible, future::pending, sync::Arc, time::Duration};

use conductor_client::{Client, Kind, QueueName};
use futures::FutureExt as _;
use tokio::{
    sync::{Mutex, Notify, OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, sleep_until, timeout},
};

use crate::metrics::TaskMetrics;

/// How long a look may take, and the least from one to the next.
const LOOK: Duration = Duration::from_millis(600);

/// From a look that is answered to the next that nobody else asks for: then nobody waits for a
/// return.
const ANSWERED: Duration = Duration::from_secs(2);

/// A silence that nobody has looked at for so long tells nothing any more.
const STALE: Duration = Duration::from_secs(3);

/// Whether Conductor has come back; one for all of a sidecar's calls.
#[derive(Debug)]
pub struct Presence {
    /// When the look began that found the server back the last time: what began before may have
    /// been lost.
    back: watch::Sender<Option<Instant>>,
    /// When the last look began that was answered.
    answered: watch::Sender<Option<Instant>>,
    /// When the last look was not answered. Who has it looks, for all.
    silent: Mutex<Option<Instant>>,
    /// Somebody waits for a look that is still to begin.
    wanted: Notify,
    /// One probe at a time.
    probes: Arc<Semaphore>,
}

/// The right to send again what hangs while others are answered: to be kept until that is
/// answered, or has taken too long as well.
#[derive(Debug)]
pub struct Probe {
    _one: OwnedSemaphorePermit,
}

/// From the beginning of a look to that of the next. Pure; randomness is a parameter, 0 to 1.
fn next(answered: bool, random: f64) -> Duration {
    let least = if answered { ANSWERED } else { LOOK };
    // Up to a third later: what went away together does not come back together.
    least.mul_f64(1.0 + random.clamp(0.0, 1.0) / 3.0)
}

impl Default for Presence {
    fn default() -> Self {
        Self {
            back: watch::Sender::new(None),
            answered: watch::Sender::new(None),
            silent: Mutex::new(None),
            wanted: Notify::new(),
            probes: Arc::new(Semaphore::new(1)),
        }
    }
}

impl Presence {
    /// For a call that hangs and began at `since`. Ends with nothing when the server has come
    /// back after that, be it before this was called; with a probe when a look is answered while
    /// the call is not, and nobody else probes. `look`: one look, whether it was answered in
    /// time. However many wait, one looks at a time.
    pub async fn heard<F: Future<Output = bool>>(
        &self,
        since: Instant,
        look: impl Fn() -> F,
    ) -> Option<Probe> {
        let probe = async {
            match self.probes.clone().acquire_owned().await {
                Ok(one) => {
                    self.answered_from_now().await;
                    Probe { _one: one }
                }
                Err(_) => pending().await, // the semaphore is never closed
            }
        };
        tokio::select! {
            biased;
            () = reaches(&self.back, since) => None,
            probe = probe => Some(probe),
            never = self.watch(look) => match never {},
        }
    }

    /// The same for one whose repetition needs no leave: ends when the server has come back
    /// since, or answers a look that begins from now on.
    pub async fn is_there<F: Future<Output = bool>>(&self, since: Instant, look: impl Fn() -> F) {
        tokio::select! {
            biased;
            () = reaches(&self.back, since) => {}
            () = self.answered_from_now() => {}
            never = self.watch(look) => match never {},
        }
    }

    /// A probe that began then was answered soon: what is older and hangs was lost.
    pub fn came_back(&self, began: Instant) {
        let later = self.back.send_if_modified(|back| {
            let later = back.is_none_or(|before| before < began);
            if later {
                *back = Some(began);
            }
            later
        });
        if later {
            tracing::info!("Conductor answers again; what hangs is sent once more");
        }
    }

    /// When it came back the last time, as far as is known.
    pub fn back(&self) -> Option<Instant> {
        *self.back.borrow()
    }

    async fn answered_from_now(&self) {
        let now = Instant::now();
        self.wanted.notify_one();
        reaches(&self.answered, now).await;
    }

    async fn watch<F: Future<Output = bool>>(&self, look: impl Fn() -> F) -> Infallible {
        let mut silent = self.silent.lock().await;
        loop {
            // Who has asked until now is served by this look.
            let _ = self.wanted.notified().now_or_never();
            let began = Instant::now();
            let answered = look().await;
            if answered {
                if silent.take().is_some_and(|since| since.elapsed() < STALE) {
                    self.came_back(began);
                }
                self.answered.send_replace(Some(began));
            } else {
                *silent = Some(Instant::now());
            }
            let random = fastrand::f64();
            sleep_until(began + next(false, random)).await;
            if answered {
                let later = sleep_until(began + next(true, random));
                tokio::select! {
                    () = later => {}
                    () = self.wanted.notified() => {}
                }
            }
        }
    }
}

/// Ends when it is that moment or a later one.
async fn reaches(moment: &watch::Sender<Option<Instant>>, least: Instant) {
    let mut moments = moment.subscribe();
    // The sender lives in `self`, so the channel cannot close meanwhile.
    let is_there = |moment: &Option<Instant>| moment.is_some_and(|moment| moment >= least);
    if moments.wait_for(is_there).await.is_err() {
        pending::<()>().await;
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

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn all_that_wait_hear_of_a_return_and_one_looks_at_a_time() {
        let (presence, looking) = (Presence::default(), AtomicUsize::new(0));
        let since = Instant::now();
        let back = since + Duration::from_secs(20);
        let look = || async {
            assert_eq!(looking.fetch_add(1, Ordering::SeqCst), 0, "two look");
            let _gone = Gone(&looking);
            if Instant::now() < back {
                sleep(LOOK).await;
                return false;
            }
            true
        };
        let heard = tokio::join!(
            presence.heard(since, look),
            presence.heard(since, look),
            presence.heard(since, look),
            presence.is_there(since, look),
        );
        assert!(matches!(heard, (None, None, None, ())), "{heard:?}");
        let late = back.elapsed();
        assert!(late < Duration::from_millis(850), "{late:?}");
    }

    struct Gone<'a>(&'a AtomicUsize);

    impl Drop for Gone<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// A server that always answers the looks, each at once. How many there were.
    fn there(looks: &AtomicUsize) -> impl Future<Output = bool> {
        looks.fetch_add(1, Ordering::SeqCst);
        std::future::ready(true)
    }

    #[tokio::test(start_paused = true)]
    async fn where_all_looks_are_answered_one_at_a_time_probes() {
        let (presence, looks) = (Presence::default(), AtomicUsize::new(0));
        let since = Instant::now();
        advance(Duration::from_secs(1)).await;
        let heard = || presence.heard(since, || there(&looks));
        let probe = heard().await;
        assert!(probe.is_some(), "the outage may have ended before the look");
        // The others wait for what it finds: nothing, as the server is only slow.
        assert!(timeout(HOUR, heard()).await.is_err());
        drop(probe);
        let (one, other) = (heard(), heard());
        tokio::pin!(other);
        let probe = tokio::select! {
            // Who asks first probes.
            biased;
            probe = one => probe,
            _ = &mut other => panic!("two probe"),
        };
        assert!(probe.is_some());
        // It finds that the server was away.
        presence.came_back(Instant::now());
        assert!(other.now_or_never().unwrap().is_none());
        assert!(heard().now_or_never().unwrap().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_just_after_a_return_hears_of_it_and_what_is_younger_does_not() {
        let presence = Presence::default();
        let since = Instant::now();
        let there = since + Duration::from_secs(5);
        let look = || async move { Instant::now() >= there };
        presence.is_there(since, look).await;
        let back = presence.back().expect("it has come back");
        let nobody = || async { panic!("nothing need be looked for") };
        for before in [since, back] {
            let heard = presence.heard(before, nobody).now_or_never();
            assert!(heard.expect("heard at once").is_none());
            assert!(presence.is_there(before, nobody).now_or_never().is_some());
        }
        advance(Duration::from_millis(1)).await;
        let younger = presence.heard(Instant::now(), look).await;
        assert!(younger.is_some(), "nothing shows that it was lost");
        presence.came_back(since);
        assert_eq!(presence.back(), Some(back), "what is known stays");
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_from_before_tells_nothing_and_who_asks_need_not_wait_long_for_another() {
        let (presence, looks) = (Presence::default(), AtomicUsize::new(0));
        let look = || there(&looks);
        let since = Instant::now();
        presence.is_there(since, look).await;
        assert_eq!(looks.load(Ordering::SeqCst), 1);
        // One who waits for a probe's end looks now and then, for whoever asks beside it.
        let probe = presence.heard(since, look).await;
        let waits = presence.heard(since, look);
        tokio::pin!(waits);
        assert!(timeout(Duration::from_secs(20), &mut waits).await.is_err());
        let before = looks.load(Ordering::SeqCst);
        assert!((9..=13).contains(&before), "{before} looks: no storm");
        let asked = Instant::now();
        tokio::select! {
            () = presence.is_there(asked, look) => {}
            _ = &mut waits => panic!("two probe"),
        }
        assert!(looks.load(Ordering::SeqCst) > before);
        assert!(asked.elapsed() < Duration::from_millis(850));
        drop(probe);
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_silence_is_forgotten_and_a_recent_one_is_not() {
        for (pause, returns) in [(1, true), (10, false)] {
            let presence = Presence::default();
            let since = Instant::now();
            // Nobody waits any more after the first look.
            let silent = timeout(LOOK * 3 / 2, presence.heard(since, || async { false }));
            assert!(silent.await.is_err());
            advance(Duration::from_secs(pause)).await;
            let heard = presence.heard(since, || async { true }).await;
            assert_eq!(presence.back().is_some(), returns, "{pause} s");
            assert_eq!(heard.is_none(), returns, "{pause} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_no_more_leaves_the_looks_to_the_next() {
        let presence = Presence::default();
        let since = Instant::now();
        let there = since + Duration::from_secs(5);
        let look = || async move { Instant::now() >= there };
        let first = timeout(Duration::from_secs(2), presence.heard(since, look));
        let second = async {
            sleep(Duration::from_millis(100)).await;
            presence.heard(since, look).await
        };
        let (first, second) = tokio::join!(first, second);
        assert!(first.is_err() && second.is_none());
        assert!(there.elapsed() < Duration::from_millis(850));
    }
}
