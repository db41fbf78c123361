//! Events without spam: what was told a moment ago is not told again.

use std::time::Duration;

use super::Event;
use crate::controller::observed::{Memory, Now};

/// How long the same is not told again.
const AGAIN: Duration = Duration::from_secs(600);

/// Leaves out what was told a while ago already. Of warnings the reason counts, since their
/// messages hold numbers that change; of others every word.
pub(super) fn once(memory: &mut Memory, mut events: Vec<Event>, now: Now) -> Vec<Event> {
    memory
        .told
        .retain(|_, at| now.clock.seconds_since(*at) < AGAIN.as_secs_f64());
    events.retain(|event| {
        let what = if event.warning {
            event.reason.clone()
        } else {
            format!("{}: {}", event.reason, event.message)
        };
        memory.told.insert(what, now.clock).is_none()
    });
    events
}
