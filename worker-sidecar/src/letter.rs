//! A report on its way, and what follows when it is not taken. Deciding is pure.

use std::time::Duration;

use conductor_client::{Error, Kind};

use crate::{
    backoff::Backoff,
    gate::Seen,
    lease::report_patience,
    presence::Probe,
    result::Report,
    spool::{self, Kept},
};

/// How often a result is sent that the server, while it does other work, answers with a 500
/// that is not marked as retryable, or a gateway with a 4xx. Most mistakes of a client are
/// answered so by Conductor, but a busy `SQLite` file and a Redis that is away too.
const DOUBTFUL_ATTEMPTS: u32 = 20;

/// How often one that Conductor itself answers with a 4xx.
const REJECTED_ATTEMPTS: u32 = 3;

/// A 401, or a 403 of all reports: somebody has to mend the credentials first.
const UNAUTHORIZED: Duration = Duration::from_secs(5);

/// How long a report that asks for the next task has for it, but for what its size needs.
const LEAST_PATIENCE: Duration = Duration::from_secs(2);

/// An attempt that takes longer is kept on disk meanwhile, and the server is looked for.
pub(crate) const HANGS: Duration = Duration::from_secs(1);

/// No attempt takes longer, but for what a slow link needs.
const LONGEST_ATTEMPT: Duration = Duration::from_secs(30);

/// Bytes a millisecond: what a link is thought to carry, and the least that it must.
const COMMON_LINK: usize = 1000;
const SLOWEST_LINK: usize = 125;

/// What to do after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// The server is away, for so long by its own word.
    Away(Option<Duration>),
    /// It refuses this one: again after a pause.
    Again(Duration),
    /// It refuses this one for good: a failure is sent instead.
    Instead,
    /// It does not know the task any more.
    GiveUp,
}

/// A failed attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failure {
    kind: Kind,
    status: Option<u16>,
    doubtful: bool,
    token: bool,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self {
            kind: error.kind(),
            status: error.status(),
            doubtful: error.is_doubtful(),
            token: error.is_token_refused(),
        }
    }
}

impl Failure {
    /// Whether it may be the server's and not the report's.
    fn is_doubtful(self) -> bool {
        // A 404 that is not Conductor's is a gateway without a server, and a 200 a page of its.
        self.doubtful && !matches!(self.status, None | Some(200..=299 | 404 | 410))
    }

    /// Whether it may be for this report alone that the credentials do not suffice.
    pub(crate) fn is_forbidden(self) -> bool {
        self.status == Some(403) && !self.token
    }
}

/// How long an attempt may take: the next one may find a connection that works. The lease is
/// not extended meanwhile, so at first an attempt takes no more of it than an extension does,
/// and what its size needs. A report that would never get through so gets twice as much each
/// time that it was too little: `timeouts`.
pub(crate) fn patience(lease: Duration, bytes: usize, timeouts: u32) -> Duration {
    let first = report_patience(lease) + transfer(bytes, COMMON_LINK);
    let most = LONGEST_ATTEMPT.max(transfer(bytes, SLOWEST_LINK));
    first.saturating_mul(1 << timeouts.min(16)).min(most)
}

/// The same for one that asks for the next task: then it is sent without asking, too.
pub(crate) fn patience_to_ask(bytes: usize) -> Duration {
    LEAST_PATIENCE + transfer(bytes, COMMON_LINK)
}

fn transfer(bytes: usize, link: usize) -> Duration {
    Duration::from_millis((bytes / link) as u64)
}

/// `refusals`: how often the server refused this report while it did other things, this time
/// included. `failures`: how often it refused it at all. `others`: whether it takes other
/// reports with the same credentials.
pub(crate) fn next(
    failure: Failure,
    others: bool,
    refusals: u32,
    failures: u32,
    random: f64,
) -> Next {
    let attempts = match failure.kind {
        Kind::Gone => return Next::GiveUp,
        Kind::Unauthorized if failure.is_forbidden() && others => {
            return Next::Again(Backoff::REPORT.pause(failures, random));
        }
        Kind::Unauthorized => return Next::Away(Some(UNAUTHORIZED)),
        Kind::Retryable { .. } if failure.is_doubtful() => DOUBTFUL_ATTEMPTS,
        Kind::Retryable { after } => return Next::Away(after),
        Kind::Rejected => REJECTED_ATTEMPTS,
    };
    if refusals < attempts {
        Next::Again(Backoff::REPORT.pause(failures, random))
    } else {
        Next::Instead
    }
}

