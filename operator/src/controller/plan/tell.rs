//! What is told of pods that come and go.

use std::time::Duration;

use super::{Event, scale::Scaled, stall::Step};
use crate::controller::observed::Memory;

/// How many pods are named in an event.
const NAMED: usize = 3;

/// Something that was done, once for all pods that it was done to.
pub(super) fn events(scaled: &Scaled) -> Vec<Event> {
    let drained = &scaled.drained;
    let mut events = Vec::new();
    let mut tell = |warning, reason: &str, message| {
        events.push(Event {
            warning,
            reason: reason.to_owned(),
            message,
        });
    };
    if let Some(before) = drained.before {
        let message = if drained.is_kept {
            format!(
                "{before} → {} pods: so many are there of the version that it goes back to, and those that are too many end what they have",
                drained.active
            )
        } else if scaled.message.contains('→') {
            scaled.message.clone()
        } else {
            format!("{before} → {} pods: {}", drained.active, scaled.message)
        };
        tell(false, "Scaled", message);
    }
    if !drained.chosen.is_empty() {
        let named = pods(&drained.chosen);
        tell(
            false,
            "Cordoned",
            format!("{named} to take no more tasks, and to go when idle"),
        );
    }
    if !drained.released.is_empty() {
        let named = pods(&drained.released);
        tell(false, "Uncordoned", format!("{named} to take tasks again"));
    }
    if let Some((gone, within)) = drained.gone {
        let message = format!(
            "{} with nothing in work, within {}",
            noun(gone, "went"),
            seconds(within)
        );
        tell(false, "Drained", message);
    }
    if !drained.overdue.is_empty() {
        let named = pods(&drained.overdue);
        let message = format!(
            "{named} removed although not idle after maxDrain: tasks end within the grace period, or are handed back"
        );
        tell(true, "DrainOverdue", message);
    }
    if !drained.spared.is_empty() {
        let named = pods(&drained.spared);
        let message = format!(
            "{named} to be removed, but Kubernetes or somebody else removed others in their place"
        );
        tell(true, "OtherPodRemoved", message);
    }
    events
}

/// That it was stopped is in the conditions.
pub(super) fn resumed(step: Step) -> Option<Event> {
    (step == Step::Resume).then(|| Event {
        warning: false,
        reason: "RolloutResumed".to_owned(),
        message: "all new pods are ready and fail no longer: the rollout goes on".to_owned(),
    })
}

/// A pod that cannot be marked works on, and replicas are not lowered by it.
pub(super) fn unmarked(memory: &Memory) -> Option<Event> {
    let (pod, why) = memory.unmarked.as_ref()?;
    Some(Event {
        warning: true,
        reason: "PodNotMarked".to_owned(),
        message: format!(
            "{pod} is to go but cannot be marked, so it stays; let the operator patch labels and annotations of pods: {why}"
        ),
    })
}

fn noun(n: u32, verb: &str) -> String {
    let noun = if n == 1 { "pod" } else { "pods" };
    format!("{n} {noun} {verb}")
}

/// `greet-1 is`, or `greet-1, greet-2, greet-3 and 4 more are`.
fn pods(names: &[String]) -> String {
    let (first, more) = names.split_at(names.len().min(NAMED));
    let first = first.join(", ");
    match more.len() {
        0 if names.len() == 1 => format!("{first} is"),
        0 => format!("{first} are"),
        n => format!("{first} and {n} more are"),
    }
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs())
}
