//! Events without spam: what was told a while ago is not told again.

use std::time::Duration;

use super::{Event, stall::STALLED};
use crate::controller::observed::{Memory, Now};

/// How long the same warning is not told again: a condition may come and go.
const WARNING_AGAIN: Duration = Duration::from_secs(600);

/// How long anything else is not told again: a change in several steps is one.
const AGAIN: Duration = Duration::from_secs(60);

/// Of these warnings every word counts: each is about other pods.
const EACH: [&str; 3] = ["DrainOverdue", "OtherPodRemoved", STALLED];

/// Leaves out what was told a while ago already. Of warnings the reason counts, since their
/// messages hold numbers that change; of others every word.
pub(super) fn once(memory: &mut Memory, mut events: Vec<Event>, now: Now) -> Vec<Event> {
    memory.told.retain(|(warning, _), at| {
        let again = if *warning { WARNING_AGAIN } else { AGAIN };
        now.clock.seconds_since(*at) < again.as_secs_f64()
    });
    events.retain(|event| {
        let what = if event.warning && !EACH.contains(&event.reason.as_str()) {
            event.reason.clone()
        } else {
            format!("{}: {}", event.reason, event.message)
        };
        let what = (event.warning, what);
        let is_new = !memory.told.contains_key(&what);
        if is_new {
            memory.told.insert(what, now.clock);
        }
        is_new
    });
    events
}
