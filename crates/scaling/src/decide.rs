//! The decision.

use crate::{
    Decision, Instant, Policy, Reason, Sample, State, TaskSample, TaskTerms, Terms,
    state::{Flow, TaskState},
};

/// D where it is not stated: 40 % of W are left for noticing and for noise.
const DRAIN_SHARE: f64 = 0.6;
/// The shortest rate window, in seconds: what lasts less is a burst, not a rate.
const SHORTEST_WINDOW: f64 = 30.0;
/// The shortest time that fewer pods must be enough before any is taken away, in seconds.
const SHORTEST_HOLD: f64 = 15.0;
/// Lowering by less than this share of the pods is not worth the restart that may follow.
const DOWN_BAND: f64 = 0.1;
/// S forgets after about this many tasks …
const FORGET_TASKS: f64 = 100.0;
/// … but not faster than in this time, in seconds.
const FORGET_SECONDS: f64 = 60.0;
/// New pods help only after T. Beyond this share of W the division by D − T is cut off.
const LEAST_REMAINING: f64 = 0.15;
/// Weight of one more start-up in the mean.
const START_UP_WEIGHT: f64 = 0.2;

/// The times that the policy implies, in seconds.
struct Times {
    wait: f64,
    drain: f64,
    window: f64,
}

/// Decides how many replicas to ask for. `sample.tasks` lists the types in the order of
/// `policy.tasks`; a missing entry counts as unreadable.
pub fn decide(
    policy: &Policy,
    mut state: State,
    sample: &Sample,
    now: Instant,
) -> (Decision, State) {
    let wait = policy.max_wait.as_secs_f64().max(1e-3);
    let times = Times {
        wait,
        drain: policy
            .drain_within
            .map_or(DRAIN_SHARE * wait, |d| d.as_secs_f64())
            .max(1e-3),
        window: (wait / 2.0).max(SHORTEST_WINDOW),
    };
    let dt = state.last.map_or(0.0, |last| now.seconds_since(last));
    state.last = Some(now);
    state
        .tasks
        .resize_with(policy.tasks.len(), TaskState::default);

    for seen in &sample.started_up {
        state.start_up += START_UP_WEIGHT * (seen.as_secs_f64() - state.start_up);
    }
    let waiting_for_first = if sample.ready == 0 {
        sample.oldest_starting.as_secs_f64()
    } else {
        0.0
    };
    let start_up = state.start_up.max(waiting_for_first);
    let hold = start_up.max(SHORTEST_HOLD);

    let samples: Vec<TaskSample> = (0..policy.tasks.len())
        .map(|i| sample.tasks.get(i).copied().unwrap_or_default())
        .collect();
    let mut terms = Terms {
        current: sample.current,
        drain_seconds: times.drain,
        start_up_seconds: start_up,
        ..Terms::default()
    };
    let mut limited = false;
    let mut most = Vec::new();
    for (i, task) in samples.iter().enumerate() {
        observe(&mut state.tasks[i], task, &times, now, dt);
        let t = size(&state.tasks[i], task, &times, start_up, now);
        let limit = policy.tasks[i].exec_limit.map_or(f64::INFINITY, f64::from);
        limited |= t.need > limit;
        let t = TaskTerms {
            need: t.need.min(limit),
            ..t
        };
        most.push((f64::from(task.running) + t.backlog).min(limit).max(t.need));
        terms.queue = terms.queue.saturating_add(task.queue.unwrap_or(0));
        terms.running = terms.running.saturating_add(task.running);
        terms.backlog += t.backlog;
        terms.load += t.load;
        terms.drain += t.drain;
        terms.need += t.need;
        terms.tasks.push(t);
    }
    compensate_for_start_up(&mut terms, &most, policy, sample, &times);
    terms.want = pods(&terms, policy);

    let known = samples.iter().all(|t| t.queue.is_some()) && sample.stats_complete;
    let queues_missing = samples.iter().any(|t| t.queue.is_none());
    state.blind_since = if queues_missing {
        state.blind_since.or(Some(now))
    } else {
        None
    };
    if !queues_missing {
        state.blind_raise = None;
    }
    state.wants.push(now, terms.want, hold.max(times.window));

    let (replicas, reason) = if sample.server_away && sample.ready > 0 {
        (sample.current, Reason::ServerAway)
    } else {
        let blind = raise_blindly(&mut state, sample, &samples, &times, start_up, now, dt);
        choose(
            policy,
            &state,
            sample,
            &Choice {
                terms: &terms,
                hold,
                times: &times,
                known,
                blind,
                limited,
            },
            now,
        )
    };
    (
        Decision {
            replicas,
            reason,
            terms,
        },
        state,
    )
}

/// Takes what was seen of a task type into its memory.
fn observe(state: &mut TaskState, seen: &TaskSample, times: &Times, now: Instant, dt: f64) {
    let executing = clean(seen.executing_seconds);
    let occupied = clean(seen.occupied_seconds);
    // A task that has only started or only ended counts half: a mean over ended tasks alone
    // leaves out the long ones that still run.
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of tasks between two samples"
    )]
    let count = (seen.started.saturating_add(seen.ended)) as f64 / 2.0;
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
    state
        .backlog
        .push(now, queue - state.unworkable, times.window);
}

