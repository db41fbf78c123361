//! How far a run is, and the first thing in it that did not work.

use std::sync::{Mutex, PoisonError};

use anyhow::{Error, Result};
use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::sync::watch;

/// How far a run is. It only goes forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Phase {
    /// Things go wrong, or are to.
    #[default]
    Breaking,
    /// All that was to go wrong is over.
    Mended,
    /// Every workflow has ended.
    Over,
    /// Something did not work, and the run is worth nothing: nothing new begins, and what has begun
    /// ends, since others come after it.
    GivenUp,
}

/// A run's way.
#[derive(Debug, Default)]
pub struct Course {
    phase: watch::Sender<Phase>,
    first: Mutex<Option<Error>>,
}

impl Course {
    /// How far it is.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// It is as far as this.
    pub fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let is_later = to > *phase;
            if is_later {
                *phase = to;
            }
            is_later
        });
    }

    /// What comes of something, unless the run is given up before that.
    pub async fn unless_given_up<T>(&self, what: impl Future<Output = T>) -> Option<T> {
        let mut phases = self.phase.subscribe();
        tokio::select! {
            biased;
            _ = phases.wait_for(|phase| *phase == Phase::GivenUp) => None,
            done = what => Some(done),
        }
    }

    /// What comes of a part of the run. Where it fails, the run is given up.
    pub async fn part<T>(&self, part: impl Future<Output = Result<T>>) -> Option<T> {
        let error = match part.await {
            Ok(done) => return Some(done),
            Err(error) => error,
        };
        eprintln!("the run is given up: {error:#}");
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(error);
        self.advance(Phase::GivenUp);
        None
    }

    /// What comes of several, each awaited to its own end whatever comes of the others.
    pub async fn all<T>(
        &self,
        parts: impl IntoIterator<Item = impl Future<Output = Result<Option<T>>>>,
    ) -> Vec<T> {
        let parts = parts.into_iter().map(|part| self.part(part));
        let mut going: FuturesUnordered<_> = parts.collect();
        let mut done = Vec::new();
        while let Some(one) = going.next().await {
            done.extend(one.flatten());
        }
        done
    }

    /// The first error, once.
    pub fn first_error(&self) -> Result<()> {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        first.take().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, sync::atomic::AtomicUsize, sync::atomic::Ordering::Relaxed};

    use anyhow::bail;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn after_a_failure_what_has_begun_is_mended_and_nothing_else_begins() {
        let course = Course::default();
        let (mended, begun) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (is_in, in_it) = oneshot::channel();
        let act = |n: usize| {
            let (course, begun) = (&course, &begun);
            async move {
                // The third never has its turn.
                let turn = async {
                    if n == 2 {
                        pending::<()>().await;
                    }
                };
                if course.unless_given_up(turn).await.is_none() {
                    return Ok(None);
                }
                begun.fetch_add(1, Relaxed);
                anyhow::Ok(Some(n))
            }
        };
        let breaks = async {
            act(0).await?;
            in_it.await?;
            bail!("the kubelet does not start")
        };
        let goes_on = async {
            act(1).await?;
            is_in.send(()).unwrap();
            while course.phase() != Phase::GivenUp {
                tokio::task::yield_now().await;
            }
            mended.fetch_add(1, Relaxed);
            anyhow::Ok(Some(1))
        };
        let acts: Vec<futures::future::LocalBoxFuture<'_, Result<Option<usize>>>> =
            vec![Box::pin(breaks), Box::pin(goes_on), Box::pin(act(2))];
        assert_eq!(course.all(acts).await, [1]);
        assert_eq!((begun.load(Relaxed), mended.load(Relaxed)), (2, 1));
        let error = course.first_error().unwrap_err();
        assert_eq!(error.to_string(), "the kubelet does not start");
    }

    #[tokio::test]
    async fn the_first_error_is_what_is_told() {
        let course = Course::default();
        assert_eq!(course.part(async { Ok(1) }).await, Some(1));
        for why in ["the first", "the second"] {
            assert_eq!(course.part(async { bail!(why) as Result<()> }).await, None);
        }
        assert_eq!(course.first_error().unwrap_err().to_string(), "the first");
    }

    #[test]
    fn a_run_does_not_go_back() {
        let course = Course::default();
        course.advance(Phase::GivenUp);
        course.advance(Phase::Over);
        assert_eq!(course.phase(), Phase::GivenUp);
    }
}
