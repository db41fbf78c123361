//! What the handler of the suites tells of what it does.

use serde::{Deserialize, Serialize};

/// What a handler tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The task's id.
    pub task: String,
    /// The pod that executes it.
    pub pod: String,
    /// The beginning or the end.
    pub moment: Moment,
}

/// Of an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Moment {
    /// It begins.
    Began,
    /// It is done.
    Ended,
    /// Whoever had called does not wait for it any more.
    Cut,
}
