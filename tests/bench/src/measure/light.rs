//! Light load: tasks of 5 ms that come at random, fifty a second. How long each waits for its
//! work to begin, and how long it takes on top of its work.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use conductor_client::{ApiBase, Client};
use embedded_conductor::BatchFill;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};

use super::{INPUT, SLOTS, TASK};
use crate::{
    contender::Contender,
    load::{Cores, Running, Work},
    server::{self, Options, Server, Step, What, start_request},
    summary::quantile,
    worker::micros,
};

/// Tasks a second.
const RATE: f64 = 50.0;
/// How long a task takes.
const TAKES: Duration = Duration::from_millis(5);
/// Of the moments at which tasks come.
const SEED: u64 = 1;
/// Tasks before the measured ones.
const WARM_UP: usize = 100;

/// One worker's figures, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Light {
    /// From the queue to the first line of the worker's function, the median.
    pub pick_up: f64,
    /// The same, the 99th percentile.
    pub pick_up_99: f64,
    /// From the queue to completion at the server, the median.
    pub turnaround: f64,
}

#[derive(Deserialize)]
struct Output {
    began: i64,
}

/// `tasks`: how many are measured. `batch_fill`: what kind of server. `SEED` decides when they
/// come, for everybody alike.
pub async fn measure(
    contender: &Contender,
    cores: Cores,
    tasks: usize,
    batch_fill: BatchFill,
) -> Result<Light> {
    let options = Options {
        journal: true,
        batch_fill,
        ..Options::default()
    };
    let server = Server::start(options, &[TASK]).await?;
    let work = Work {
        types: &[TASK],
        concurrency: SLOTS,
        takes: TAKES,
    };
    let running = Running::start(contender, &server.base, cores, work).await?;
    // It is there once a first task has gone through it.
    server.fill(TASK, SLOTS, INPUT).await?;
    let long = Duration::from_secs(60);
    server.completed(u64::try_from(SLOTS)?, long).await?;
    server.journal().await?;

    come(&server, WARM_UP + tasks).await?;
    let all = u64::try_from(SLOTS + WARM_UP + tasks)?;
    server.completed(all, long).await?;
    let journal = server.journal().await?;
    let measured: Vec<(i64, i64, String)> = turns(&journal).into_iter().skip(WARM_UP).collect();
    let began: Vec<i64> = stream::iter(&measured)
        .map(|(_, _, task)| began(&server, task))
        .buffered(8)
        .try_collect()
        .await?;
    drop(running);

    let pick_ups = sorted(measured.iter().zip(&began).map(|(m, began)| began - m.0));
    let turnarounds = sorted(measured.iter().map(|m| m.1 - m.0));
    let at = |figures, at| quantile(figures, at).context("no task was measured");
    Ok(Light {
        pick_up: at(&pick_ups, 0.5)?,
        pick_up_99: at(&pick_ups, 0.99)?,
        turnaround: at(&turnarounds, 0.5)?,
    })
}

/// How long tasks wait at a server that is there already, for one it can stand so many of a
/// second: from the moment that they are scheduled, which it tells in whole milliseconds, to the
/// first line of the worker's function. The median and the 99th percentile, in milliseconds.
pub async fn pick_up(
    contender: &Contender,
    cores: Cores,
    conductor: &str,
    tasks: usize,
    rate: f64,
) -> Result<(f64, f64)> {
    let client = Client::new(ApiBase::parse(conductor)?)?;
    let name = format!("bench_{:x}", micros());
    server::register(&client, &[&name]).await?;
    let work = Work {
        types: &[&name],
        concurrency: SLOTS,
        takes: TAKES,
    };
    let running = Running::start(contender, conductor, cores, work).await?;
    let start = server::start(&name, INPUT)?;
    let all = WARM_UP + tasks;
    let ids = arrivals(all, rate)
        .then(|at| {
            let (client, start) = (&client, &start);
            async move {
                tokio::time::sleep_until(at.into()).await;
                client.start_workflow(start).await
            }
        })
        .try_collect::<Vec<String>>()
        .await?;
    let mut waits = Vec::new();
    let end = Instant::now() + Duration::from_secs(60);
    for id in &ids[WARM_UP..] {
        let workflow = loop {
            let workflow = client.get_workflow(id, true).await?;
            if workflow.status.is_terminal() {
                break workflow;
            }
            anyhow::ensure!(Instant::now() < end, "workflow {id} does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let task = workflow.tasks.first().context("no task")?;
        let output = task.output_data().context("no output")?;
        let began = serde_json::from_str::<Output>(output.get())?.began;
        waits.push(began - task.scheduled_time() * 1000);
    }
    drop(running);
    let waits = sorted(waits.into_iter());
    let at = |at| quantile(&waits, at).context("no task was measured");
    Ok((at(0.5)?, at(0.99)?))
}

/// Moments as a Poisson process has them: the pauses are independent of each other.
fn arrivals(number: usize, rate: f64) -> stream::Iter<impl Iterator<Item = Instant>> {
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut at = Instant::now();
    stream::iter((0..number).map(move |_| {
        at += Duration::from_secs_f64(-(1.0 - random.f64()).ln() / rate);
        at
    }))
}

async fn come(server: &Server, number: usize) -> Result<()> {
    let body = Bytes::from(start_request(TASK, INPUT));
    // One that takes longer than the pause must not delay the next.
    let comes = arrivals(number, RATE).map(|at| {
        let body = body.clone();
        async move {
            tokio::time::sleep_until(at.into()).await;
            server.start_one(body).await
        }
    });
    comes.buffer_unordered(8).try_collect().await
}

/// Each task that ended: when it was queued, when it ended, its id; by the time it was queued.
fn turns(journal: &[Step]) -> Vec<(i64, i64, String)> {
    let mut queued: HashMap<&str, i64> = HashMap::new();
    let mut turns = Vec::new();
    for step in journal {
        match step.what {
            What::Queued => {
                queued.insert(&step.task, step.at);
            }
            What::Given => {}
            What::Ended => {
                if let Some(from) = queued.get(&*step.task) {
                    turns.push((*from, step.at, step.task.clone()));
                }
            }
        }
    }
    turns.sort();
    turns
}

async fn began(server: &Server, task: &str) -> Result<i64> {
    let task = server.client.get_task(task).await?;
    let output = task.output_data().context("no output")?;
    Ok(serde_json::from_str::<Output>(output.get())?.began)
}

/// From microseconds to milliseconds.
fn sorted(figures: impl Iterator<Item = i64>) -> Vec<f64> {
    let mut sorted: Vec<f64> = figures
        .map(|micros| f64::from(i32::try_from(micros).unwrap_or(i32::MAX)) / 1000.0)
        .collect();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_from_the_last_queue_to_the_end() {
        let step = |task: &str, what, at| Step {
            task: task.to_owned(),
            what,
            at,
        };
        let journal = [
            step("b", What::Queued, 1),
            step("a", What::Queued, 2),
            step("a", What::Given, 3),
            step("a", What::Ended, 9),
            step("b", What::Given, 3),
            step("b", What::Queued, 5),
            step("b", What::Ended, 7),
            step("c", What::Queued, 8),
        ];
        let turn = |from, to, task: &str| (from, to, task.to_owned());
        assert_eq!(turns(&journal), [turn(2, 9, "a"), turn(5, 7, "b")]);
    }
}
