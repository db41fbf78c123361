//! The slots that one task type needs.

use crate::{
    Instant, RateLimit, Reason, TaskPolicy, TaskSample, TaskTerms,
    decide::{LONGEST_WINDOW, Times},
    saturation::Seen,
    state::{Flow, TaskState},
};

/// S forgets after about this many tasks …
const FORGET_TASKS: f64 = 100.0;
/// … but not faster than in this time, in seconds.
const FORGET_SECONDS: f64 = 60.0;

/// A limit that is used up to this share explains why a free slot gets no work.
const LIMITED: f64 = 0.8;
/// No slot is free and no task is known to wait: for this share of W that may be chance …
const GRACE: f64 = 0.25;
/// … and with this share of W, as a time constant, it is believed that delayed tasks have
/// become visible: found before W is spent.
const DOUBT: f64 = 0.25;

/// Takes what was seen of a task type into its memory.
pub(crate) fn observe(
    state: &mut TaskState,
    seen: &TaskSample,
    policy: &TaskPolicy,
    times: &Times,
    now: Instant,
    dt: f64,
) {
    let executing = clean(seen.executing_seconds);
    // A task that has only started or only ended counts half: a mean over ended tasks alone
    // leaves out the long ones that still run.
    let count = as_f64(seen.started.saturating_add(seen.ended)) / 2.0;
    let keep = (-(count / FORGET_TASKS).min(dt / FORGET_SECONDS)).exp();
    state.executed = state.executed * keep + executing;
    state.count = state.count * keep + count;
    let flow = Flow {
        executing,
        occupied: clean(seen.occupied_seconds),
        started: as_f64(seen.started),
        seconds: dt,
    };
    let rate_window = policy.rate_limit.map_or(0.0, rate_window);
    state
        .flows
        .push(now, flow, times.window.max(rate_window + dt));

    let Some(queue) = seen.queue else {
        return;
    };
    let queue = as_f64(queue);
    let running = if dt > 0.0 { executing / dt } else { 0.0 };
    let limited = is_limited(state, seen, policy, running, now, dt);
    tell_work_from_delay(state, seen, queue, limited, times, now, dt);
    state.queues.push(now, queue, times.window);
    let tick = Seen {
        running,
        ended: as_f64(seen.ended),
        ended_seconds: clean(seen.ended_seconds),
        execution: state.execution_seconds(),
        seconds: dt,
        full: !seen.idle_slot && queue > state.unworkable && !limited,
    };
    state.saturation.observe(tick, now);
}

/// Whether the type's own limit may be why a free slot gets no work.
fn is_limited(
    state: &TaskState,
    seen: &TaskSample,
    policy: &TaskPolicy,
    running: f64,
    now: Instant,
    dt: f64,
) -> bool {
    let by_number = policy.exec_limit.is_some_and(|limit| {
        let now = f64::from(seen.running.saturating_add(seen.leaving));
        running.max(now) >= LIMITED * f64::from(limit)
    });
    let by_rate = policy.rate_limit.is_some_and(|limit| {
        let window = rate_window(limit) + dt;
        let started: f64 = state.flows.within(now, window).map(|f| f.started).sum();
        started >= LIMITED * f64::from(limit.count)
    });
    by_number || by_rate
}

/// The seconds over which starts are counted against a limit. Of a day's limit only the last
/// hour: once it is used up and that hour is past, a free slot that gets nothing says as much.
fn rate_window(limit: RateLimit) -> f64 {
    limit.window.as_secs_f64().min(LONGEST_WINDOW)
}

/// Finds the part of the queue that no slot can take, since its tasks are delayed (U).
fn tell_work_from_delay(
    state: &mut TaskState,
    seen: &TaskSample,
    queue: f64,
    limited: bool,
    times: &Times,
    now: Instant,
    dt: f64,
) {
    let before = state.queues.ago(now, 0.0).unwrap_or(queue);
    let idle = seen.idle_slot || clean(seen.idle_seconds) > 0.0;
    if idle && !limited {
        // A free slot polled and got nothing, so what was counted then is delayed. What the
        // queue grew by since may be work.
        let counted = if seen.idle_slot {
            queue
        } else {
            queue.min(before)
        };
        state.unworkable = state.unworkable.min(queue).max(counted);
        state.proven = state.unworkable;
        state.explained = Some(now);
        return;
    }
    state.proven = state.proven.min(queue);
    if queue - state.proven > as_f64(seen.started) {
        // Tasks are known to wait, so that no slot is free tells nothing.
        state.explained = Some(now);
    } else {
        // Delayed tasks may have become visible. A slot that gets free proves it.
        let busy_for = state
            .explained
            .map_or(f64::INFINITY, |at| now.seconds_since(at));
        let doubted = dt.min((busy_for - times.wait * GRACE).max(0.0));
        state.unworkable *= (-doubted / (times.wait * DOUBT)).exp();
    }
    state.unworkable = state.unworkable.min(queue);
}

/// What a task type needs, and what stands against it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Demand {
    /// Slots for the tasks that are known to wait, up to `need`.
    pub(crate) sure: f64,
    pub(crate) terms: TaskTerms,
    /// Slots that it can use at all, the bound included.
    pub(crate) most: f64,
    /// What keeps `need` below what the backlog asks for.
    pub(crate) bound: Option<Reason>,
    /// The bound was measured: what was wanted before does not count.
    pub(crate) saturated: bool,
}

/// The slots that a task type needs.
pub(crate) fn size(
    state: &TaskState,
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
    let backlog_of = |queue: f64| (queue - state.unworkable).max(0.0);
    let backlog = state.queues.ago(now, 0.0).map_or(0.0, backlog_of);
    let before = state
        .queues
        .ago(now, times.window)
        .map_or(backlog, backlog_of);

    // Conservation: what arrives is what is worked off plus what the backlog grew by.
    let load = (overhead * (mean_running + s * (backlog - before) / times.window)).max(0.0);
    let drain = overhead * backlog * s / times.drain;

    // No more slots than tasks to fill them. λ is noisy for long tasks; this absorbs it.
    let leaving = f64::from(seen.leaving).min(load * ((times.start_up + 5.0) / s).min(1.0));
    let there_are = running.max(mean_running.min(load)) + backlog + leaving;
    let asked = load.max(drain).min(there_are);
    let (limit, bound) = limit(state, policy, s);
    let need = asked.min(limit);
    // Tasks that are only presumed to wait are no reason to start more than they take.
    let sure = (backlog - (state.proven - state.unworkable)).max(0.0);
    let sure = load.max(overhead * sure * s / times.drain).min(need);
    Demand {
        sure,
        terms: TaskTerms {
            execution_seconds: s,
            backlog,
            load,
            drain,
            need,
        },
        most: (running + backlog).max(need).min(limit),
        bound: bound.filter(|_| asked > limit),
        saturated: asked > limit
            && bound == Some(Reason::DownstreamSaturated)
            && state.saturation.is_news(),
    }
}

/// Slots above which a type gets no more done, and why.
fn limit(state: &TaskState, policy: &TaskPolicy, s: f64) -> (f64, Option<Reason>) {
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
        .cap()
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
