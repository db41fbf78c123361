//! How much is done: the short form or the long one.

use std::{env, time::Duration};

use anyhow::Context as _;

/// The settings of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Profile {
    pub(crate) long: bool,
    /// Tasks a fault.
    pub(crate) tasks: usize,
    /// How long a fault lasts.
    pub(crate) fault: Duration,
    /// How long Conductor is away in the test of that.
    pub(crate) away: Duration,
    /// Tasks in the test of memory, twice.
    pub(crate) churn: u64,
    /// `responseTimeoutSeconds`, longer than a fault.
    pub(crate) lease_seconds: u64,
    /// The sidecar's.
    pub(crate) slots: usize,
    pub(crate) seed: u64,
}

impl Profile {
    /// As the environment asks.
    pub(crate) fn read() -> anyhow::Result<Self> {
        let long = match env::var("FAULTS").as_deref() {
            Err(env::VarError::NotPresent) | Ok("" | "short") => false,
            Ok("long") => true,
            other => anyhow::bail!("FAULTS is {other:?}; write short or long"),
        };
        let seconds = Duration::from_secs;
        Ok(Self {
            long,
            tasks: number("FAULTS_TASKS")?
                .map_or(Ok(if long { 10_000 } else { 300 }), usize::try_from)?,
            fault: seconds(if long { 5 } else { 2 }),
            away: seconds(if long { 600 } else { 20 }),
            churn: if long { 1_000_000 } else { 3000 },
            lease_seconds: 12,
            slots: 16,
            seed: number("FAULTS_SEED")?.unwrap_or_else(|| fastrand::u64(..)),
        })
    }

    /// Starts of workflows a second, well below what the slots could work off.
    pub(crate) fn rate(&self, real: bool) -> f64 {
        match (self.long, real) {
            (false, _) => 60.0,
            (true, true) => 150.0,
            (true, false) => 400.0,
        }
    }
}

fn number(name: &str) -> anyhow::Result<Option<u64>> {
    match env::var(name) {
        Ok(text) => {
            let number = text.parse();
            Ok(Some(number.with_context(|| {
                format!("{name} is {text:?}; write a whole number")
            })?))
        }
        Err(_) => Ok(None),
    }
}