/// The slots that one task type needs, before its own limit.
fn size(
    state: &TaskState,
    seen: &TaskSample,
    times: &Times,
    start_up: f64,
    now: Instant,
) -> TaskTerms {
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
    let leaving = f64::from(seen.leaving).min(load * ((start_up + 5.0) / s).min(1.0));
    let there_are = running.max(mean_running.min(load)) + backlog + leaving;
    let need = load.max(drain).min(there_are);
    TaskTerms {
        execution_seconds: s,
        backlog,
        load,
        drain,
        need,
    }
}

/// A pod that is started now works only after T, so the missing slots must make up for that.
/// Once, as a factor on what is missing; `most` are the slots that each type can use at all.
fn compensate_for_start_up(
    terms: &mut Terms,
    most: &[f64],
    policy: &Policy,
    sample: &Sample,
    times: &Times,
) {
    let have = f64::from(sample.ready + sample.starting) * f64::from(policy.slots.max(1));
    let backlogged = terms.tasks.iter().any(|t| t.drain > t.load);
    if terms.need <= have || !backlogged {
        return;
    }
    let remaining = (times.drain - terms.start_up_seconds).max(LEAST_REMAINING * times.wait);
    let raised = have + (terms.need - have) * (times.drain / remaining).max(1.0);
    let factor = raised / terms.need;
    for (t, most) in terms.tasks.iter_mut().zip(most) {
        t.need = (t.need * factor).min(*most);
    }
    terms.need = terms.tasks.iter().map(|t| t.need).sum();
}

/// The pods that hold so many slots.
fn pods(terms: &Terms, policy: &Policy) -> f64 {
    let mut want = terms.need / f64::from(policy.slots.max(1));
    for (t, p) in terms.tasks.iter().zip(&policy.tasks) {
        if let Some(cap) = p.cap {
            want = want.max(t.need / f64::from(cap.max(1)));
        }
    }
    if terms.queue > 0 || terms.running > 0 {
        want.max(1.0)
    } else {
        want
    }
}

/// How many to ask for while queue sizes are missing, where that is more than there are.
fn raise_blindly(
    state: &mut State,
    sample: &Sample,
    tasks: &[TaskSample],
    times: &Times,
    start_up: f64,
    now: Instant,
    dt: f64,
) -> Option<u32> {
    let since = state.blind_since?;
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
    let pause = start_up + 5.0;
    let last = state.blind_raise.unwrap_or(since);
    if all_busy && sample.stats_complete && sample.ready > 0 && now.seconds_since(last) >= pause {
        state.blind_raise = Some(now);
        return Some(sample.current.saturating_add(sample.current.div_ceil(2)));
    }
    None
}

struct Choice<'a> {
    terms: &'a Terms,
    hold: f64,
    times: &'a Times,
    /// Nothing is missing or old.
    known: bool,
    blind: Option<u32>,
    limited: bool,
}

/// From the pods wanted to the replicas asked for: windows, bounds, busy pods.
fn choose(
    policy: &Policy,
    state: &State,
    sample: &Sample,
    c: &Choice<'_>,
    now: Instant,
) -> (u32, Reason) {
    let (min, max) = (policy.min.min(policy.max), policy.max);
    let current = sample.current;
    let wanted = ceil(c.terms.want);
    let target = wanted.max(c.blind.unwrap_or(0)).clamp(min, max);

    if target > current {
        let reason = match c.blind {
            Some(raised) if raised > wanted => Reason::RaisedBlind,
            _ if wanted > max => Reason::CappedByMaxReplicas,
            _ if wanted < target => Reason::AtMinReplicas,
            _ => Reason::ScaledUp,
        };
        return (target, reason);
    }
    if target == current {
        let reason = if wanted > max {
            Reason::CappedByMaxReplicas
        } else if !c.known {
            Reason::StaleMetrics
        } else if c.limited {
            Reason::CappedByTaskLimit
        } else if wanted < min {
            Reason::AtMinReplicas
        } else {
            Reason::Steady
        };
        return (current, reason);
    }

    // Fewer would do.
    if !c.known {
        return (current, Reason::StaleMetrics);
    }
    let enough = state.wants.within(now, c.hold).fold(c.terms.want, f64::max);
    let lowered = ceil(enough).clamp(min, max);
    // After a start or restart the windows say nothing about the time before.
    let seen_long_enough = now.seconds_since(state.since) >= c.hold.max(c.times.window);
    if lowered >= current || !seen_long_enough {
        return (current, Reason::HeldByWindow);
    }
    let step = f64::from(current - lowered);
    if lowered > 0 && current <= max && step < DOWN_BAND * f64::from(current) {
        return (current, Reason::Steady);
    }
    (lowered, Reason::ScaledDown)
}

/// Rounds up; what is above a whole number by a rounding error only is that number.
fn ceil(x: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped"
    )]
    let n = (x - 1e-9).ceil().clamp(0.0, f64::from(u32::MAX)) as u32;
    n
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
