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

/// What came of something, once what it broke is mended, whatever that was. The first error is what
/// is told.
pub async fn mended<T>(done: Result<T>, mend: impl Future<Output = Result<()>>) -> Result<T> {
    match (done, mend.await) {
        (Ok(done), Ok(())) => Ok(done),
        (Ok(_), Err(error)) => Err(error.context("it was not mended")),
        (Err(error), Ok(())) => Err(error),
        (Err(error), Err(too)) => {
            eprintln!("nor was it mended: {too:#}");
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use anyhow::bail;

    use super::*;

    #[tokio::test]
    async fn what_fails_is_mended_too() {
        let times = Cell::new(0);
        let mend = || async {
            times.set(times.get() + 1);
            Ok(())
        };
        assert_eq!(mended(Ok(7), mend()).await.unwrap(), 7);
        let broken: Result<()> = Err(anyhow::anyhow!("broken"));
        let told = mended(broken, mend()).await.unwrap_err();
        assert_eq!((told.to_string().as_str(), times.get()), ("broken", 2));
        let both: Result<()> = Err(anyhow::anyhow!("the first"));
        let told = mended(both, async { bail!("the second") }).await;
        assert_eq!(told.unwrap_err().to_string(), "the first");
        let late = mended(Ok(()), async { bail!("it stays off") }).await;
        assert_eq!(
            format!("{:#}", late.unwrap_err()),
            "it was not mended: it stays off"
        );
    }
}
