//! What decides is away for long.

use std::time::Duration;

use anyhow::Result;
use chaos::{
    kind::Kind,
    run::Script,
    schedule::{Lengths, Planned, arrivals},
    setting::Setting,
};
use live::stage::Stage;

use super::{Form, nobody_noticed, whole, worker};

const LENGTHS: Lengths = Lengths {
    least: 0.05,
    most: 60.0,
};

pub(crate) fn operator(stage: &Stage, form: Form) -> Result<()> {
    away(stage, form, Kind::OperatorAway, Duration::from_secs(600))
}

pub(crate) fn api_server(stage: &Stage, form: Form) -> Result<()> {
    away(stage, form, Kind::ApiServerAway, Duration::from_secs(120))
}

/// It goes in the middle of a scale-down under load. No task notices, and no pod stays cordoned.
fn away(stage: &Stage, form: Form, kind: Kind, away: Duration) -> Result<()> {
    let seconds = away.as_secs_f64() + 600.0;
    let setting = Setting {
        away,
        ..worker("away")
    };
    let script = Script {
        name: kind.name().replace(' ', "-"),
        seed: form.seed,
        // All fits into the pod that is to be left.
        jobs: arrivals(form.seed, 3.0, seconds, LENGTHS),
        enough: 0,
        planned: vec![Planned { at: 30.0, kind }],
        hand_backs: false,
    };
    nobody_noticed(&whole(stage, setting, script)?)
}
