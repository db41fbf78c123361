//! Asking again while what is asked is broken on purpose.

use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, sleep};

/// The longest that anything is away in a run, and some time to come back.
const AWAY: Duration = Duration::from_secs(240);

/// Asks until there is an answer.
pub async fn again<T, F: Future<Output = Result<T>>>(
    what: &str,
    ask: impl FnMut() -> F,
) -> Result<T> {
    until(what, AWAY, ask).await
}

/// Asks until there is an answer, for at most so long; the last error is what is said then.
pub async fn until<T, F: Future<Output = Result<T>>>(
    what: &str,
    bound: Duration,
    mut ask: impl FnMut() -> F,
) -> Result<T> {
    let end = Instant::now() + bound;
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) if Instant::now() >= end => {
                return Err(error.context(format!("not within {bound:?}: {what}")));
            }
            Err(_) => sleep(Duration::from_millis(200)).await,
        }
    }
}
