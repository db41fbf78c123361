//! The slots that one task type needs.

use crate::{
    Instant, Reason, TaskPolicy, TaskSample, TaskTerms,
    decide::Times,
    saturation::Seen,
    state::{Flow, TaskState},
};

/// S forgets after about this many tasks …
const FORGET_TASKS: f64 = 100.0;
/// … but not faster than in this time, in seconds.
const FORGET_SECONDS: f64 = 60.0;

/// Takes what was seen of a task type into its memory.
pub(crate) fn observe(
    state: &mut TaskState,
    seen: &TaskSample,
    times: &Times,
    now: Instant,
    dt: f64,
) {
    let executing = clean(seen.executing_seconds);
    let occupied = clean(seen.occupied_seconds);
    // A task that has only started or only ended counts half: a mean over ended tasks alone
    // leaves out the long ones that still run.
    let count = as_f64(seen.started.saturating_add(seen.ended)) / 2.0;
    let keep = (-(count / FORGET_TASKS).min(dt / FORGET_SECONDS)).exp();
    state.executed = state.executed * keep + executing;
    state.count = state.count * keep + count;
    state.flows.push(
        now,
        Flow {
            executing,
            occupied,
            seconds: dt,
        },
        times.window,
    );

    let Some(queue) = seen.queue else {
        return;
    };
    let queue = as_f64(queue);
    if seen.idle_slot {
        // A free slot polled and got nothing, so what is counted is delayed or limited.
        state.unworkable = queue;
    } else {
        // Found before W is spent; a slot that gets free proves it anew.
        state.unworkable = (state.unworkable * (-dt / (times.wait / 4.0)).exp()).min(queue);
    }
    let backlog = queue - state.unworkable;
    state.backlog.push(now, backlog, times.window);
    let running = if dt > 0.0 { executing / dt } else { 0.0 };
    let seen = Seen {
        running,
        ended: as_f64(seen.ended),
        execution: state.execution_seconds(),
        seconds: dt,
        full: !seen.idle_slot && backlog > 0.0,
    };
    state.saturation.observe(seen, now);
}

/// What a task type needs, and what stands against it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Demand {
    pub(crate) terms: TaskTerms,
    /// Slots that it can use at all, the bound included.
    pub(crate) most: f64,
    /// What keeps `need` below what the backlog asks for.
    pub(crate) bound: Option<Reason>,
}

/// The slots that a task type needs.
pub(crate) fn size(
    state: &mut TaskState,
    seen: &TaskSample,
    policy: &TaskPolicy,
    times: &Times,
    now: Instant,
) -> Demand {
    let (mut executing, mut occupied, mut seconds) = (0.0, 0.0, 0.0);
    for flow in state.flows.within(now, times.window) {
        executing += flow.executing;
        occupied += flow.occupied;
        seconds += flow.seconds;
    }
    // Polling and reporting hold a slot too.
    let overhead = if executing > 0.0 {
        (occupied / executing).clamp(1.0, 10.0)
    } else {
        1.0
    };
    let running = f64::from(seen.running);
    let mean_running = if seconds > 0.0 {
        executing / seconds
    } else {
        running
    };
    let s = state.execution_seconds();
    let backlog = state.backlog.ago(now, 0.0).unwrap_or(0.0);
    let before = state.backlog.ago(now, times.window).unwrap_or(backlog);

    // Conservation: what arrives is what is worked off plus what the backlog grew by.
    let load = (overhead * (mean_running + s * (backlog - before) / times.window)).max(0.0);
    let drain = overhead * backlog * s / times.drain;

    // No more slots than tasks to fill them. λ is noisy for long tasks; this absorbs it.
    let leaving = f64::from(seen.leaving).min(load * ((times.start_up + 5.0) / s).min(1.0));
    let there_are = running.max(mean_running.min(load)) + backlog + leaving;
    let asked = load.max(drain).min(there_are);
    let (limit, bound) = limit(state, policy, s, now);
    let need = asked.min(limit);
    Demand {
        terms: TaskTerms {
            execution_seconds: s,
            backlog,
            load,
            drain,
            need,
        },
        most: (running + backlog).max(need).min(limit),
        bound: bound.filter(|_| asked > limit),
    }
}

/// Slots above which a type gets no more done, and why.
fn limit(
    state: &mut TaskState,
    policy: &TaskPolicy,
    s: f64,
    now: Instant,
) -> (f64, Option<Reason>) {
    let exec = policy
        .exec_limit
        .map(|n| (f64::from(n), Reason::CappedByTaskLimit));
    // Little's law at the highest rate that is let through.
    let rate = policy.rate_limit.map(|rate| {
        let per_second = f64::from(rate.count) / rate.window.as_secs_f64().max(1e-3);
        (per_second * s, Reason::CappedByRateLimit)
    });
    let saturated = state
        .saturation
        .cap(now)
        .map(|slots| (slots, Reason::DownstreamSaturated));
    [exec, rate, saturated]
        .into_iter()
        .flatten()
        .min_by(|a, b| a.0.total_cmp(&b.0))
        .map_or((f64::INFINITY, None), |(n, why)| (n, Some(why)))
}

/// A growth that makes no sense (negative, not a number, endless) is none.
fn clean(x: f64) -> f64 {
    if x.is_finite() && x > 0.0 { x } else { 0.0 }
}

fn as_f64(n: u64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a queue beyond 2^53 is only huge"
    )]
    let x = n as f64;
    x
}
