//! Whether a fault did what it may do, and no more. Pure.

use conductor_client::{TaskStatus, Workflow, WorkflowStatus};

use crate::ledger::Executions;

/// The server may find a response time-out so much later than it happened: at once as a rule,
/// but it has been 7 s on a machine with other things to do.
const DETECTION_MS: u64 = 30_000;

/// An attempt at a task, as the server tells it. Times are epoch milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) status: TaskStatus,
    pub(crate) scheduled: u64,
    pub(crate) polled: u64,
    pub(crate) ended: u64,
}

/// What became of a workflow of one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fate {
    pub(crate) status: WorkflowStatus,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) executions: Executions,
}

/// What a fault may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct May {
    /// Answers that carry tasks may get lost: these tasks come back after their lease.
    pub(crate) strand: bool,
    /// It kills what holds tasks: so many may be executed again.
    pub(crate) repeat: usize,
}

/// What was seen of a fault.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) fates: Vec<Fate>,
    /// When the handler answered, in epoch milliseconds and in order.
    pub(crate) executed: Vec<u64>,
    /// When the fault began and ended, in epoch milliseconds.
    pub(crate) fault: (u64, u64),
    /// The task's `responseTimeoutSeconds`.
    pub(crate) lease_seconds: u64,
    pub(crate) slots: usize,
    /// The most requests in a second before the fault, and during it.
    pub(crate) requests: (usize, usize),
}

/// The figures of a fault.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Figures {
    pub(crate) tasks: usize,
    /// Workflows that are not COMPLETED, or COMPLETED without an execution.
    pub(crate) lost: usize,
    /// Executions beyond the first of each workflow.
    pub(crate) repeated: usize,
    /// Of these, such as began after the task had been answered once.
    pub(crate) after_end: usize,
    /// Attempts whose lease ran out.
    pub(crate) stranded: usize,
    /// The longest from such an attempt's poll to the next attempt's scheduling.
    pub(crate) longest_back_ms: u64,
    /// Tasks completed per second before the fault.
    pub(crate) before: f64,
    /// From the fault's end to the first second with at least 90 % of that.
    pub(crate) recovered_ms: u64,
    pub(crate) requests: (usize, usize),
    /// The most tasks executed in a second of the fault, and the most completed in one.
    pub(crate) during: (usize, usize),
}

impl Figures {
    /// The most requests in a second that are no storm: four for each slot, since a result is
    /// repeated after 200, 400 and 800 ms; four for each task that was executed in the fastest
    /// second, which takes two polls and a report; and as many for each that was completed in
    /// one, which with a fault in half of the reports takes another one or two.
    pub(crate) fn storm_bound(&self, slots: usize) -> usize {
        let (executed, completed) = self.during;
        4 * (slots + executed + completed)
    }
}

impl Fate {
    /// Of a workflow as the server has it.
    pub(crate) fn of(workflow: &Workflow, executions: Executions) -> Self {
        let ms = |time: i64| u64::try_from(time).unwrap_or(0);
        let mut tasks: Vec<_> = workflow.tasks.iter().collect();
        tasks.sort_by_key(|task| task.retry_count());
        Self {
            status: workflow.status,
            attempts: tasks
                .into_iter()
                .map(|task| Attempt {
                    status: task.status(),
                    scheduled: ms(task.scheduled_time()),
                    polled: ms(task.start_time()),
                    ended: ms(task.end_time()),
                })
                .collect(),
            executions,
        }
    }

    fn is_lost(&self) -> bool {
        self.status != WorkflowStatus::Completed || self.executions.ended == 0
    }
}

