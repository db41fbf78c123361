//! Instructions of the processor for each task, counted by callgrind: the same on a busy
//! machine as on a quiet one, as far as the order of events is the same.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};

use super::{SLOTS, TASK};
use crate::{
    contender::Contender,
    load::{Cores, Running, Work},
    server::{Options, Server},
    summary::count,
};

/// What a task costs.
#[derive(Debug, Clone, Copy)]
pub struct Instructions {
    /// Instructions a task, without what a start and an end cost.
    pub each: f64,
}

/// A load of 0 ms tasks.
#[derive(Debug, Clone, Copy)]
pub struct Tasks {
    /// How many.
    pub number: usize,
    /// The input of each, in bytes.
    pub size: usize,
}

/// A program under callgrind is about fifty times as slow.
const LONG: Duration = Duration::from_secs(300);

/// Two loads, of which the larger has these tasks more: the difference is theirs. Callgrind's
/// files are left in `folder`.
pub async fn measure(
    contender: &Contender,
    cores: Cores,
    Tasks { number, size }: Tasks,
    folder: &Path,
) -> Result<Instructions> {
    let few = 4 * SLOTS;
    let load = async |number, file| {
        let tasks = Tasks { number, size };
        load(contender, cores, tasks, file).await
    };
    let small = folder.join(format!("callgrind.{}.small", contender.name));
    let large = folder.join(format!("callgrind.{}", contender.name));
    let base = load(few, &small).await?;
    let all = load(few + number, &large).await?;
    let more = usize::try_from(all.saturating_sub(base))?;
    Ok(Instructions {
        each: count(more / 1000) * 1000.0 / count(number),
    })
}

/// Tasks under callgrind: the instructions of all of it.
async fn load(contender: &Contender, cores: Cores, tasks: Tasks, file: &Path) -> Result<u64> {
    let callgrind = [
        "valgrind".to_owned(),
        "-q".to_owned(),
        "--tool=callgrind".to_owned(),
        format!("--callgrind-out-file={}", file.display()),
    ];
    under(&callgrind, contender, cores, tasks).await?;
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("callgrind left no {}", file.display()))?;
    total(&text).with_context(|| format!("{} has no totals", file.display()))
}

/// Tasks through a worker that is run by another program, to the end of both.
pub async fn under(
    program: &[String],
    contender: &Contender,
    cores: Cores,
    Tasks { number, size }: Tasks,
) -> Result<()> {
    let server = Server::start(Options::default(), &[TASK]).await?;
    server.fill(TASK, number, size).await?;
    let work = Work {
        types: &[TASK],
        concurrency: SLOTS,
        takes: Duration::ZERO,
    };
    let mut running = Running::start_under(program, contender, &server.base, cores, work).await?;
    server.completed(u64::try_from(number)?, LONG).await?;
    running.end_as_pod(contender).await
}

/// The total of callgrind's file.
fn total(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("totals:"));
    line?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_the_last_line() {
        let text = "events: Ir\nsummary: 5\n\nfn=(1) main\n1 5\n\ntotals: 1234\n";
        assert_eq!(total(text), Some(1234));
        assert_eq!(total("events: Ir\n"), None);
    }
}
