//! How many pods a worker needs.
//!
//! ```text
//! Policy (what the user states) ─┐
//! State  (what was seen before) ─┼─> decide ─> Decision (replicas, reason, terms)
//! Sample (what is seen now)     ─┤          └> State
//! Instant (what time it is)     ─┘
//! ```
//!
//! The user states a time: a task should start within `max_wait`. Execution times, start-up
//! times and rates are measured. The core is Little's law: `load` slots keep the backlog from
//! growing, `drain` slots empty it in time, and the larger of the two is needed, never their
//! sum, since the slots that serve the load serve the backlog too.
//!
//! # Invariants
//! - Pure: no IO, no clock, no randomness; time comes in as an [`Instant`].
//! - Never lowers on missing or old data.
//! - It says how many pods should take work. Pods above that number take no more and go when
//!   they are idle: who asks for the decision must see to that.
//! - The same inputs give the same decision.

mod blind;
mod decide;
mod demand;
mod input;
mod output;
mod saturation;
mod sentence;
mod state;
mod window;
pub mod words;

pub use decide::decide;
pub use input::{Instant, Policy, RateLimit, Sample, TaskPolicy, TaskSample};
pub use output::{Decision, Reason, TaskTerms, Terms};
pub use state::{Memory, State, TaskMemory};