/// What was refused for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    Result,
    /// It may have put the task back.
    HandBack,
}

/// A report on its way.
#[derive(Debug, Default)]
pub(crate) struct Letter {
    /// Where it could not be kept on disk.
    pub(crate) in_memory: Option<Report>,
    pub(crate) kept: Option<Kept>,
    /// It may have reached the server before.
    pub(crate) was_sent: bool,
    /// How many attempts have taken all the time they may.
    pub(crate) timeouts: u32,
    /// How many attempts were cut short, since the server answers others.
    cuts: u32,
    /// The last one was, and the next one shows whether it was lost.
    pub(crate) probe: Option<Probe>,
    /// What it is sent instead of, refused for good.
    instead_of: Option<Refused>,
    refusals: u32,
    failures: u32,
    /// What the server had done when it refused this the last time.
    seen: Option<Seen>,
    /// How many reports the server had taken when it forbade this the first time.
    taken: Option<u64>,
    /// It forbids this one and takes others.
    alone: bool,
}

impl Letter {
    /// One that was never sent: in the spool, or else in memory.
    pub(crate) fn new(report: Report, kept: Option<Kept>) -> Self {
        Self {
            in_memory: kept.is_none().then_some(report),
            kept,
            ..Self::default()
        }
    }

    /// One that an earlier process left.
    pub(crate) fn left(kept: Kept) -> Self {
        Self {
            kept: Some(kept),
            was_sent: true,
            ..Self::default()
        }
    }

    /// What is sent instead of one that is refused for good.
    pub(crate) fn instead(report: &Report, error: &Error, is_hand_back: bool) -> Self {
        let refused = if is_hand_back {
            Refused::HandBack
        } else {
            Refused::Result
        };
        Self {
            instead_of: Some(refused),
            was_sent: is_hand_back,
            ..Self::new(report.instead(&error.to_string()), None)
        }
    }

    /// An attempt was cut short.
    pub(crate) fn was_cut(&mut self, probe: Option<Probe>) {
        self.cuts = self.cuts.saturating_add(1);
        self.probe = probe;
    }

    /// How long the next attempt is left alone: twice as long after each that was cut. It may
    /// find an old connection again; and a server that is slow with it, or answers now and then,
    /// has all the time for it in the end.
    pub(crate) fn hangs(&self) -> Duration {
        HANGS.saturating_mul(1 << self.cuts.min(16))
    }

    /// Whether it would take the task from whoever may have it by now, were it sent twice.
    pub(crate) fn is_hand_back(&self, report: &Report) -> bool {
        report.goes_back() || self.instead_of == Some(Refused::HandBack)
    }

    /// What it says; none once it was removed.
    pub(crate) async fn report(&self) -> Result<Option<Report>, spool::Error> {
        let Some(kept) = &self.kept else {
            return Ok(self.in_memory.clone());
        };
        kept.load().await.map(Some)
    }

    /// It need not be kept any more.
    pub(crate) async fn remove(&mut self) {
        if let Some(kept) = self.kept.take() {
            kept.remove().await;
        }
    }

    /// It was forbidden. Whether that is about it alone, as the gate says or as others show that
    /// were taken since; once it is, it stays so.
    pub(crate) fn is_forbidden_alone(&mut self, seen: Seen, gate: impl FnOnce() -> bool) -> bool {
        let since = *self.taken.get_or_insert(seen.taken);
        self.alone = self.alone || since != seen.taken || gate();
        self.alone
    }

    /// What follows a failed attempt. A refusal counts against the report only if the server
    /// did something else since the one before: an outage may look like a refusal. With its
    /// store away Conductor answers polls with nothing, and updates like mistakes.
    pub(crate) fn next(&mut self, failure: Failure, others: bool, seen: Seen, random: f64) -> Next {
        let did_something = self.seen.replace(seen).is_none_or(|before| {
            seen.worked != before.worked
                || seen.answered != before.answered && !failure.is_doubtful()
        });
        self.refusals += u32::from(did_something);
        self.failures = self.failures.saturating_add(1);
        let next = next(failure, others, self.refusals, self.failures, random);
        match next {
            Next::Instead if self.instead_of.is_some() => Next::GiveUp,
            Next::Away(_) => {
                self.failures -= 1;
                next
            }
            next => next,
        }
    }
}

#[cfg(test)]
#[path = "letter_tests.rs"]
mod tests;
