//! What `dev` prints: a line while it runs, a summary at the end. Pure.

use std::fmt::Write as _;

/// One worker at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    /// Seconds since the start.
    pub(crate) seconds: u64,
    /// The worker's name.
    pub(crate) worker: String,
    /// Tasks that wait.
    pub(crate) queue: Option<u64>,
    /// Pods that are ready, and pods asked for.
    pub(crate) ready: u32,
    /// Pods asked for.
    pub(crate) desired: u32,
    /// Tasks that run.
    pub(crate) busy: u32,
    /// Slots of the ready pods.
    pub(crate) slots: u32,
    /// Tasks ended per second, since the line before.
    pub(crate) done_per_second: f64,
    /// The decision and its reason.
    pub(crate) decision: String,
}

impl Progress {
    /// The line.
    pub(crate) fn line(&self) -> String {
        let queue = self.queue.map_or_else(|| "?".to_owned(), |q| q.to_string());
        format!(
            "{:>4}s  {}  queue {queue:>5}  pods {:>2}/{:<2}  busy {:>3}/{:<3}  done/s {:>6.1}  {}",
            self.seconds,
            self.worker,
            self.ready,
            self.desired,
            self.busy,
            self.slots,
            self.done_per_second,
            self.decision
        )
    }
}

/// What became of a load. Waits are from a task's scheduling to its start, in seconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Summary {
    /// Workflows started.
    pub(crate) started: usize,
    /// Workflows COMPLETED.
    pub(crate) completed: usize,
    /// Workflows that ended otherwise, and why.
    pub(crate) failed: Vec<String>,
    /// Workflows that had not ended.
    pub(crate) open: usize,
    /// Task executions beyond the first of a task.
    pub(crate) retries: u32,
    /// Every task's wait.
    pub(crate) waits: Vec<f64>,
    /// Seconds from the first start to the last end.
    pub(crate) seconds: f64,
    /// Most pods ready at one time.
    pub(crate) most_replicas: u32,
}

impl Summary {
    /// True if every workflow was COMPLETED.
    pub(crate) fn is_success(&self) -> bool {
        self.started > 0 && self.completed == self.started
    }

    /// The summary in lines.
    pub(crate) fn text(&self) -> String {
        let mut waits = self.waits.clone();
        waits.sort_by(f64::total_cmp);
        let open = match self.open {
            0 => String::new(),
            n => format!("{n} not ended, "),
        };
        let mut text = format!(
            "{} workflows in {:.1} s: {} completed, {} failed, {open}{} retries\n\
             waits p50 {:.2} s, p95 {:.2} s, most {:.2} s; most replicas {}",
            self.started,
            self.seconds,
            self.completed,
            self.failed.len(),
            self.retries,
            quantile(&waits, 50),
            quantile(&waits, 95),
            quantile(&waits, 100),
            self.most_replicas,
        );
        for why in self.failed.iter().take(5) {
            let _ = write!(text, "\nfailed: {why}");
        }
        text
    }
}

/// The nearest-rank percentile of sorted values; 0 where there are none.
fn quantile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_says_what_became_of_the_load() {
        let mut s = Summary {
            started: 100,
            completed: 100,
            waits: (1..=100).rev().map(f64::from).collect(),
            seconds: 12.34,
            most_replicas: 5,
            ..Summary::default()
        };
        assert_eq!(
            s.text(),
            "100 workflows in 12.3 s: 100 completed, 0 failed, 0 retries\n\
             waits p50 50.00 s, p95 95.00 s, most 100.00 s; most replicas 5"
        );
        assert!(s.is_success());
        s.completed = 99;
        s.failed.push("w-1 is FAILED: no name".into());
        assert!(!s.is_success());
        assert!(
            s.text().contains("99 completed, 1 failed")
                && s.text().ends_with("failed: w-1 is FAILED: no name")
        );
    }

    #[test]
    fn what_had_not_ended_has_not_failed() {
        let s = Summary {
            started: 3,
            completed: 2,
            open: 1,
            ..Summary::default()
        };
        assert!(!s.is_success());
        let said = "3 workflows in 0.0 s: 2 completed, 0 failed, 1 not ended, 0 retries\n";
        assert!(s.text().starts_with(said), "{}", s.text());
    }

    #[test]
    fn nothing_is_no_success() {
        assert!(!Summary::default().is_success());
        assert!(Summary::default().text().contains("p50 0.00 s"));
    }

    #[test]
    fn a_line_is_aligned() {
        let p = Progress {
            seconds: 7,
            worker: "greet".into(),
            queue: Some(12),
            ready: 2,
            desired: 3,
            busy: 8,
            slots: 8,
            done_per_second: 39.96,
            decision: "ScaledUp".into(),
        };
        assert_eq!(
            p.line(),
            "   7s  greet  queue    12  pods  2/3   busy   8/8    done/s   40.0  ScaledUp"
        );
    }
}
