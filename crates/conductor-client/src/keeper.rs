//! Keeps a connection fresh: buys tokens, reads files again. One task per client, which does
//! one thing at a time; so however many calls need a token, one is bought.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::{
    Connection, Error,
    link::{Live, Pass},
    material::{Material, Unreadable},
    token::{self, Bought, Strikes},
};

/// How often files are compared with what they held. Kubernetes itself takes up to a minute
/// to bring a change to a pod.
const LOOK: Duration = Duration::from_secs(3);

/// A call that cannot go on with the pass it has.
pub(crate) struct Need {
    /// That pass's number: 0 if it has none yet, else the server refused it.
    pub(crate) seen: u64,
    pub(crate) reply: oneshot::Sender<Renewed>,
}

/// What a call gets.
pub(crate) enum Renewed {
    /// Another pass.
    Pass(Pass),
    /// There is none to be had for now.
    Failed(Error),
    /// Tokens are refused as soon as they are bought.
    TooSoon,
}

pub(crate) struct Keeper {
    connection: Connection,
    material: Material,
    live: Arc<ArcSwap<Live>>,
    /// When the pass of the moment was bought.
    bought: Instant,
    strikes: Strikes,
    failed: Option<Failed>,
    /// When to buy the next token; none where no tokens are used.
    next: Option<Instant>,
    /// When to look at the files; none where there are none.
    look: Option<Instant>,
    /// What is wrong with the files, so that it is said once.
    complaint: Option<String>,
}

/// The last tries to buy a token failed.
struct Failed {
    error: Error,
    times: u32,
    /// No other try before, but for other keys.
    until: Instant,
}

impl Keeper {
    pub(crate) fn new(
        connection: Connection,
        material: Material,
        live: Arc<ArcSwap<Live>>,
    ) -> Self {
        let now = Instant::now();
        Self {
            next: connection.credentials.is_some().then_some(now),
            look: connection.is_watched().then(|| now + LOOK),
            connection,
            material,
            live,
            bought: now,
            strikes: Strikes::default(),
            failed: None,
            complaint: None,
        }
    }

    /// Runs until it is aborted, with the last clone of its client.
    pub(crate) async fn run(mut self, mut needs: mpsc::UnboundedReceiver<Need>) {
        // Without credentials nobody ever asks, and the other end may be gone.
        let mut asked = true;
        loop {
            tokio::select! {
                need = needs.recv(), if asked => match need {
                    Some(Need { seen, reply }) => {
                        let renewed = self.renew(seen).await;
                        // The call may have been given up.
                        let _ = reply.send(renewed);
                    }
                    None => asked = false,
                },
                () = at(self.next) => self.buy().await,
                () = at(self.look) => {
                    if self.look() {
                        self.buy().await;
                    }
                }
            }
        }
    }

    async fn renew(&mut self, seen: u64) -> Renewed {
        if let Some(pass) = self.other_than(seen) {
            return Renewed::Pass(pass);
        }
        if self.look() {
            self.buy().await;
        } else if let Some(failed) = self.failed.as_ref().filter(|f| Instant::now() < f.until) {
            return Renewed::Failed(failed.error.clone());
        } else if seen == 0 {
            self.buy().await;
        } else {
            let refused = self.strikes.refused(self.bought.elapsed(), fastrand::f64());
            let Some(strikes) = refused else {
                return Renewed::TooSoon;
            };
            self.strikes = strikes;
            self.buy().await;
        }
        match (self.other_than(seen), &self.failed) {
            (Some(pass), _) => Renewed::Pass(pass),
            (None, Some(failed)) => Renewed::Failed(failed.error.clone()),
            (None, None) => Renewed::TooSoon,
        }
    }

    fn other_than(&self, seen: u64) -> Option<Pass> {
        let live = self.live.load();
        (live.pass.number != seen).then(|| live.pass.clone())
    }

    /// Buys a token, and says when to buy the next. The one before stays in use until then,
    /// and also if that fails.
    async fn buy(&mut self) {
        let Some(keys) = &self.material.keys else {
            self.next = None;
            return;
        };
        let live = self.live.load_full();
        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        let base = &self.connection.base;
        let bought = token::buy(&live.http, base, keys, wall.unwrap_or_default()).await;
        let now = Instant::now();
        let (token, next) = match bought {
            Ok(Bought::Token(token, lifetime)) => {
                (Some(token), token::refresh_after(lifetime, fastrand::f64()))
            }
            Ok(Bought::NoAuth) => {
                tracing::info!(server = %base, "it has no /token: it is used without");
                (None, token::NO_AUTH_FOR)
            }
            Err(error) => {
                let times = self
                    .failed
                    .as_ref()
                    .map_or(0, |f| f.times)
                    .saturating_add(1);
                let pause = token::pause_or_later(times, &error, fastrand::f64());
                // Once a second would be too often for a log.
                if times.is_power_of_two() {
                    tracing::warn!(server = %base, %error, times, ?pause, "no token; tried again after a pause");
                }
                let until = now + pause;
                self.next = Some(until);
                self.failed = Some(Failed {
                    error,
                    times,
                    until,
                });
                return;
            }
        };
        let pass = Pass {
            number: live.pass.number + 1,
            token,
        };
        let http = live.http.clone();
        self.live.store(Arc::new(Live { http, pass }));
        (self.bought, self.failed, self.next) = (now, None, Some(now + next));
    }

    /// Compares the files with what they held. True if a token is to be bought now: the keys
    /// are others, or may do now that the certificates are others.
    fn look(&mut self) -> bool {
        if self.look.is_none() {
            return false;
        }
        self.look = Some(Instant::now() + LOOK);
        match self.take_over() {
            Ok(buy) => {
                self.complaint = None;
                buy
            }
            Err(Unreadable(why)) => {
                if self.complaint.as_ref() != Some(&why) {
                    tracing::warn!(server = %self.connection.base, why, "changed files are not used; what they held before is");
                    self.complaint = Some(why);
                }
                false
            }
        }
    }

    fn take_over(&mut self) -> Result<bool, Unreadable> {
        let read = Material::read(&self.connection)?;
        if read == self.material {
            return Ok(false);
        }
        if read.tls != self.material.tls {
            let http = read.tls.client(&self.connection.headers)?;
            let pass = self.live.load().pass.clone();
            self.live.store(Arc::new(Live { http, pass }));
            tracing::info!(server = %self.connection.base, "certificates have changed and are used");
        }
        let other_keys = read.keys != self.material.keys;
        let buy = read.keys.is_some() && (other_keys || self.failed.is_some());
        if other_keys {
            tracing::info!(server = %self.connection.base, "key or secret has changed and is used");
            self.strikes = Strikes::default();
        }
        self.failed = None;
        self.material = read;
        Ok(buy)
    }
}

/// Waits until then, or for ever.
async fn at(then: Option<Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(then).await,
        None => std::future::pending().await,
    }
}
