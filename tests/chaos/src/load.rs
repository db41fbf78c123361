//! Workflows that are started, and waited for.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Result;
use conductor_client::{Client, StartWorkflow, Workflow};
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use live::load::Job;
use serde_json::{Map, Value};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    course::{Course, Phase},
    retry::until,
};

/// Calls in the air at once.
const AT_ONCE: usize = 16;

/// The longest from the last task's arrival to its end: retries after leases and an outage, and
/// Conductor's own detection.
const FINISH: Duration = Duration::from_secs(480);

/// A workflow that was started.
#[derive(Debug, Clone, PartialEq)]
pub struct Started {
    /// Its id.
    pub id: String,
    /// How long its task takes, in seconds.
    pub takes: f64,
    /// It is known to have ended.
    pub is_ended: bool,
}

/// The workflows of a run.
#[derive(Debug)]
pub struct Load {
    conductor: Client,
    name: String,
    /// By the numbers of their jobs.
    started: Mutex<BTreeMap<usize, Started>>,
}

impl Load {
    /// None yet, of the workflow of this name.
    pub fn new(conductor: &Client, name: &str) -> Self {
        Self {
            conductor: conductor.clone(),
            name: name.to_owned(),
            started: Mutex::default(),
        }
    }

    /// Those that were started so far, in their jobs' order.
    pub fn started(&self) -> Vec<Started> {
        lock(&self.started).values().cloned().collect()
    }

    /// Starts a workflow for each job at its time after `zero`, until the run is given up, or enough
    /// have been started and all is mended. One whose start is not answered is started again; the
    /// first may have been started all the same, and nobody waits for it.
    pub async fn arrive(
        self: Arc<Self>,
        jobs: Vec<Job>,
        zero: Instant,
        enough: usize,
        course: Arc<Course>,
    ) -> Result<()> {
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        let mut starting = JoinSet::new();
        for (n, job) in jobs.iter().enumerate() {
            let arrived = async {
                sleep_until(zero + Duration::from_secs_f64(job.at)).await;
                permits.clone().acquire_owned().await
            };
            let Some(permit) = course.unless_given_up(arrived).await else {
                break;
            };
            let permit = permit?;
            if n >= enough && course.phase() >= Phase::Mended {
                break;
            }
            let (load, course, takes) = (self.clone(), course.clone(), job.seconds);
            starting.spawn(async move {
                load.start(n, takes, &course).await?;
                drop(permit);
                anyhow::Ok(())
            });
            while let Some(one) = starting.try_join_next() {
                one??;
            }
        }
        while let Some(one) = starting.join_next().await {
            one??;
        }
        Ok(())
    }

    async fn start(&self, n: usize, takes: f64, course: &Course) -> Result<()> {
        let start = StartWorkflow {
            name: self.name.clone(),
            input: Map::from_iter([("seconds".to_owned(), Value::from(takes))]),
            ..StartWorkflow::default()
        };
        let id = until("a workflow is started", FINISH, || async {
            if course.phase() == Phase::GivenUp {
                return Ok(None);
            }
            // Its answer is waited for even then: who is not known cannot be ended.
            Ok(Some(self.conductor.start_workflow(&start).await?))
        });
        if let Some(id) = id.await? {
            let started = Started {
                id,
                takes,
                is_ended: false,
            };
            lock(&self.started).insert(n, started);
        }
        Ok(())
    }

    /// Waits until every workflow has ended, or for so long as that may take: what has not ended then
    /// is found when it is read. Nobody waits where the run is given up.
    pub async fn finish(&self, course: &Course) -> Result<()> {
        let end = Instant::now() + FINISH;
        while self.look().await? > 0 && Instant::now() < end && course.phase() != Phase::GivenUp {
            sleep(Duration::from_millis(500)).await;
        }
        Ok(())
    }

