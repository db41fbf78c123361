//! Tasks that take longer than their pod has to end.

use anyhow::{Result, ensure};
use chaos::{
    bars,
    checker::REPAIRED,
    kind::Kind,
    run::Script,
    schedule::{Lengths, arrivals, schedule},
    setting::Setting,
};
use live::stage::Stage;

use super::{Form, nothing_wrong, whole, worker};

/// Pods are deleted while all that runs takes longer than the grace period leaves: everything is
/// handed back and picked up at once, and no retry is used.
pub(crate) fn longer(stage: &Stage, form: Form) -> Result<()> {
    let (times, seconds) = if form.long { (10, 600.0) } else { (2, 60.0) };
    let lengths = Lengths {
        least: 25.0,
        most: 60.0,
    };
    let setting = Setting {
        grace: 15,
        ..worker("longer")
    };
    let script = Script {
        name: "longer-than-grace".to_owned(),
        seed: form.seed,
        jobs: arrivals(form.seed, 1.0, seconds, lengths),
        enough: usize::MAX,
        planned: schedule(form.seed, &[Kind::DeletePod], times, 20.0, seconds),
        hand_backs: true,
    };
    let run = whole(stage, setting, script)?;
    nothing_wrong(&run)?;
    let f = &run.figures;
    let (times, _) = f.handed_back;
    ensure!(
        f.retries == 0 && f.timed_out == 0 && f.after_done == 0,
        "{f:?}"
    );
    // Of a task that two have at once one is cut off when its sidecar finds out.
    let twice = f.again.get(REPAIRED).copied().unwrap_or_default();
    ensure!(
        times > 0 && times + twice == f.cut_off,
        "{times} of {} tasks that were cut off were handed back",
        f.cut_off
    );
    // How quick the machine is decides no test of every day.
    if form.long {
        bars::picked_up(f)?;
    }
    Ok(())
}
