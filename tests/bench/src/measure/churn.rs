//! Very many tasks through one sidecar: whether its memory grows.

use std::time::Duration;

use anyhow::Result;

use super::{INPUT, SLOTS, TASK};
use crate::{
    contender::Contender,
    load::{Cores, Running, Work},
    server::{Options, Server},
    summary::count,
};

/// Tasks in the queue at a time.
const AHEAD: usize = 20_000;

/// Resident memory after so many tasks.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    /// Tasks completed.
    pub tasks: u64,
    /// Resident memory in MiB.
    pub resident: f64,
}

/// The growth from the first point at or after `warm_up` tasks to the last, in MiB.
pub fn growth(points: &[Point], warm_up: u64) -> Option<f64> {
    let first = points.iter().find(|point| point.tasks >= warm_up)?;
    Some(points.last()?.resident - first.resident)
}

/// Looks after every 20,000 tasks and tells of it at once.
pub async fn measure(
    contender: &Contender,
    cores: Cores,
    tasks: usize,
    mut seen: impl FnMut(Point),
) -> Result<Vec<Point>> {
    let options = Options {
        keep_ended: Some(1000),
        ..Options::default()
    };
    let server = Server::start(options, &[TASK]).await?;
    let work = Work {
        types: &[TASK],
        concurrency: SLOTS,
        takes: Duration::ZERO,
    };
    let running = Running::start(contender, &server.base, cores, work).await?;
    let mut points = Vec::new();
    let mut started = 0;
    while started < tasks {
        let more = AHEAD.min(tasks - started);
        server.fill(TASK, more, INPUT).await?;
        started += more;
        let all_but = u64::try_from(started.saturating_sub(SLOTS))?;
        let counts = server.completed(all_but, Duration::from_secs(300)).await?;
        let kib = running.used()?.worker.resident;
        let point = Point {
            tasks: counts.completed,
            resident: count(usize::try_from(kib)?) / 1024.0,
        };
        seen(point);
        points.push(point);
    }
    drop(running);
    Ok(points)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_counts_from_the_end_of_the_warm_up() {
        let point = |tasks, resident| Point { tasks, resident };
        let points = [point(10, 5.0), point(20, 9.0), point(30, 9.5)];
        assert_eq!(growth(&points, 15), Some(0.5));
        assert_eq!(growth(&points, 40), None);
    }
}
