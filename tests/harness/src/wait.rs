//! Waiting with a bound, and names that nobody else uses.

use std::{
    fmt::Display,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;

/// Asks until the answer is `Ok`, at the longest for `within`. The error says what was
/// waited for and what was seen last.
pub async fn eventually<T, E: Display>(
    what: &str,
    within: Duration,
    mut ask: impl AsyncFnMut() -> Result<T, E>,
) -> anyhow::Result<T> {
    let end = Instant::now() + within;
    let mut pause = Duration::from_millis(5);
    loop {
        let seen = match ask().await {
            Ok(value) => return Ok(value),
            Err(seen) => seen,
        };
        if Instant::now() >= end {
            anyhow::bail!("{what}: not within {within:?}; seen last: {seen}");
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

/// A name that no other test, and no earlier run on the same server, uses.
pub fn unique(name: &str) -> String {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    let millis = epoch.map_or(0, |d| d.as_millis());
    let number = GIVEN.fetch_add(1, Ordering::Relaxed);
    format!("{name}_{millis:x}_{:x}_{number}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_until_it_is_so_and_says_what_it_saw() {
        let mut asked = 0;
        let third = eventually("three", Duration::from_secs(5), async || {
            asked += 1;
            if asked == 3 { Ok(asked) } else { Err(asked) }
        });
        assert_eq!(third.await.unwrap(), 3);
        let never = eventually("never", Duration::ZERO, async || Err::<(), _>("nothing"));
        let message = never.await.unwrap_err().to_string();
        assert_eq!(message, "never: not within 0ns; seen last: nothing");
    }

    #[test]
    fn names_differ() {
        assert_ne!(unique("a"), unique("a"));
    }
}
