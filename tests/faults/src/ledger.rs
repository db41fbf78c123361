//! What handlers executed, as they wrote it down.

use std::{
    collections::HashMap,
    fmt,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;

/// Which end of an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The call came.
    Start,
    /// The call was answered.
    End,
}

/// A line of the ledger: `start 1764000000000 TASK WORKFLOW`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// Which end.
    pub moment: Moment,
    /// When, in epoch milliseconds.
    pub at: u64,
    /// The task.
    pub task_id: &'a str,
    /// Its workflow.
    pub workflow_id: &'a str,
}

impl<'a> Line<'a> {
    /// A line of this moment.
    pub fn now(moment: Moment, task_id: &'a str, workflow_id: &'a str) -> Self {
        Self {
            moment,
            at: now_ms(),
            task_id,
            workflow_id,
        }
    }

    /// Reads a line back; `None` if it is none.
    pub fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split(' ');
        let moment = match words.next()? {
            "start" => Moment::Start,
            "end" => Moment::End,
            _ => return None,
        };
        let line = Self {
            moment,
            at: words.next()?.parse().ok()?,
            task_id: words.next()?,
            workflow_id: words.next()?,
        };
        words.next().is_none().then_some(line)
    }
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = match self.moment {
            Moment::Start => "start",
            Moment::End => "end",
        };
        let Self {
            at,
            task_id,
            workflow_id,
            ..
        } = self;
        writeln!(f, "{moment} {at} {task_id} {workflow_id}")
    }
}

/// The time as Conductor tells it: epoch milliseconds.
pub fn now_ms() -> u64 {
    let epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    epoch.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// The executions of one workflow's only task, retries included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Executions {
    /// Calls begun.
    pub started: usize,
    /// Calls answered.
    pub ended: usize,
    /// Calls begun after one was answered: a finished task was executed again.
    pub after_end: usize,
}

/// A ledger, read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    by_workflow: HashMap<String, Executions>,
    ends: Vec<u64>,
}

impl Ledger {
    /// Reads a file; a missing one is an empty ledger.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Reads its lines. A line that cannot be read is an error, but for a last one that is
    /// being written.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let mut ledger = Self::default();
        for line in text.split_inclusive('\n') {
            let Some(line) = line.strip_suffix('\n') else {
                break;
            };
            let line = Line::parse(line).with_context(|| format!("no ledger line: {line:?}"))?;
            let workflow = ledger.by_workflow.entry(line.workflow_id.to_owned());
            let executions = workflow.or_default();
            match line.moment {
                Moment::Start => {
                    executions.started += 1;
                    executions.after_end += usize::from(executions.ended > 0);
                }
                Moment::End => {
                    executions.ended += 1;
                    ledger.ends.push(line.at);
                }
            }
        }
        ledger.ends.sort_unstable();
        Ok(ledger)
    }

    /// Of one workflow.
    pub fn of(&self, workflow_id: &str) -> Executions {
        self.by_workflow
            .get(workflow_id)
            .copied()
            .unwrap_or_default()
    }

    /// When calls were answered, in epoch milliseconds and in order.
    pub fn ends(&self) -> &[u64] {
        &self.ends
    }

    /// Calls under way.
    pub fn running(&self) -> usize {
        self.by_workflow
            .values()
            .map(|e| e.started.saturating_sub(e.ended))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let line = Line::now(Moment::End, "t", "w");
        assert_eq!(Line::parse(line.to_string().trim_end()), Some(line));
        for bad in ["", "begin 1 t w", "start x t w", "start 1 t", "end 1 t w x"] {
            assert_eq!(Line::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_start_after_an_end_is_an_execution_too_many() {
        let ledger = Ledger::parse(
            "start 1 t1 w\nend 2 t1 w\nstart 3 t2 w\nstart 3 a v\nstart 4 b v\nend 5 b v\nstart 6 c",
        )
        .unwrap();
        let twice = Executions {
            started: 2,
            ended: 1,
            after_end: 1,
        };
        assert_eq!(ledger.of("w"), twice);
        let retried = Executions {
            started: 2,
            ended: 1,
            after_end: 0,
        };
        assert_eq!(ledger.of("v"), retried);
        assert_eq!(ledger.of("nobody"), Executions::default());
        assert_eq!((ledger.ends(), ledger.running()), (&[2, 5][..], 2));
        assert!(Ledger::parse("nonsense\n").is_err());
    }
}