/// The figures, and every promise that was broken.
pub(crate) fn judge(seen: &Seen, may: May) -> (Figures, Vec<String>) {
    let figures = figures(seen);
    let mut broken = Vec::new();
    let mut holds = |holds: bool, why: String| {
        if !holds {
            broken.push(why);
        }
    };
    let Figures {
        lost,
        repeated,
        after_end,
        stranded,
        longest_back_ms,
        requests: (before, during),
        ..
    } = figures;
    let example = seen.fates.iter().find(|fate| fate.is_lost());
    let example = example.map_or(String::new(), |fate| format!(", such as {fate:?}"));
    holds(lost == 0, format!("{lost} tasks lost{example}"));
    holds(
        repeated <= may.repeat,
        format!(
            "{repeated} executions too many, {after_end} of them of finished tasks; {} allowed",
            may.repeat
        ),
    );
    holds(
        may.strand || may.repeat > 0 || stranded == 0,
        format!("{stranded} tasks lost their lease though nothing lost them"),
    );
    let bound = seen.lease_seconds * 1000 + DETECTION_MS;
    holds(
        longest_back_ms <= bound,
        format!("a stranded task came back after {longest_back_ms} ms, later than {bound}"),
    );
    let bound = figures.storm_bound(seen.slots);
    holds(
        during <= bound,
        format!("a retry storm: {during} requests in a second, {before} before; bound {bound}"),
    );
    (figures, broken)
}

fn figures(seen: &Seen) -> Figures {
    let mut figures = Figures {
        tasks: seen.fates.len(),
        requests: seen.requests,
        ..Figures::default()
    };
    let mut ends = Vec::with_capacity(seen.fates.len());
    for fate in &seen.fates {
        figures.lost += usize::from(fate.is_lost());
        figures.repeated += fate.executions.started.saturating_sub(1);
        figures.after_end += fate.executions.after_end;
        for pair in fate.attempts.windows(2) {
            if pair[0].status == TaskStatus::TimedOut {
                let back = pair[1].scheduled.saturating_sub(pair[0].polled);
                figures.stranded += 1;
                figures.longest_back_ms = figures.longest_back_ms.max(back);
            }
        }
        ends.extend(fate.attempts.last().map(|attempt| attempt.ended));
    }
    ends.sort_unstable();
    let (begin, end) = seen.fault;
    let before = ends
        .iter()
        .filter(|at| (begin.saturating_sub(1000)..begin).contains(at));
    let before = before.count();
    #[expect(clippy::cast_precision_loss, reason = "a rate per second")]
    {
        figures.before = before as f64;
    }
    let most = |times: &[u64]| {
        let of_fault =
            times.partition_point(|at| *at < begin)..times.partition_point(|at| *at < end);
        most_in_a_second(&times[of_fault])
    };
    figures.during = (most(&seen.executed), most(&ends));
    figures.recovered_ms = recovered(&ends, end, before);
    figures
}

/// Of moments in their order, in milliseconds.
fn most_in_a_second(times: &[u64]) -> usize {
    let (mut first, mut most) = (0, 0);
    for (last, at) in times.iter().enumerate() {
        while at - times[first] >= 1000 {
            first += 1;
        }
        most = most.max(last + 1 - first);
    }
    most
}

