//! The decision.

use std::time::Duration;

use crate::{
    Decision, Instant, Policy, Reason, Sample, State, TaskSample, Terms, blind,
    demand::{self, Demand},
    state::TaskState,
};

/// D where it is not stated: 40 % of W are left for noticing and for noise.
const DRAIN_SHARE: f64 = 0.6;
/// The shortest rate window, in seconds: what lasts less is a burst, not a rate.
const SHORTEST_WINDOW: f64 = 30.0;
/// The longest rate window, in seconds, however long tasks may wait: what is kept is bounded.
pub(crate) const LONGEST_WINDOW: f64 = 3600.0;
/// The shortest time that fewer pods must be enough before any is taken away, in seconds.
const SHORTEST_HOLD: f64 = 15.0;
/// Lowering by less than this share of the pods is not worth the restart that may follow.
const DOWN_BAND: f64 = 0.1;
/// A pod is taken away only where this share of another is not needed either: at the edge of a
/// pod, noise alone would take it away and start it again.
const SPARE: f64 = 0.3;
/// New pods help only after T. Beyond this share of W the division by D − T is cut off.
const LEAST_REMAINING: f64 = 0.15;
/// A start-up that takes longer, in seconds, waited for something else than the pod itself: a
/// node, a quota, an image that could not be pulled.
pub(crate) const LONGEST_START_UP: f64 = 900.0;
/// Weight of one more start-up in the mean.
const START_UP_WEIGHT: f64 = 0.2;

/// The times behind a decision, in seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// W.
    pub(crate) wait: f64,
    /// D.
    pub(crate) drain: f64,
    /// H: what lasts less is a burst, not a rate.
    pub(crate) window: f64,
    /// T.
    pub(crate) start_up: f64,
    /// How long fewer pods must have been enough.
    pub(crate) hold: f64,
}

impl Times {
    fn of(policy: &Policy, state: &State, sample: &Sample) -> Self {
        let wait = policy.max_wait.as_secs_f64().max(1e-3);
        let waiting_for_first = if sample.ready == 0 {
            sample.oldest_starting
        } else {
            Duration::ZERO
        };
        let waiting_for_first = waiting_for_first.as_secs_f64().min(LONGEST_START_UP);
        let start_up = state.start_up.max(waiting_for_first);
        Self {
            wait,
            drain: policy
                .drain_within
                .map_or(DRAIN_SHARE * wait, |d| d.as_secs_f64())
                .max(1e-3),
            window: (wait / 2.0).clamp(SHORTEST_WINDOW, LONGEST_WINDOW),
            start_up,
            // Pods that never get ready must not hold themselves.
            hold: state.start_up.max(SHORTEST_HOLD),
        }
    }
}

/// Decides how many replicas to ask for. `sample.tasks` lists the types in the order of
/// `policy.tasks`; a missing entry counts as unreadable.
pub fn decide(
    policy: &Policy,
    mut state: State,
    sample: &Sample,
    now: Instant,
) -> (Decision, State) {
    let dt = state.last.map_or(0.0, |last| now.seconds_since(last));
    state.last = Some(now);
    state
        .tasks
        .resize_with(policy.tasks.len(), TaskState::default);
    for seen in &sample.started_up {
        let seen = seen.as_secs_f64().min(LONGEST_START_UP);
        state.start_up += START_UP_WEIGHT * (seen - state.start_up);
    }
    let times = Times::of(policy, &state, sample);

    let samples: Vec<TaskSample> = (0..policy.tasks.len())
        .map(|i| sample.tasks.get(i).copied().unwrap_or_default())
        .collect();
    let mut demands: Vec<Demand> = Vec::with_capacity(samples.len());
    for ((seen, task), policy) in samples.iter().zip(&mut state.tasks).zip(&policy.tasks) {
        demand::observe(task, seen, policy, &times, now, dt);
        demands.push(demand::size(task, seen, policy, &times, now));
    }
    let saturated = demands.iter().any(|demand| demand.saturated);
    let bound = demands.iter().find_map(|demand| demand.bound);
    compensate_for_start_up(&mut demands, policy, sample, &times);
    let terms = terms(policy, sample, &samples, &demands, &times);

    state
        .wants
        .push(now, terms.want, times.hold.max(times.window));
    if samples.iter().any(works) {
        state.worked = now;
    }
    let queues_missing = samples.iter().any(|t| t.queue.is_none());
    let blind = blind::raise(&mut state, sample, &samples, &times, now, dt);
    let (replicas, reason) = if sample.server_away && sample.ready > 0 {
        (sample.current, Reason::ServerAway)
    } else {
        let found = Found {
            terms: &terms,
            times: &times,
            known: !queues_missing && sample.stats_complete,
            blind,
            bound,
            saturated,
        };
        choose(policy, &state, sample, &found, now)
    };
    let decision = Decision {
        replicas,
        reason,
        terms,
    };
    (decision, state)
}

