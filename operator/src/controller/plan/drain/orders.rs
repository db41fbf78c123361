//! Which pods are told to take no more tasks, and which to take them again.

use std::time::Duration;

use runtime::cordon::Action;

use super::super::victims::Seen;
use crate::{
    controller::observed::{Leaving, LivePod, Now, Observed, Ordered, SidecarState},
    cordons::{Order, TTL},
};

/// How often a cordon is renewed: each tick, and often enough that one lost call does not end it.
pub(in super::super) fn renewal(observed: &Observed) -> Duration {
    observed.tick.min(TTL / 3)
}

/// How long pods are still told to take no tasks while nothing can be read from the API server:
/// replicas cannot be lowered meanwhile, so that they would do nothing for as long as that takes.
const UNREAD: Duration = TTL;

/// What is to be told now.
pub(super) fn orders(
    observed: &Observed,
    leaving: &mut Leaving,
    away: &[&LivePod],
    back: &[Seen<'_>],
    now: Now,
) -> Vec<Order> {
    let is_unread = observed
        .unread_since
        .is_some_and(|since| now.clock.seconds_since(since) >= UNREAD.as_secs_f64());
    let away = away
        .iter()
        .filter(|pod| pod.sidecar != SidecarState::Unstarted && !is_unread);
    let away = away.map(|pod| (*pod, Action::Cordon));
    let back = back.iter().filter(|seen| may_be_cordoned(leaving, seen));
    let told: Vec<_> = away
        .chain(back.map(|seen| (seen.pod, Action::Uncordon)))
        .filter(|(pod, action)| is_due(observed, leaving, pod, *action, now))
        .collect();
    told.into_iter()
        .map(|(pod, action)| {
            let last = leaving.ordered.get(&pod.uid);
            let since = last.filter(|last| last.action == action);
            let ordered = Ordered {
                action,
                since: since.map_or(now.clock, |last| last.since),
                at: now.clock,
            };
            leaving.ordered.insert(pod.uid.clone(), ordered);
            Order {
                pod: pod.name.clone(),
                uid: pod.uid.clone(),
                action,
            }
        })
        .collect()
}

/// What another process of the operator's has cordoned is known by the mark, and by what the
/// pod says.
fn may_be_cordoned(leaving: &Leaving, seen: &Seen<'_>) -> bool {
    let last = leaving.ordered.get(&seen.pod.uid);
    seen.cordoned
        || seen.pod.mark.since.is_some()
        || last.is_some_and(|last| last.action == Action::Cordon)
}

fn is_due(observed: &Observed, leaving: &Leaving, pod: &LivePod, action: Action, now: Now) -> bool {
    let Some(last) = leaving
        .ordered
        .get(&pod.uid)
        .filter(|last| last.action == action)
    else {
        return true;
    };
    // Rounds do not come to the millisecond.
    let is_old = now.clock.seconds_since(last.at) >= 0.8 * renewal(observed).as_secs_f64();
    // One that has turned unready is asked once more.
    let unready = leaving.unready.get(&pod.uid);
    is_old || (action == Action::Cordon && unready.is_some_and(|&since| last.at < since))
}