/// From `end` to the first second in which 90 % of `before` ended, or to the last end if no
/// so many are left. `ends` are in order.
fn recovered(ends: &[u64], end: u64, before: usize) -> u64 {
    let wanted = (before * 9).div_ceil(10).max(1);
    let after = &ends[ends.partition_point(|at| *at < end)..];
    let second = after
        .windows(wanted)
        .find(|second| second[wanted - 1] - second[0] < 1000);
    match (second, after.last()) {
        // The second may have begun before its first end, but not before the fault's.
        (Some(second), _) => second[wanted - 1].saturating_sub(999).saturating_sub(end),
        (None, Some(last)) => last - end,
        (None, None) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONCE: Executions = Executions {
        started: 1,
        ended: 1,
        after_end: 0,
    };

    fn attempt(status: TaskStatus, scheduled: u64, polled: u64, ended: u64) -> Attempt {
        Attempt {
            status,
            scheduled,
            polled,
            ended,
        }
    }

    fn fate(executions: Executions) -> Fate {
        Fate {
            status: WorkflowStatus::Completed,
            attempts: vec![attempt(TaskStatus::Completed, 0, 1, 2)],
            executions,
        }
    }

    fn seen(fates: Vec<Fate>) -> Seen {
        Seen {
            fates,
            executed: vec![3],
            fault: (1000, 2000),
            lease_seconds: 5,
            slots: 2,
            requests: (10, 8),
        }
    }

    const NOTHING: May = May {
        strand: false,
        repeat: 0,
    };

    #[test]
    fn a_fault_that_did_nothing_is_fine() {
        let (figures, broken) = judge(&seen(vec![fate(ONCE)]), NOTHING);
        assert!(broken.is_empty(), "{broken:?}");
        assert_eq!((figures.tasks, figures.lost, figures.repeated), (1, 0, 0));
    }

    #[test]
    fn what_is_lost_or_repeated_is_told() {
        let unfinished = Fate {
            status: WorkflowStatus::Running,
            ..fate(ONCE)
        };
        let never = fate(Executions::default());
        let again = fate(Executions {
            started: 3,
            ended: 2,
            after_end: 1,
        });
        let seen = seen(vec![unfinished, never, again]);
        let (figures, broken) = judge(&seen, NOTHING);
        assert_eq!(
            (figures.lost, figures.repeated, figures.after_end),
            (2, 2, 1)
        );
        assert_eq!(broken.len(), 2, "{broken:?}");
        let killed = May {
            strand: false,
            repeat: 2,
        };
        let broken = judge(&seen, killed).1;
        assert!(broken.len() == 1 && broken[0].starts_with("2 tasks lost, such as"));
    }

    #[test]
    fn stranded_tasks_come_back_in_time() {
        let stranded = |back| Fate {
            attempts: vec![
                attempt(TaskStatus::TimedOut, 0, 100, 100 + back),
                attempt(TaskStatus::Completed, 100 + back, 200 + back, 300 + back),
            ],
            ..fate(ONCE)
        };
        let lost_answers = May {
            strand: true,
            repeat: 0,
        };
        let in_time = seen(vec![stranded(5100)]);
        let (figures, broken) = judge(&in_time, lost_answers);
        assert!(broken.is_empty(), "{broken:?}");
        assert_eq!((figures.stranded, figures.longest_back_ms), (1, 5100));
        assert_eq!(judge(&in_time, NOTHING).1.len(), 1);
        let late = seen(vec![stranded(5001 + DETECTION_MS)]);
        assert_eq!(judge(&late, lost_answers).1.len(), 1);
    }

    #[test]
    fn a_storm_is_told() {
        let mut stormy = seen(vec![fate(ONCE)]);
        stormy.requests.1 += 1;
        assert_eq!(judge(&stormy, NOTHING).1.len(), 1);
        // A task that was executed and completed in the fault is worth eight more.
        stormy.fault = (0, 2000);
        stormy.requests.1 += 7;
        assert!(judge(&stormy, NOTHING).1.is_empty());
        stormy.requests.1 += 1;
        assert_eq!(judge(&stormy, NOTHING).1.len(), 1);
    }

    #[test]
    fn seconds_are_counted_wherever_they_begin() {
        assert_eq!(most_in_a_second(&[]), 0);
        assert_eq!(most_in_a_second(&[0, 999, 1000, 1998]), 3);
        assert_eq!(most_in_a_second(&[0, 1000, 2000]), 1);
    }

    #[test]
    fn recovery_is_the_first_full_second() {
        let steady = |from, to, step| (from..to).step_by(step).collect::<Vec<u64>>();
        assert_eq!(recovered(&steady(0, 9000, 100), 2000, 10), 0);
        let late = steady(4000, 9000, 100);
        assert_eq!(recovered(&late, 2000, 10), 1801, "9 by 4800");
        assert_eq!(recovered(&[2500, 6000], 2000, 10), 4000, "few are left");
        assert_eq!(recovered(&[1], 2000, 10), 0);
    }
}
