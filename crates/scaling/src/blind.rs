//! While queue sizes are missing.

use crate::{Instant, Sample, State, TaskSample, decide::Times};

/// Seconds after T until what was started has shown what it does.
const SETTLING: f64 = 5.0;

/// How many to ask for while queue sizes are missing, where that is more than there are.
pub(crate) fn raise(
    state: &mut State,
    sample: &Sample,
    tasks: &[TaskSample],
    times: &Times,
    now: Instant,
    dt: f64,
) -> Option<u32> {
    if tasks.iter().all(|task| task.queue.is_some()) {
        state.blind_since = None;
        state.blind_raise = None;
        return None;
    }
    let since = *state.blind_since.get_or_insert(now);
    if sample.server_away && sample.ready > 0 {
        return None;
    }
    if sample.current == 0 {
        // A pod that polls finds out what no one else can say.
        let patience = (times.wait / 2.0).max(2.0 * dt);
        if now.seconds_since(since) < patience {
            return None;
        }
        state.blind_raise = Some(now);
        return Some(1);
    }
    let all_busy = sample.idle == 0 && sample.starting == 0 && !tasks.iter().any(|t| t.idle_slot);
    let last = state.blind_raise.unwrap_or(since);
    let settled = now.seconds_since(last) >= times.start_up + SETTLING;
    if all_busy && sample.stats_complete && sample.ready > 0 && settled {
        state.blind_raise = Some(now);
        return Some(sample.current.saturating_add(sample.current.div_ceil(2)));
    }
    None
}
