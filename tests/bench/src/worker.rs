//! What the benchmark's own workers share: their settings and their output.

use std::{
    env,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};

/// What every worker is told, in the environment.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `BENCH_MS`: how long a task takes.
    pub takes: Duration,
    /// `BENCH_CONCURRENCY`: how many tasks at once, and in a batch.
    pub concurrency: usize,
}

impl Settings {
    /// From the environment.
    pub fn from_env() -> Result<Self> {
        Ok(Self {
            takes: Duration::from_millis(number("BENCH_MS")?),
            concurrency: number("BENCH_CONCURRENCY")?,
        })
    }

    /// `CONDUCTOR_SERVER_URL` and `BENCH_TASK`, the task type.
    pub fn conductor(&self) -> Result<(String, String)> {
        let text = |name: &str| env::var(name).with_context(|| format!("set {name}"));
        Ok((text("CONDUCTOR_SERVER_URL")?, text("BENCH_TASK")?))
    }
}

/// A number from the environment.
pub fn number<T: FromStr>(name: &str) -> Result<T> {
    let text = env::var(name).with_context(|| format!("set {name} to a number"))?;
    let number = text.parse().ok();
    number.with_context(|| format!("{name} is {text:?}; set it to a number"))
}

/// Microseconds since 1970, by the machine's clock.
pub fn micros() -> i64 {
    let epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    epoch.map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX))
}

/// A task's output: when its work began.
pub fn output(began: i64) -> String {
    format!(r#"{{"began":{began}}}"#)
}
