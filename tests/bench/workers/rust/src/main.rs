//! A worker on the Rust SDK: waits `BENCH_MS` and says when it began.

use std::{
    collections::HashMap,
    env,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use conductor::{
    configuration::Configuration,
    models::Task,
    worker::{FnWorker, TaskHandler, WorkerOutput},
};
use tokio::signal::unix::{SignalKind, signal};

type Error = Box<dyn std::error::Error>;

fn number(name: &str) -> Result<usize, Error> {
    let text = env::var(name)?;
    text.parse()
        .map_err(|_| format!("{name} is {text:?}; set it to a number").into())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let takes = Duration::from_millis(u64::try_from(number("BENCH_MS")?)?);
    let work = move |_: Task| async move {
        let began = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_micros());
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        let began = serde_json::json!(u64::try_from(began).unwrap_or(u64::MAX));
        Ok(WorkerOutput::completed(HashMap::from([(
            "began".to_owned(),
            began,
        )])))
    };
    let mut handler = TaskHandler::new(Configuration::default())?;
    let mut worker = FnWorker::new(env::var("BENCH_TASK")?, work)
        .with_thread_count(number("BENCH_CONCURRENCY")?);
    // The poll's time-out can be set in the environment alone.
    if env::var_os("BENCH_DEFAULTS").is_none() {
        worker = worker.with_poll_interval_millis(1);
    }
    handler.add_worker(worker);
    handler.start().await?;
    // The SDK itself listens for SIGINT alone; its own stop is used for SIGTERM too.
    signal(SignalKind::terminate())?.recv().await;
    handler.stop().await?;
    Ok(())
}
