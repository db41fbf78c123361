//! Queue sizes cannot be read for minutes, while everything else works.

use std::env;

use anyhow::{Context as _, Result, ensure};
use faults::{
    fault::{Fault, On},
    proxy::Proxy,
};
use live::{
    contender::{Contender, Setting},
    figures::raises,
    load::{Job, Load},
    run::{Run, Running},
    stage::Stage,
};

const AWAY: Fault = Fault::Answer {
    status: 503,
    headers: &[("content-type", "text/plain")],
    body: "no queues today",
};
/// By then the operator has seen that it cannot see: three looks and some time.
const NOTICED: f64 = 25.0;

/// The outage: when it begins and ends, in seconds of the run.
#[derive(Clone, Copy)]
struct Outage {
    from: f64,
    to: f64,
}

fn outage(from: f64) -> Result<Outage> {
    let seconds = match env::var("LIVE_OUTAGE") {
        Ok(text) => text
            .parse()
            .context("LIVE_OUTAGE is no number of seconds")?,
        Err(_) => 300.0,
    };
    ensure!(
        seconds >= 90.0,
        "LIVE_OUTAGE is {seconds}; write at least 90"
    );
    Ok(Outage {
        from,
        to: from + seconds,
    })
}

fn load(name: &str, duration: f64, jobs: Vec<Job>) -> Load {
    Load {
        name: name.to_owned(),
        about: String::new(),
        max_wait: 30.0,
        duration,
        slots: 5,
        min: 0,
        max: 20,
        response_timeout: 60,
        retry_delay: 1,
        jobs,
    }
}

/// So many tasks a second, evenly, each of a length.
fn even(from: f64, to: f64, a_second: f64, seconds: f64) -> impl Iterator<Item = Job> {
    let times = (0_u32..).map(move |n| from + f64::from(n) / a_second);
    let times = times.take_while(move |at| *at < to);
    times.map(move |at| Job { at, seconds })
}

/// Half of the load goes away in the middle of it.
pub(crate) fn at_load(stage: &Stage) -> Result<()> {
    let away = outage(100.0)?;
    let middle = f64::midpoint(away.from, away.to);
    let mut jobs: Vec<Job> = even(0.0, middle, 10.0, 2.0).collect();
    jobs.extend(even(middle, away.to + 60.0, 3.0, 2.0));
    let load = load("away-at-load", away.to + 240.0, jobs);
    let run = through(stage, &load, away)?;
    ensure!(
        replicas_at(&run, away.from) > 0,
        "there was no pod when the outage began: {:?}",
        run.log.replicas
    );
    is_held(&run, away)?;
    all_done(&run)
}

/// Tasks arrive while nobody can see them.
pub(crate) fn at_zero(stage: &Stage) -> Result<()> {
    let away = outage(30.0)?;
    let load = load(
        "away-at-zero",
        away.to + 240.0,
        even(45.0, 50.0, 10.0, 1.0).collect(),
    );
    let run = through(stage, &load, away)?;
    ensure!(
        replicas_at(&run, away.from) == 0,
        "there were pods when the outage began: {:?}",
        run.log.replicas
    );
    is_held(&run, away)?;
    let done = run.outcomes.iter().filter_map(|o| o.ended);
    let last = done.fold(0.0, f64::max);
    ensure!(
        last < away.to,
        "the tasks were done only at {last:.0} s, after the outage"
    );
    all_done(&run)
}

/// The load with an outage; the condition must say so in time, and not any more after it.
fn through(stage: &Stage, load: &Load, away: Outage) -> Result<Run> {
    let proxy = stage
        .bed
        .wait(Proxy::start_on(stage.address, &stage.conductor, 1))?;
    let running = Running::set_up(
        stage,
        load,
        Contender::Operator,
        Setting::Nothing,
        &proxy.base(),
    )?;
    let mut set = false;
    let (mut said, mut over) = (None, None);
    let run = running.go_with(|running, at| {
        let is_away = away.from <= at && at < away.to;
        if is_away && !set {
            proxy.set(AWAY, On::Queues, 1.0);
        } else if !is_away && set {
            proxy.clear();
        }
        set = is_away;
        let condition = || running.condition("conductorworker", "MetricsAvailable");
        if said.is_none() && at >= away.from + NOTICED {
            said = Some(condition()?);
        }
        if over.is_none() && at >= away.to + NOTICED {
            over = Some(condition()?);
        }
        Ok(over.is_some())
    })?;
    let (status, message) = said.unwrap_or_default();
    ensure!(
        status == "False" && message.contains("was last read at"),
        "MetricsAvailable is {status:?} in the outage: {message}"
    );
    let (status, message) = over.unwrap_or_default();
    ensure!(
        status == "True",
        "MetricsAvailable is {status:?} after the outage: {message}"
    );
    Ok(run)
}

fn replicas_at(run: &Run, at: f64) -> u32 {
    let writes = run.log.replicas.iter().rev();
    writes
        .clone()
        .find(|(t, _)| *t <= at)
        .map_or(0, |(_, n)| *n)
}

/// Not lowered in the outage, and not raised by its end.
fn is_held(run: &Run, away: Outage) -> Result<()> {
    // What was decided before the outage may be written just after it began.
    let begun = away.from + 2.0;
    let lowered = run.log.replicas.windows(2).find(|pair| {
        let (at, n) = pair[1];
        n < pair[0].1 && begun <= at && at < away.to
    });
    ensure!(
        lowered.is_none(),
        "replicas were lowered while queue sizes were away: {:?}",
        run.log.replicas
    );
    let raised = raises(run).into_iter().find(|(at, _)| *at >= away.to);
    ensure!(
        raised.is_none(),
        "replicas were raised after the outage: {:?}",
        run.log.replicas
    );
    let last = run.log.replicas.last().map(|(_, n)| *n);
    ensure!(
        last == Some(0),
        "replicas did not come down after the outage: {:?}",
        run.log.replicas
    );
    Ok(())
}

fn all_done(run: &Run) -> Result<()> {
    let undone = run.outcomes.iter().filter(|o| !o.completed).count();
    ensure!(undone == 0, "{undone} tasks were not done");
    let repeated = run.outcomes.iter().filter(|o| o.attempts != 1).count();
    ensure!(repeated == 0, "{repeated} tasks were done more than once");
    Ok(())
}
