//! What happens to every worker every day, and is to cost nothing.

use anyhow::{Result, ensure};
use chaos::{
    kind::Kind,
    run::Script,
    schedule::{Lengths, Planned, arrivals, schedule},
    setting::Setting,
};
use live::stage::Stage;

use super::{Form, nobody_noticed, whole, worker};

const RATE: f64 = 14.0;

/// Longer than all that goes wrong takes.
const LONGEST: f64 = 5400.0;

const TASKS: usize = 20_000;

/// Twenty rolling updates, fifty scale-downs and twenty evictions under load, with tasks that fit
/// the grace period.
pub(crate) fn calm(stage: &Stage, form: Form) -> Result<()> {
    let lengths = Lengths {
        least: 0.05,
        most: 20.0,
    };
    // They take turns: a number that is to fall while pods are replaced waits for it.
    let mut planned = schedule(form.seed, &[Kind::ScaleDown], 50, 0.0, 1.0);
    planned.extend(schedule(form.seed + 1, &[Kind::Roll], 20, 0.0, 1.0));
    planned.sort_by(|a, b| a.at.total_cmp(&b.at));
    for Planned { at, .. } in &mut planned {
        *at += 5.0;
    }
    planned.extend(schedule(form.seed, &[Kind::Evict], 20, 5.0, 1200.0));
    let script = Script {
        name: "calm".to_owned(),
        seed: form.seed,
        jobs: arrivals(form.seed, RATE, LONGEST, lengths),
        enough: TASKS,
        planned,
        hand_backs: false,
    };
    // Extended from a third of it on, so for the longest tasks, or no lease could end. What is left
    // then outlasts the 25 s that a restart of a server takes that is stuck: nothing else could end
    // one but our own neglect.
    let setting = Setting {
        lease: 50,
        ..worker("calm")
    };
    let run = whole(stage, setting, script)?;
    ensure!(run.figures.tasks >= TASKS, "{} tasks", run.figures.tasks);
    nobody_noticed(&run)
}
