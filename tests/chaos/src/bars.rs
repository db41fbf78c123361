//! How quick a worker has to be beside those on the Go SDK. Pure.

use anyhow::{Context as _, Result, ensure};

use crate::checker::Figures;

/// What a worker on the Go SDK that is written with care takes beyond its tasks' own times, disturbed,
/// in seconds: the 99th percentile and the most.
const BEYOND: [f64; 2] = [1.66, 2.05];

/// How soon another pod has what was handed back, in seconds.
const PICKED_UP: f64 = 2.0;

/// How soon after its return Conductor has all results that waited, in seconds.
const AFTER_RETURN: f64 = 1.0;

/// Tasks take no longer than with a careful worker.
pub fn beyond(f: &Figures) -> Result<()> {
    let [_, p99, most] = f.beyond;
    ensure!(
        p99 <= BEYOND[0] && most <= BEYOND[1],
        "beyond the tasks' own times: p99 {p99:.2} s, most {most:.2} s, where {BEYOND:?} are allowed"
    );
    Ok(())
}

/// What was handed back another pod had soon. Something was.
pub fn picked_up(f: &Figures) -> Result<()> {
    let (times, [_, latest]) = f.handed_back;
    ensure!(times > 0, "nothing was handed back");
    ensure!(
        latest <= PICKED_UP,
        "what was handed back was picked up after {latest:.2} s"
    );
    Ok(())
}

/// Results that waited for Conductor were there soon after its return. Some did.
pub fn after_return(f: &Figures) -> Result<()> {
    let late = f.after_return;
    let late = late.context("no result waited for Conductor's return")?;
    ensure!(
        late <= AFTER_RETURN,
        "the last result came {late:.2} s after Conductor's return"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_longer_than_it_may_is_an_error() {
        let figures = |beyond: [f64; 2], handed_back, after_return| Figures {
            beyond: [0.1, beyond[0], beyond[1]],
            handed_back,
            after_return,
            ..Figures::default()
        };
        let good = figures([1.66, 2.05], (3, [0.1, 2.0]), Some(1.0));
        for bar in [beyond, picked_up, after_return] {
            bar(&good).unwrap();
        }
        let slow = figures([1.67, 2.05], (3, [0.1, 2.01]), Some(1.01));
        let nothing = figures([1.66, 2.06], (0, [0.0, 0.0]), None);
        for bad in [slow, nothing] {
            for bar in [beyond, picked_up, after_return] {
                bar(&bad).unwrap_err();
            }
        }
    }
}
