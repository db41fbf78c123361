//! Who is marked as one that is to go, and whose mark is taken away.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use super::super::{Mark, victims::Seen};
use crate::controller::observed::{Leaving, LivePod, Marked, Memory, Now, Observed};

/// A victim's deletion cost.
const GOES: i32 = -100;
/// That of one that is idle from the start: most likely it goes before those that work.
const GOES_SOON: i32 = -200;
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

/// Since when a pod is to go, by its mark; none where it stays.
pub(super) fn since(memory: &Memory, pod: &LivePod, now: Now) -> Option<Timestamp> {
    match sent(&memory.leaving, pod, now) {
        Some(marked) => marked.since,
        None => pod.mark.since,
    }
}

/// Whether a pod is to go.
pub(super) fn is_victim(memory: &Memory, pod: &LivePod, now: Now) -> bool {
    since(memory, pod, now).is_some()
}

/// The deletion costs that victims have or get now, by UID, unless they are tied with others.
pub(super) fn costs<'a>(memory: &Memory, victims: &[Seen<'a>], now: Now) -> BTreeMap<&'a str, i32> {
    let cost = |seen: &Seen<'_>| match sent(&memory.leaving, seen.pod, now) {
        Some(sent) if sent.since.is_some() => sent.cost,
        None if seen.pod.mark.since.is_some() => seen.pod.mark.cost,
        _ => first(seen.work.is_busy()),
    };
    let costs = victims.iter().map(|seen| (&*seen.pod.uid, cost(seen)));
    costs.collect()
}

fn first(works: bool) -> i32 {
    if works { GOES } else { GOES_SOON }
}

/// What is to be written so that those that are to go, and do not go at once, are marked, and no
/// others. `victims` have with them whether they work. Those that are tied with others get a cost
/// by which they go before them.
pub(super) fn marks(
    observed: &Observed,
    memory: &Memory,
    victims: &[(&LivePod, bool)],
    others: &[Seen<'_>],
    tied: &[(&LivePod, i32)],
    now: Now,
) -> Vec<Mark> {
    let sent = |pod| sent(&memory.leaving, pod, now);
    let victims = victims.iter().filter_map(|(pod, works)| {
        let tied = tied.iter().find(|(tied, _)| tied.uid == pod.uid);
        let wanted = tied.map(|(_, cost)| *cost);
        mark(observed, pod, sent(pod), (first(*works), wanted), now)
    });
    let others = others.iter();
    let others = others.filter_map(|Seen { pod, .. }| unmark(observed, pod, sent(pod)));
    victims.chain(others).collect()
}

fn mark(
    observed: &Observed,
    pod: &LivePod,
    sent: Option<Marked>,
    (first, wanted): (i32, Option<i32>),
    now: Now,
) -> Option<Mark> {
    let (since, cost) = match sent {
        Some(sent) => (sent.since, sent.cost),
        None => (pod.mark.since, pod.mark.cost),
    };
    let is_known = sent.is_some() || (pod.mark.labelled && has_key(observed, pod));
    // A cost that someone else has removed is written again only where it decides something.
    if since.is_some() && is_known && wanted.is_none_or(|wanted| wanted == cost) {
        return None;
    }
    Some(Mark {
        pod: pod.name.clone(),
        uid: pod.uid.clone(),
        since: Some(since.unwrap_or(now.wall)),
        cost: match since {
            Some(_) => wanted.unwrap_or(cost),
            None => wanted.unwrap_or(first).min(first),
        },
        key: observed.key_of_cordons.clone(),
    })
}

fn unmark(observed: &Observed, pod: &LivePod, sent: Option<Marked>) -> Option<Mark> {
    let is_marked = if let Some(sent) = sent {
        sent.since.is_some()
    } else {
        pod.mark.since.is_some() || pod.mark.labelled || pod.mark.cost == GOES
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
