//! What `scaling` has learnt, as it is kept in the status for an operator that starts anew.

use conductor_client::QueueName;
use jiff::Timestamp;
use scaling::{State, TaskMemory};
use serde::{Deserialize, Serialize};

use crate::{
    controller::observed::{Memory, Now, Observed},
    worker::Worker,
};

/// The form; another is not read.
const VERSION: u32 = 1;

/// What is older is not used: tasks and nodes may be others by now.
const USABLE_SECONDS: i64 = 3600;

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    version: u32,
    at: Timestamp,
    /// The queues that `memory.tasks` are about, in this order.
    queues: Vec<String>,
    memory: scaling::Memory,
}

/// What to write; none where nothing is decided.
pub(super) fn kept(worker: &Worker, memory: &Memory, measured_at: Timestamp) -> Option<String> {
    let mut learnt = memory.state.as_ref()?.memory();
    learnt.start_up_seconds = short(learnt.start_up_seconds);
    for task in &mut learnt.tasks {
        task.execution_seconds = short(task.execution_seconds);
        task.count = short(task.count);
    }
    let kept = Kept {
        version: VERSION,
        at: measured_at,
        queues: names(worker),
        memory: learnt,
    };
    serde_json::to_string(&kept).ok()
}

/// The state to begin with: what was kept, where it can be used.
pub(super) fn restored(observed: &Observed, worker: &Worker, now: Now) -> State {
    let text = observed.status.scaling.as_ref();
    let kept = text.and_then(|s| serde_json::from_str::<Kept>(s.memory.as_ref()?).ok());
    let usable = kept.filter(|kept| {
        let age = now.wall.as_second() - kept.at.as_second();
        kept.version == VERSION && (-60..=USABLE_SECONDS).contains(&age)
    });
    match usable {
        Some(kept) => {
            let learnt = reordered(&kept.memory, &kept.queues, &names(worker));
            State::restored(&learnt, now.clock)
        }
        None => State::restarted(now.clock),
    }
}

/// The state for the worker's task types as they are now: what was learnt of the others before
/// stays with them.
pub(super) fn state_for(
    observed: &Observed,
    worker: &Worker,
    memory: &mut Memory,
    now: Now,
) -> State {
    let queues: Vec<QueueName> = worker.tasks.iter().map(|t| t.queue.clone()).collect();
    let state = match memory.state.take() {
        Some(state) if memory.state_of == queues => state,
        Some(state) => {
            let before: Vec<String> = memory.state_of.iter().map(ToString::to_string).collect();
            let learnt = reordered(&state.memory(), &before, &names(worker));
            State::restored(&learnt, now.clock)
        }
        None => restored(observed, worker, now),
    };
    memory.state_of = queues;
    state
}

fn names(worker: &Worker) -> Vec<String> {
    let tasks = worker.tasks.iter();
    tasks.map(|task| task.queue.to_string()).collect()
}

/// What was learnt of task types in one order, in another; nothing of those that are new.
fn reordered(memory: &scaling::Memory, from: &[String], to: &[String]) -> scaling::Memory {
    let of = |queue: &String| {
        let i = from.iter().position(|q| q == queue)?;
        memory.tasks.get(i).copied()
    };
    scaling::Memory {
        tasks: to
            .iter()
            .map(|queue| of(queue).unwrap_or(TaskMemory::default()))
            .collect(),
        ..memory.clone()
    }
}

/// Three digits are enough, and shorter.
fn short(x: f64) -> f64 {
    if x == 0.0 || !x.is_finite() {
        return 0.0;
    }
    let scale = 10f64.powf(2.0 - x.abs().log10().floor());
    (x * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_are_kept() {
        for (x, expected) in [
            (0.0, 0.0),
            (f64::NAN, 0.0),
            (0.812_345, 0.812),
            (12_345.0, 12_300.0),
            (-0.001_234_5, -0.001_23),
            (1.0, 1.0),
        ] {
            assert!((short(x) - expected).abs() < 1e-12, "{x}");
        }
    }

    #[test]
    fn what_was_learnt_goes_with_its_queue() {
        let task = |execution_seconds| TaskMemory {
            execution_seconds,
            count: 1.0,
        };
        let memory = scaling::Memory {
            start_up_seconds: 9.0,
            tasks: vec![task(1.0), task(2.0)],
        };
        let names =
            |names: &[&str]| -> Vec<String> { names.iter().map(|n| (*n).to_owned()).collect() };
        let other = reordered(&memory, &names(&["a", "b"]), &names(&["c", "b"]));
        assert_eq!(other.tasks, [TaskMemory::default(), task(2.0)]);
        assert!((other.start_up_seconds - 9.0).abs() < f64::EPSILON);
        // A list that is shorter than its names.
        let one = reordered(&memory, &names(&["a", "b", "c"]), &names(&["c"]));
        assert_eq!(one.tasks, [TaskMemory::default()]);
    }
}
