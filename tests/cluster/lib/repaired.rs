//! What Conductor says that it has done to tasks by itself.

use std::collections::BTreeSet;

/// The tasks of which Conductor's log says that its sweeper has queued them again
/// (`WorkflowRepairService` and `WorkflowSweeper`: `Going to repair the task ID / REF`). It takes a
/// task that is just being polled for one that its queue has lost, and two workers have it then.
pub fn repaired(log: &str) -> BTreeSet<String> {
    let told = log.lines().filter_map(|line| {
        let (_, rest) = line.split_once("Going to repair the task ")?;
        rest.split_whitespace().next()
    });
    told.map(str::to_owned).collect()
}
