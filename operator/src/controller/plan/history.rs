//! The last decisions that changed something.

use api::ScalingChange;

use super::{conditions::written, scale::Scaled};
use crate::controller::observed::{Memory, Now, Observed, Standing};

/// How many are kept.
const KEPT: usize = 20;

/// Reasons between which a number of pods moves by itself all day: a change from one to another
/// is none while the number stays.
const USUAL: [&str; 6] = [
    "Steady",
    "ScaledUp",
    "ScaledDown",
    "HeldByWindow",
    "HeldByBusyPods",
    "AtMinReplicas",
];

/// Reasons that come and go while Conductor cannot be asked.
const BLIND: [&str; 3] = ["StaleMetrics", "ServerAway", "RaisedBlind"];

/// The reason, or one word for all that say that things are as they should be, and one for all
/// that say that too little is known.
pub(super) fn kind(reason: &str) -> &str {
    let alike = [&USUAL[..], &BLIND[..]];
    let group = alike.into_iter().find(|group| group.contains(&reason));
    group.map_or(reason, |group| group[0])
}

/// Notes what is wanted now, if that is something else than before. After a restart the status
/// says what was before.
pub(super) fn note(observed: &Observed, memory: &mut Memory, scaled: &Scaled, now: Now) {
    let before = memory.standing.take().or_else(|| {
        let last = observed.status.scaling.as_ref()?;
        Some(Standing {
            desired: last.desired,
            reason: last.reason.clone(),
            since: last.decided_at.clone(),
        })
    });
    let same = before.filter(|b| b.desired == scaled.desired && b.reason == scaled.reason);
    memory.standing = Some(same.unwrap_or_else(|| Standing {
        desired: scaled.desired,
        reason: scaled.reason.to_owned(),
        since: written(now.wall),
    }));
    let mut history = memory.history.take().unwrap_or_else(|| {
        let last = observed.status.scaling.as_ref();
        last.map(|s| s.history.clone()).unwrap_or_default()
    });
    let last = history.last();
    let is_new = last
        .is_none_or(|last| last.to != scaled.desired || kind(&last.reason) != kind(scaled.reason));
    // Nothing was decided yet.
    if is_new && scaled.reason != "Starting" {
        let from = match last {
            Some(last) => last.to,
            None => scaled.drained.before.unwrap_or(scaled.drained.active),
        };
        history.push(ScalingChange {
            at: written(now.wall),
            from,
            to: scaled.desired,
            reason: scaled.reason.to_owned(),
            message: scaled.message.clone(),
        });
        let too_many = history.len().saturating_sub(KEPT);
        history.drain(..too_many);
    }
    memory.history = Some(history);
}
