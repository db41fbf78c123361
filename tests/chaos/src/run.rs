//! A run: load, what goes wrong meanwhile, and what became of every task.

use std::{pin::pin, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use futures::TryStreamExt as _;
use live::{clock::now, load::Job};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};

use crate::{
    act::act,
    checker::{Account, Figures, Story, check},
    course::{Course, Phase},
    kind::Event,
    load::Load,
    retry::mended,
    schedule::Planned,
    stuck::restart_where_stuck,
    world::World,
};

/// Everything that is known of a run. Times are seconds since its beginning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Its name.
    pub name: String,
    /// Who did the work.
    pub subject: String,
    /// What its choices were made from.
    pub seed: u64,
    /// How long it took.
    pub seconds: f64,
    /// What became of the tasks, and what went wrong.
    pub account: Account,
    /// In numbers.
    pub figures: Figures,
    /// What may not be.
    pub wrong: Vec<String>,
}

/// What is to happen in a run.
#[derive(Debug, Clone)]
pub struct Script {
    /// In reports and files.
    pub name: String,
    /// What its choices were made from.
    pub seed: u64,
    /// What arrives.
    pub jobs: Vec<Job>,
    /// After so many jobs no more arrive once everything that goes wrong is over.
    pub enough: usize,
    /// What goes wrong.
    pub planned: Vec<Planned>,
    /// Tasks may be handed back at the end of a grace period and executed again.
    pub hand_backs: bool,
}

/// Lets the jobs arrive and the planned things go wrong, and reads what became of it all. Where
/// something fails, all else that has begun is awaited first, and no workflow goes on.
pub async fn run(world: &World<'_>, script: Script) -> Result<Run> {
    let load = Load::new(&world.stage.bed.conductor, &world.setting.name);
    let load = Arc::new(load);
    let run = measure(world, script, &load).await;
    mended(run, load.abandon()).await
}

async fn measure(world: &World<'_>, script: Script, load: &Arc<Load>) -> Result<Run> {
    let (zero, begun) = (Instant::now(), now());
    let course = Arc::new(Course::default());
    let loading = tokio::spawn({
        let (course, jobs) = (course.clone(), script.jobs.clone());
        let arriving = load
            .clone()
            .arrive(jobs, zero, script.enough, course.clone());
        async move { course.part(arriving).await }
    });
    let working = async {
        let events = go_wrong(world, &script, &course, zero, begun).await;
        course.advance(Phase::Mended);
        course.part(async { Ok(loading.await?) }).await;
        course.part(load.finish(&course)).await;
        course.advance(Phase::Over);
        events
    };
    let watching = course.part(restart_where_stuck(world, &course));
    let (mut events, stuck) = tokio::join!(working, watching);
    course.first_error()?;
    events.extend(stuck.flatten());
    world.settle(world.setting.replicas).await?;
    let mut account = Account {
        lease: f64::from(world.setting.lease),
        grace: f64::from(world.setting.grace),
        hand_backs: script.hand_backs,
        repaired: world.stage.bed.repaired()?,
        events,
        log: world.watch.log(),
        stories: Vec::new(),
    };
    tell(world, load, &mut account).await?;
    since(begun, &mut account);
    let (figures, wrong) = check(&account);
    Ok(Run {
        name: script.name,
        subject: world.setting.subject.name().to_owned(),
        seed: script.seed,
        seconds: now() - begun,
        account,
        figures,
        wrong,
    })
}

/// Everything that is planned, each at its time, or when it is its turn.
async fn go_wrong(
    world: &World<'_>,
    script: &Script,
    course: &Course,
    zero: Instant,
    begun: f64,
) -> Vec<Event> {
    let seed = script.seed;
    let one = |(n, planned): (usize, &Planned)| {
        let Planned { at, kind } = *planned;
        async move {
            let turns = async {
                sleep_until(zero + Duration::from_secs_f64(at)).await;
                eprintln!("{at:6.1} s: {}", kind.name());
                world.turns.take(kind).await
            };
            let Some(_turns) = course.unless_given_up(turns).await else {
                return Ok(None);
            };
            // Each has dice of its own, so that none depends on how quick another is.
            let mut dice = fastrand::Rng::with_seed(seed.wrapping_add(n as u64));
            let event = act(world, kind, &mut dice).await.context(kind.name())?;
            let over = event.to - begun;
            eprintln!("{over:6.1} s: {} is over", kind.name());
            Ok(Some(event))
        }
    };
    course.all(script.planned.iter().enumerate().map(one)).await
}

/// What became of each task.
async fn tell(world: &World<'_>, load: &Load, account: &mut Account) -> Result<()> {
    let mut executions = world.executions();
    let started = load.started();
    let ids = started.iter().map(|one| one.id.as_str());
    let mut read = pin!(load.workflows(ids, true));
    for one in &started {
        let workflow = read
            .try_next()
            .await?
            .context("fewer than were asked for")?;
        let story = Story::of(&workflow, one.takes, &mut executions);
        account.stories.push(story);
    }
    Ok(())
}

/// Times since 1970 become times since the run's beginning.
fn since(zero: f64, account: &mut Account) {
    let shift = |at: &mut Option<f64>| {
        if let Some(at) = at {
            *at -= zero;
        }
    };
    for Event { from, to, .. } in &mut account.events {
        *from -= zero;
        *to -= zero;
    }
    for story in &mut account.stories {
        story.created -= zero;
        shift(&mut story.ended);
        for attempt in &mut story.attempts {
            shift(&mut attempt.started);
            shift(&mut attempt.ended);
            for execution in &mut attempt.executions {
                execution.began -= zero;
                shift(&mut execution.ended);
                shift(&mut execution.cut);
            }
        }
    }
    account.log.shift(-zero);
}
