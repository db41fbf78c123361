//! What arrival processes cannot be.

use super::{
    Checked, above_zero, distribution, finite, not_negative, points, require, share, span,
};
use crate::scenario::Arrivals;

/// More tasks than this from one process would not fit into memory.
const MOST_TASKS: f64 = 1e8;

impl Arrivals {
    pub(super) fn check(&self, at: &str) -> Checked {
        let key = |name: &str| format!("{at}.{name}");
        match self {
            Self::Burst { at, spread, .. } => {
                not_negative(&key("at"), *at)?;
                not_negative(&key("spread"), *spread)?;
            }
            Self::Poisson { from, to, rate, .. } => {
                span(at, *from, *to)?;
                not_negative(&key("rate"), *rate)?;
            }
            Self::Regular {
                from, to, interval, ..
            } => {
                span(at, *from, *to)?;
                above_zero(&key("interval"), *interval)?;
            }
            Self::Sine {
                from,
                to,
                mean,
                amplitude,
                period,
                phase,
                ..
            } => {
                span(at, *from, *to)?;
                finite(&key("mean"), *mean)?;
                finite(&key("amplitude"), *amplitude)?;
                above_zero(&key("period"), *period)?;
                finite(&key("phase"), *phase)?;
            }
            Self::Sawtooth {
                from,
                to,
                low,
                high,
                period,
                ..
            } => {
                span(at, *from, *to)?;
                wave(at, *low, *high, *period)?;
            }
            Self::Square {
                from,
                to,
                low,
                high,
                period,
                duty,
                ..
            } => {
                span(at, *from, *to)?;
                wave(at, *low, *high, *period)?;
                share(&key("duty"), *duty)?;
            }
            Self::Piecewise { points: list, .. } => points(&key("points"), list)?,
            Self::Mmpp {
                from,
                to,
                rates,
                holds,
                ..
            } => {
                span(at, *from, *to)?;
                states(at, rates, holds)?;
            }
            Self::Trace { times, .. } => {
                for (i, t) in times.iter().enumerate() {
                    not_negative(&key(&format!("times[{i}]")), *t)?;
                }
            }
        }
        let tasks = self.most_tasks();
        require(
            at,
            format!("about {tasks:.0} tasks"),
            tasks <= MOST_TASKS,
            "a rate and a span of at most 100 million tasks",
        )?;
        match self.delay() {
            Some(delay) => distribution(&key("delay"), delay),
            None => Ok(()),
        }
    }

    /// Tasks at the highest rate all the time.
    fn most_tasks(&self) -> f64 {
        match self {
            Self::Burst { count, .. } => f64::from(*count),
            Self::Poisson { from, to, rate, .. } => (to - from) * rate,
            Self::Regular {
                from, to, interval, ..
            } => (to - from) / interval,
            Self::Sine {
                from,
                to,
                mean,
                amplitude,
                ..
            } => (to - from) * (mean + amplitude.abs()),
            Self::Sawtooth {
                from,
                to,
                low,
                high,
                ..
            }
            | Self::Square {
                from,
                to,
                low,
                high,
                ..
            } => (to - from) * low.max(*high),
            Self::Piecewise { points, .. } => {
                let first = points.first().map_or(0.0, |p| p.0);
                let last = points.last().map_or(0.0, |p| p.0);
                (last - first) * points.iter().map(|p| p.1).fold(0.0, f64::max)
            }
            Self::Mmpp {
                from, to, rates, ..
            } => (to - from) * rates.iter().copied().fold(0.0, f64::max),
            Self::Trace { times, .. } => times.len() as f64,
        }
    }
}

fn wave(at: &str, low: f64, high: f64, period: f64) -> Checked {
    not_negative(&format!("{at}.low"), low)?;
    not_negative(&format!("{at}.high"), high)?;
    above_zero(&format!("{at}.period"), period)
}

fn states(at: &str, rates: &[f64], holds: &[f64]) -> Checked {
    require(
        &format!("{at}.holds"),
        format!("{} numbers", holds.len()),
        !rates.is_empty() && holds.len() == rates.len(),
        "as many holds as rates, at least one",
    )?;
    for (i, rate) in rates.iter().enumerate() {
        not_negative(&format!("{at}.rates[{i}]"), *rate)?;
    }
    for (i, hold) in holds.iter().enumerate() {
        above_zero(&format!("{at}.holds[{i}]"), *hold)?;
    }
    Ok(())
}
