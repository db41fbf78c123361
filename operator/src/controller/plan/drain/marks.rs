//! Who is marked as one that is to go, and whose mark is taken away.

use std::time::Duration;

use super::super::{Mark, victims::Seen};
use crate::controller::observed::{Leaving, LivePod, Marked, Memory, Now, Observed};

/// A victim's deletion cost.
const GOES: i32 = -100;
/// That of one that goes before other victims.
const GOES_FIRST: i32 = -200;
/// How long a mark that was sent is trusted to be there although it has not been read.
const TRUSTED: Duration = Duration::from_secs(10);

pub(super) fn is_trusted(marked: &Marked, now: Now) -> bool {
    now.clock.seconds_since(marked.at) < TRUSTED.as_secs_f64()
}

/// The mark that was sent just now: what is read may be older.
fn sent(leaving: &Leaving, pod: &LivePod, now: Now) -> Option<Marked> {
    let marked = leaving.marked.get(&pod.uid)?;
    is_trusted(marked, now).then_some(*marked)
}

/// Whether a pod is to go, by its mark.
pub(super) fn is_victim(memory: &Memory, pod: &LivePod, now: Now) -> bool {
    match sent(&memory.leaving, pod, now) {
        Some(marked) => marked.since.is_some(),
        None => pod.mark.since.is_some(),
    }
}

/// What is to be written so that those that are to go, and do not go at once, are marked, and no
/// others. Those that are tied with others go before them.
pub(super) fn marks(
    observed: &Observed,
    memory: &Memory,
    victims: &[&LivePod],
    others: &[Seen<'_>],
    tied: &[&LivePod],
    now: Now,
) -> Vec<Mark> {
    let sent = |pod| sent(&memory.leaving, pod, now);
    let victims = victims.iter().filter_map(|pod| {
        let is_tied = tied.iter().any(|tied| tied.uid == pod.uid);
        mark(observed, pod, sent(pod), is_tied, now)
    });
    let others = others.iter();
    let others = others.filter_map(|Seen { pod, .. }| unmark(observed, pod, sent(pod)));
    victims.chain(others).collect()
}

fn mark(
    observed: &Observed,
    pod: &LivePod,
    sent: Option<Marked>,
    is_tied: bool,
    now: Now,
) -> Option<Mark> {
    let (since, cost) = match sent {
        Some(sent) => (sent.since, sent.cost),
        None => (pod.mark.since, pod.mark.cost),
    };
    let is_known = sent.is_some() || (pod.mark.labelled && has_key(observed, pod));
    // A cost that someone else has removed is written again only where it decides something.
    let goes_first = !is_tied || cost == GOES_FIRST;
    if since.is_some() && is_known && goes_first {
        return None;
    }
    Some(Mark {
        pod: pod.name.clone(),
        uid: pod.uid.clone(),
        since: Some(since.unwrap_or(now.wall)),
        cost: if is_tied { GOES_FIRST } else { cost.min(GOES) },
        key: observed.key_of_cordons.clone(),
    })
}

fn unmark(observed: &Observed, pod: &LivePod, sent: Option<Marked>) -> Option<Mark> {
    let is_marked = if let Some(sent) = sent {
        sent.since.is_some()
    } else {
        let ours = [GOES, GOES_FIRST].contains(&pod.mark.cost);
        pod.mark.since.is_some() || pod.mark.labelled || ours
    };
    is_marked.then(|| Mark {
        pod: pod.name.clone(),
        uid: pod.uid.clone(),
        since: None,
        cost: 0,
        key: observed.key_of_cordons.clone(),
    })
}

fn has_key(observed: &Observed, pod: &LivePod) -> bool {
    pod.mark.key.as_ref() == Some(&observed.key_of_cordons)
}
