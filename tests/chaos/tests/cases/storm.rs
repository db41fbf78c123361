//! Everything breaks at random times.

use anyhow::{Result, ensure};
use chaos::{
    kind::{Kind, May},
    run::Script,
    schedule::{Lengths, arrivals, schedule},
};
use live::stage::Stage;

use super::{Form, nobody_noticed, nothing_wrong, whole, worker};

/// Tasks a second.
const RATE: f64 = 8.0;

const LENGTHS: Lengths = Lengths {
    least: 0.05,
    most: 60.0,
};

/// From the beginning to the first that may go wrong.
const CALM: f64 = 5.0;

/// Each kind of trouble once in the short form, five times in the long one.
pub(crate) fn storm(stage: &Stage, form: Form) -> Result<()> {
    let (times, seconds) = if form.long { (5, 1500.0) } else { (1, 180.0) };
    // Whoever has to wait for his turn comes late, and is to find work all the same.
    let jobs = arrivals(form.seed, RATE, 4.0 * seconds, LENGTHS);
    let script = Script {
        name: "storm".to_owned(),
        seed: form.seed,
        enough: jobs.iter().filter(|job| job.at < seconds).count(),
        jobs,
        planned: schedule(form.seed, &Kind::ALL, times, CALM, seconds * 0.8),
        hand_backs: false,
    };
    let run = whole(stage, worker("storm"), script)?;
    // Conductor may have got stuck besides.
    let planned = run.account.events.iter().filter(|e| e.is_planned()).count();
    ensure!(
        planned == times * Kind::ALL.len(),
        "{planned} things went wrong"
    );
    nothing_wrong(&run)
}

/// All that may cost no task anything, three times each, and nothing that may: there is nothing
/// that could excuse a retry.
pub(crate) fn harmless(stage: &Stage, form: Form) -> Result<()> {
    let kinds = Kind::ALL.into_iter().filter(|k| k.may() == May::Nothing);
    let kinds: Vec<Kind> = kinds.collect();
    let script = Script {
        name: "harmless".to_owned(),
        seed: form.seed,
        jobs: arrivals(form.seed, RATE, 3600.0, LENGTHS),
        enough: 0,
        planned: schedule(form.seed, &kinds, 3, CALM, 600.0),
        hand_backs: false,
    };
    nobody_noticed(&whole(stage, worker("harmless"), script)?)
}