    /// How many have not ended.
    async fn look(&self) -> Result<usize> {
        let open: Vec<(usize, String)> = lock(&self.started)
            .iter()
            .filter(|(_, one)| !one.is_ended)
            .map(|(n, one)| (*n, one.id.clone()))
            .collect();
        let ids = open.iter().map(|(_, id)| id.as_str());
        let read: Vec<Workflow> = self.workflows(ids, false).try_collect().await?;
        let mut started = lock(&self.started);
        let mut left = open.len();
        for ((n, _), workflow) in open.iter().zip(read) {
            if let Some(one) = started.get_mut(n).filter(|_| workflow.status.is_terminal()) {
                one.is_ended = true;
                left -= 1;
            }
        }
        Ok(left)
    }

    /// Ends those that have not ended, so that the next worker of this name does not find them. A
    /// Conductor that does not answer is not asked again: others need it more.
    pub async fn abandon(&self) -> Result<()> {
        let open = self.started().into_iter().filter(|one| !one.is_ended);
        let ending = open.map(|Started { id, .. }| async move {
            // It may have ended by itself, or not be known to a Conductor that began anew.
            let workflow = match self.conductor.get_workflow(&id, false).await {
                Err(error) if error.status() == Some(404) => return Ok(()),
                workflow => workflow?,
            };
            if !workflow.status.is_terminal() {
                let why = "the run is over";
                self.conductor.terminate_workflow(&id, why).await?;
            }
            anyhow::Ok(())
        });
        let mut ending = stream::iter(ending).buffer_unordered(AT_ONCE);
        while ending.try_next().await?.is_some() {}
        Ok(())
    }

    /// Reads workflows, some at once, in their order.
    pub fn workflows<'a>(
        &self,
        ids: impl IntoIterator<Item = &'a str>,
        with_tasks: bool,
    ) -> impl Stream<Item = Result<Workflow>> {
        let reading = ids.into_iter().map(move |id| {
            until("a workflow is read", FINISH, move || async move {
                Ok(self.conductor.get_workflow(id, with_tasks).await?)
            })
        });
        stream::iter(reading).buffered(AT_ONCE)
    }
}

fn lock(started: &Mutex<BTreeMap<usize, Started>>) -> MutexGuard<'_, BTreeMap<usize, Started>> {
    started.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use conductor_client::WorkflowStatus;
    use harness::Server;

    use super::*;

    fn jobs(n: u32) -> Vec<Job> {
        let at = |n| f64::from(n) * 0.01;
        let job = |n| Job {
            at: at(n),
            seconds: 1.0,
        };
        (0..n).map(job).collect()
    }

    async fn a_load() -> (Server, Arc<Load>, Arc<Course>) {
        let server = Server::embedded().await.unwrap();
        let name = server.register("load").await.unwrap();
        let load = Load::new(server.client(), &name);
        (server, Arc::new(load), Arc::default())
    }

    #[tokio::test]
    async fn enough_arrive_and_no_more_once_all_is_mended() {
        let (_server, load, course) = a_load().await;
        course.advance(Phase::Mended);
        let arriving = load.clone().arrive(jobs(9), Instant::now(), 3, course);
        arriving.await.unwrap();
        assert_eq!(load.started().len(), 3);
    }

    #[tokio::test]
    async fn a_run_that_is_given_up_leaves_no_workflow_behind() {
        let (server, load, course) = a_load().await;
        let mut jobs = jobs(3);
        // This one would be an hour away.
        jobs.push(Job {
            at: 3600.0,
            seconds: 1.0,
        });
        let arriving = load
            .clone()
            .arrive(jobs, Instant::now(), usize::MAX, course.clone());
        let arriving = tokio::spawn(arriving);
        until("three are started", FINISH, || async {
            anyhow::ensure!(load.started().len() == 3);
            Ok(())
        })
        .await
        .unwrap();
        let failed = async { anyhow::bail!("an act failed") as Result<()> };
        course.part(failed).await;
        arriving.await.unwrap().unwrap();
        load.finish(&course).await.unwrap();
        load.abandon().await.unwrap();
        for one in load.started() {
            let workflow = server.client().get_workflow(&one.id, false);
            assert_eq!(workflow.await.unwrap().status, WorkflowStatus::Terminated);
        }
    }
}
