//! A run: load, what goes wrong meanwhile, and what became of every task.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use conductor_client::{Client, StartWorkflow, Workflow};
use futures::{
    Stream, StreamExt as _, TryStreamExt as _,
    stream::{self, FuturesUnordered},
};
use live::{clock::now, load::Job, watch::Log};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    act::act,
    checker::{Account, Figures, Story, check},
    kind::Event,
    retry::until,
    schedule::Planned,
    stuck::restart_where_stuck,
    world::World,
};

/// Starts of workflows in the air at once.
const AT_ONCE: usize = 16;

/// The longest from the last task's arrival to its end: retries after leases and an outage, and
/// Conductor's own detection.
const FINISH: Duration = Duration::from_secs(480);

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
    /// Pods and replicas.
    pub log: Log,
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

/// Starts a workflow for each job at its time after `zero`. One whose start is not answered is
/// started again; the first may have been started all the same, and nobody waits for it.
async fn start(
    conductor: Client,
    name: String,
    jobs: Vec<Job>,
    zero: Instant,
    enough: usize,
    is_over: Arc<AtomicBool>,
) -> Result<Vec<(String, f64)>> {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut starting = JoinSet::new();
    for (n, job) in jobs.iter().enumerate() {
        sleep_until(zero + Duration::from_secs_f64(job.at)).await;
        if n >= enough && is_over.load(Ordering::Relaxed) {
            break;
        }
        let permit = permits.clone().acquire_owned().await?;
        let (conductor, name, takes) = (conductor.clone(), name.clone(), job.seconds);
        starting.spawn(async move {
            let start = StartWorkflow {
                name,
                input: Map::from_iter([("seconds".to_owned(), Value::from(takes))]),
                ..StartWorkflow::default()
            };
            let started = until("a workflow is started", FINISH, || async {
                Ok(conductor.start_workflow(&start).await?)
            });
            let id = started.await;
            drop(permit);
            id.map(|id| (n, id, takes))
        });
    }
    let mut started = vec![(String::new(), 0.0); starting.len()];
    while let Some(one) = starting.join_next().await {
        let (n, id, takes) = one??;
        started[n] = (id, takes);
    }
    Ok(started)
}

/// Reads workflows, some at once, in their order.
fn workflows<'a>(
    conductor: &'a Client,
    ids: impl IntoIterator<Item = &'a String>,
    with_tasks: bool,
) -> impl Stream<Item = Result<Workflow>> {
    let reading = ids.into_iter().map(move |id| {
        until("a workflow is read", FINISH, move || async move {
            Ok(conductor.get_workflow(id, with_tasks).await?)
        })
    });
    stream::iter(reading).buffered(AT_ONCE)
}

/// Waits until every workflow has ended, or for so long as that may take: what has not ended then
/// is found when it is read.
async fn finish(conductor: &Client, started: &[(String, f64)]) -> Result<()> {
    let mut open: Vec<&String> = started.iter().map(|(id, _)| id).collect();
    let end = Instant::now() + FINISH;
    while !open.is_empty() && Instant::now() < end {
        let read: Vec<Workflow> = workflows(conductor, open.iter().copied(), false)
            .try_collect()
            .await?;
        let read = open.into_iter().zip(read);
        let left = read.filter(|(_, workflow)| !workflow.status.is_terminal());
        open = left.map(|(id, _)| id).collect();
        sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

/// Lets the jobs arrive and the planned things go wrong, and reads what became of it all.
pub async fn run(world: &World<'_>, script: Script) -> Result<Run> {
    let (zero, begun) = (Instant::now(), now());
    let conductor = world.stage.bed.conductor.clone();
    let is_over = Arc::new(AtomicBool::new(script.planned.is_empty()));
    let loading = tokio::spawn(start(
        conductor.clone(),
        world.setting.name.clone(),
        script.jobs.clone(),
        zero,
        script.enough,
        is_over.clone(),
    ));
    let is_finished = AtomicBool::new(false);
    let working = async {
        let worked = async {
            let events = go_wrong(world, &script, zero, begun).await?;
            is_over.store(true, Ordering::Relaxed);
            let started = loading.await??;
            finish(&conductor, &started).await?;
            anyhow::Ok((events, started))
        };
        let worked = worked.await;
        is_finished.store(true, Ordering::Relaxed);
        worked
    };
    let (worked, stuck) = tokio::join!(working, restart_where_stuck(world, &is_finished));
    let (mut events, started) = worked?;
    events.extend(stuck?);
    world.settle(world.setting.replicas).await?;
    let mut account = Account {
        lease: f64::from(world.setting.lease),
        hand_backs: script.hand_backs,
        repaired: world.stage.bed.repaired()?,
        events,
        stories: Vec::new(),
    };
    tell(world, &started, &mut account).await?;
    let mut log = world.watch.log();
    since(begun, &mut account, &mut log);
    let (figures, wrong) = check(&account);
    Ok(Run {
        name: script.name,
        subject: world.setting.subject.name().to_owned(),
        seed: script.seed,
        seconds: now() - begun,
        account,
        log,
        figures,
        wrong,
    })
}

/// Everything that is planned, each at its time, or when it is its turn.
async fn go_wrong(
    world: &World<'_>,
    script: &Script,
    zero: Instant,
    begun: f64,
) -> Result<Vec<Event>> {
    let seed = script.seed;
    let one = |(n, planned): (usize, &Planned)| {
        let Planned { at, kind } = *planned;
        async move {
            sleep_until(zero + Duration::from_secs_f64(at)).await;
            // Each has dice of its own, so that none depends on how quick another is.
            let mut dice = fastrand::Rng::with_seed(seed.wrapping_add(n as u64));
            eprintln!("{at:6.1} s: {}", kind.name());
            act(world, kind, &mut dice).await.context(kind.name())
        }
    };
    let planned = script.planned.iter().enumerate();
    let mut going_wrong: FuturesUnordered<_> = planned.map(one).collect();
    let mut events = Vec::new();
    while let Some(event) = going_wrong.next().await {
        let event = event?;
        let over = event.to - begun;
        eprintln!("{over:6.1} s: {} is over", event.kind.name());
        events.push(event);
    }
    Ok(events)
}

/// What became of each task.
async fn tell(world: &World<'_>, started: &[(String, f64)], account: &mut Account) -> Result<()> {
    let mut executions = world.executions();
    let ids = started.iter().map(|(id, _)| id);
    let mut read = pin!(workflows(&world.stage.bed.conductor, ids, true));
    for (_, takes) in started {
        let workflow = read
            .try_next()
            .await?
            .context("fewer than were asked for")?;
        let story = Story::of(&workflow, *takes, &mut executions);
        account.stories.push(story);
    }
    Ok(())
}

/// Times since 1970 become times since the run's beginning.
fn since(zero: f64, account: &mut Account, log: &mut Log) {
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
    log.shift(-zero);
}