/// A pod that is started now works only after T, so the missing slots must make up for that.
/// Once, as a factor on what is missing.
fn compensate_for_start_up(
    demands: &mut [Demand],
    policy: &Policy,
    sample: &Sample,
    times: &Times,
) {
    let sure: f64 = demands.iter().map(|d| d.sure).sum();
    let have = f64::from(sample.ready + sample.starting) * f64::from(policy.slots.max(1));
    let backlogged = demands.iter().any(|d| d.terms.drain > d.terms.load);
    if sure <= have || !backlogged {
        return;
    }
    let remaining = (times.drain - times.start_up).max(LEAST_REMAINING * times.wait);
    let raised = have + (sure - have) * (times.drain / remaining).max(1.0);
    for demand in demands {
        let terms = &mut demand.terms;
        terms.need = (demand.sure * raised / sure)
            .min(demand.most)
            .max(terms.need);
    }
}

fn terms(
    policy: &Policy,
    sample: &Sample,
    samples: &[TaskSample],
    demands: &[Demand],
    times: &Times,
) -> Terms {
    let mut terms = Terms {
        current: sample.current,
        drain_seconds: times.drain,
        start_up_seconds: times.start_up,
        ..Terms::default()
    };
    for (seen, demand) in samples.iter().zip(demands) {
        let of_type = demand.terms;
        terms.queue = terms.queue.saturating_add(seen.queue.unwrap_or(0));
        terms.running = terms.running.saturating_add(seen.running);
        terms.backlog += of_type.backlog;
        terms.load += of_type.load;
        terms.drain += of_type.drain;
        terms.need += of_type.need;
        terms.tasks.push(of_type);
    }
    terms.want = pods(&terms, policy);
    terms
}

/// The pods that hold so many slots.
fn pods(terms: &Terms, policy: &Policy) -> f64 {
    let mut want = terms.need / f64::from(policy.slots.max(1));
    for (t, p) in terms.tasks.iter().zip(&policy.tasks) {
        if let Some(cap) = p.cap {
            want = want.max(t.need / f64::from(cap.max(1)));
        }
    }
    want
}

struct Found<'a> {
    terms: &'a Terms,
    times: &'a Times,
    /// Nothing is missing or old.
    known: bool,
    blind: Option<u32>,
    bound: Option<Reason>,
    saturated: bool,
}

/// From the pods wanted to the replicas asked for: windows and bounds.
fn choose(
    policy: &Policy,
    state: &State,
    sample: &Sample,
    found: &Found<'_>,
    now: Instant,
) -> (u32, Reason) {
    let (min, max) = (policy.min.min(policy.max), policy.max);
    let current = sample.current;
    // One pod at least while there is something to do, or to find out.
    let least = u32::from(found.terms.queue > 0 || found.terms.running > 0);
    // The rate window is longer than the hold: what came in a burst is no rate when nothing comes
    // any more.
    let is_over = now.seconds_since(state.worked) >= found.times.hold;
    let wanted = if is_over { 0 } else { ceil(found.terms.want) }.max(least);
    let target = wanted.max(found.blind.unwrap_or(0)).clamp(min, max);

    if target > current {
        let reason = match found.blind {
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
        } else if !found.known {
            Reason::StaleMetrics
        } else if let Some(bound) = found.bound {
            bound
        } else if wanted < min {
            Reason::AtMinReplicas
        } else {
            Reason::Steady
        };
        return (current, reason);
    }

    // Fewer would do.
    if !found.known {
        return (current, Reason::StaleMetrics);
    }
    let times = found.times;
    let enough = if found.saturated {
        found.terms.want
    } else if is_over {
        0.0
    } else {
        let wants = state.wants.within(now, times.hold);
        wants.fold(found.terms.want, f64::max)
    };
    let lowered = ceil(enough).max(least).clamp(min, max);
    // After a start or restart the windows say nothing about the time before.
    let seen_long_enough = now.seconds_since(state.since) >= times.hold.max(times.window);
    if lowered >= current || !seen_long_enough {
        return (current, Reason::HeldByWindow);
    }
    let step = f64::from(current - lowered);
    let needed = enough > f64::from(current) - 1.0 - SPARE && !found.saturated;
    let little = step < DOWN_BAND * f64::from(current);
    if lowered > 0 && current <= max && (needed || little) {
        return (current, Reason::Steady);
    }
    (lowered, Reason::ScaledDown)
}

/// Whether something waits, runs or has run since the sample before; what is unknown might.
fn works(seen: &TaskSample) -> bool {
    seen.queue != Some(0) || seen.running > 0 || seen.started > 0 || seen.ended > 0
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
