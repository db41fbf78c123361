//! The end of a pod with tasks in work and more on their way: which are lost.

use std::{collections::HashMap, time::Duration};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{INPUT, SLOTS, TASK};
use embedded_conductor::BatchFill;

use crate::{
    contender::Contender,
    load::{Cores, Running, Work},
    server::{Options, Server, Step, What},
};

/// How many tasks nobody works on any more, though the server believes so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Of the 64 that were in work.
    pub in_work: usize,
    /// Of those that came after the signal.
    pub arriving: usize,
    /// How many of the later 64 were given to a poll at all.
    pub given: usize,
}

/// How long a task takes.
const TAKES: Duration = Duration::from_secs(2);

/// 128 slots, half of them busy and the other half polled for; then the end, and 64 more.
pub async fn measure(contender: &Contender, cores: Cores) -> Result<Lost> {
    let options = Options {
        journal: true,
        // A poll is open until its batch is full or its time is over: so all 64 can arrive in it.
        batch_fill: BatchFill::Sql,
        ..Options::default()
    };
    let server = Server::start(options, &[TASK]).await?;
    let work = Work {
        types: &[TASK],
        concurrency: 2 * SLOTS,
        takes: TAKES,
    };
    let mut running = Running::start(contender, &server.base, cores, work).await?;
    let long = Duration::from_secs(60);
    server
        .until(long, "it polls", |counts| counts.polls > 0)
        .await?;
    server.fill(TASK, SLOTS, INPUT).await?;
    let first = u64::try_from(SLOTS)?;
    server
        .until(long, "64 tasks are in work", |counts| {
            counts.delivered >= first
        })
        .await?;
    // Its next poll is open.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let more = async {
        // The signal first.
        tokio::time::sleep(Duration::from_millis(10)).await;
        server.fill(TASK, SLOTS, INPUT).await
    };
    let (ended, more) = tokio::join!(running.end_as_pod(contender), more);
    ended?;
    more?;
    // A poll of a worker that is gone stays open at the server for five seconds at most.
    let quiet = TAKES + Duration::from_secs(5);
    let end = tokio::time::Instant::now() + quiet;
    let mut journal = server.journal().await?;
    while tokio::time::Instant::now() < end && !all_ended(&journal) {
        tokio::time::sleep(Duration::from_millis(200)).await;
        journal.extend(server.journal().await?);
    }
    Ok(lost(&journal, SLOTS))
}

fn all_ended(journal: &[Step]) -> bool {
    let ended = journal.iter().filter(|step| step.what == What::Ended);
    ended.count() == 2 * SLOTS
}

/// A task whose last step is that a poll has it is lost, now that the worker is gone. The
/// first `first` tasks were in work.
fn lost(journal: &[Step], first: usize) -> Lost {
    let mut order: HashMap<&str, usize> = HashMap::new();
    let mut ends: HashMap<&str, What> = HashMap::new();
    let mut lost = Lost::default();
    for step in journal {
        let next = order.len();
        let number = *order.entry(&step.task).or_insert(next);
        if step.what == What::Given && number >= first {
            lost.given += 1;
        }
        ends.insert(&step.task, step.what);
    }
    for (task, what) in ends {
        if what == What::Given {
            if order[task] < first {
                lost.in_work += 1;
            } else {
                lost.arriving += 1;
            }
        }
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_is_what_was_given_and_neither_ended_nor_went_back() {
        use What::{Ended, Given, Queued};
        let steps = [
            ("ended", &[Queued, Given, Ended][..]),
            ("in work", &[Queued, Given]),
            ("arrived", &[Queued, Given]),
            ("went back", &[Queued, Given, Queued]),
            ("waits", &[Queued]),
        ];
        let journal: Vec<Step> = steps
            .into_iter()
            .flat_map(|(task, whats)| whats.iter().map(move |what| (task, *what)))
            .map(|(task, what)| Step {
                task: task.to_owned(),
                what,
                at: 0,
            })
            .collect();
        let expected = Lost {
            in_work: 1,
            arriving: 1,
            given: 2,
        };
        assert_eq!(lost(&journal, 2), expected);
    }
}
