//! A steady load: workflows of one task each, started past the proxy.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use conductor_client::{Client, StartWorkflow};
use serde_json::{Map, Value};
use tokio::{
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
    time::{Instant, MissedTickBehavior, sleep},
};

/// The longest that a task takes, in milliseconds.
const LONGEST: u64 = 20;

/// Starts under way at once: while the server is away no more than these are repeated.
const AT_ONCE: usize = 32;

/// A start that was not taken for so long never will be.
const PATIENCE: Duration = Duration::from_secs(240);

/// A load under way, or over.
#[derive(Debug)]
pub(crate) struct Load {
    started: Arc<Mutex<Vec<String>>>,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Load {
    /// Starts `tasks` workflows of this name at `rate` a second. How long each task takes, 0
    /// to 20 ms, is chosen by the seed.
    pub(crate) fn start(
        client: &Client,
        workflow: &str,
        tasks: usize,
        rate: f64,
        seed: u64,
    ) -> Self {
        let started = Arc::new(Mutex::new(Vec::with_capacity(tasks)));
        let (client, workflow, ids) = (client.clone(), workflow.to_owned(), started.clone());
        let running = tokio::spawn(async move {
            let mut dice = fastrand::Rng::with_seed(seed);
            let mut ticks = tokio::time::interval(Duration::from_secs(1).div_f64(rate));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let permits = Arc::new(Semaphore::new(AT_ONCE));
            let mut starts = JoinSet::new();
            for _ in 0..tasks {
                ticks.tick().await;
                let permit = permits.clone().acquire_owned().await?;
                let start = request(&workflow, dice.u64(0..=LONGEST));
                let (client, ids) = (client.clone(), ids.clone());
                starts.spawn(async move {
                    let id = started_in_the_end(&client, &start).await?;
                    ids.lock().unwrap_or_else(PoisonError::into_inner).push(id);
                    drop(permit);
                    anyhow::Ok(())
                });
                while let Some(start) = starts.try_join_next() {
                    start??;
                }
            }
            while let Some(start) = starts.join_next().await {
                start??;
            }
            Ok(())
        });
        Self { started, running }
    }

    /// All workflows' ids, once all are started.
    pub(crate) async fn ids(self) -> anyhow::Result<Vec<String>> {
        self.running.await??;
        let ids = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(ids.clone())
    }
}

/// A request for a workflow of one task that takes so long.
pub(crate) fn request(workflow: &str, millis: u64) -> StartWorkflow {
    StartWorkflow {
        name: workflow.to_owned(),
        input: Map::from_iter([("value".to_owned(), Value::from(millis))]),
        ..StartWorkflow::default()
    }
}

/// The server may be away for a while.
async fn started_in_the_end(client: &Client, start: &StartWorkflow) -> anyhow::Result<String> {
    let began = Instant::now();
    loop {
        match client.start_workflow(start).await {
            Ok(id) => return Ok(id),
            Err(error) if began.elapsed() >= PATIENCE => return Err(error.into()),
            Err(_) => sleep(Duration::from_millis(200)).await,
        }
    }
}
