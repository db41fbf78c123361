//! The cases, in their order.

use std::{env, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use chaos::{
    output,
    retry::mended,
    run::{Run, Script, run},
    setting::{Setting, Subject},
    world::World,
};
use cluster::Case;
use live::stage::Stage;

mod away;
mod calm;
mod longer;
mod storm;
mod yardstick;

/// What is run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    /// All cases, and the long form of each.
    pub(crate) long: bool,
    /// What all choices are made from.
    pub(crate) seed: u64,
}

impl Form {
    /// As the environment asks.
    fn read() -> Result<Self> {
        let long = match env::var("CHAOS").as_deref() {
            Err(env::VarError::NotPresent) | Ok("" | "short") => false,
            Ok("long") => true,
            other => bail!("CHAOS is {other:?}; write short or long"),
        };
        let seed = match env::var("CHAOS_SEED") {
            Ok(text) => text
                .parse()
                .with_context(|| format!("CHAOS_SEED is {text:?}; write a whole number"))?,
            Err(_) => fastrand::u64(..1_000_000),
        };
        Ok(Self { long, seed })
    }
}

type Body = fn(&Stage, Form) -> Result<()>;

const SHORT: &[(&str, Body)] = &[
    ("storm", storm::storm),
    ("longer_than_the_grace_period", longer::longer),
];

const LONG: &[(&str, Body)] = &[
    ("everything_harmless_at_once", storm::harmless),
    ("rolls_scale_downs_and_evictions_cost_nothing", calm::calm),
    ("operator_away", away::operator),
    ("api_server_away", away::api_server),
];

pub(crate) fn all() -> Result<Vec<Case<Stage>>> {
    let form = Form::read()?;
    let boxed = |(name, case): &(&str, Body)| -> Case<Stage> {
        let case = *case;
        ((*name).to_owned(), Box::new(move |stage| case(stage, form)))
    };
    let mut cases: Vec<Case<Stage>> = SHORT.iter().map(boxed).collect();
    if form.long {
        cases.extend(LONG.iter().map(boxed));
        for (name, trial) in yardstick::TRIALS {
            for subject in Subject::ALL {
                let name = format!("yardstick::{name}::{}", subject.short());
                let case = move |stage: &Stage| yardstick::measure(stage, form, subject, *trial);
                cases.push((name, Box::new(case)));
            }
        }
    }
    Ok(cases)
}

/// A worker as most cases have it.
pub(crate) fn worker(name: &str) -> Setting {
    Setting {
        name: format!("chaos-{name}"),
        subject: Subject::Worker,
        replicas: 4,
        slots: 40,
        grace: 90,
        lease: 30,
        retries: 20,
        guarded: true,
        away: Duration::ZERO,
    }
}

/// Sets the world up, runs, keeps what was seen, and takes the world down, whatever came of it: the
/// next case is to find nothing of this one.
pub(crate) fn whole(stage: &Stage, setting: Setting, script: Script) -> Result<Run> {
    eprintln!("CHAOS_SEED={} makes the same choices", script.seed);
    let whole = stage.bed.wait(async {
        let world = World::start(stage, setting).await?;
        let whole = async {
            world.set_up().await?;
            run(&world, script).await
        };
        mended(whole.await, world.tear_down()).await
    })?;
    output::keep(&whole)?;
    Ok(whole)
}

/// What may not be has not been.
pub(crate) fn nothing_wrong(run: &Run) -> Result<()> {
    ensure!(
        run.wrong.is_empty(),
        "CHAOS_SEED={}: {} of {} tasks:\n{}",
        run.seed,
        run.wrong.len(),
        run.figures.tasks,
        run.wrong.join("\n")
    );
    Ok(())
}

/// Nothing was lost, cut off, tried again or timed out.
pub(crate) fn nobody_noticed(run: &Run) -> Result<()> {
    nothing_wrong(run)?;
    let f = &run.figures;
    ensure!(
        f.once == f.tasks && f.cut_off == 0 && f.retries == 0 && f.timed_out == 0,
        "CHAOS_SEED={}: {f:?}",
        run.seed
    );
    Ok(())
}
