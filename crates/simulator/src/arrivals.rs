//! When tasks arrive.

use std::f64::consts::TAU;

use rand::distr::Distribution as _;
use rand_distr::Exp1;

use crate::{
    points::factor,
    random::{Stream, below, unit},
    scenario::Arrivals,
};

/// The arrivals of a process before `until`, ascending.
pub(crate) fn times(process: &Arrivals, until: f64, random: &mut Stream) -> Vec<f64> {
    let mut times = match process {
        Arrivals::Burst {
            at, count, spread, ..
        } => (0..*count).map(|_| at + spread * unit(random)).collect(),
        Arrivals::Poisson { from, to, rate, .. } => {
            thinned(*from, to.min(until), *rate, |_| *rate, random)
        }
        Arrivals::Regular {
            from, to, interval, ..
        } => (0..u32::MAX)
            .map(|n| from + f64::from(n) * interval)
            .take_while(|t| *t < to.min(until))
            .collect(),
        Arrivals::Sine {
            from,
            to,
            mean,
            amplitude,
            period,
            phase,
            ..
        } => {
            let rate = |t: f64| mean + amplitude * (TAU * (t - from) / period + phase).sin();
            thinned(*from, to.min(until), mean + amplitude.abs(), rate, random)
        }
        Arrivals::Sawtooth {
            from,
            to,
            low,
            high,
            period,
            ..
        } => {
            let rate = |t: f64| low + (high - low) * ((t - from) / period).fract();
            thinned(*from, to.min(until), low.max(*high), rate, random)
        }
        Arrivals::Square {
            from,
            to,
            low,
            high,
            period,
            duty,
            ..
        } => {
            let is_high = |t: f64| ((t - from) / period).fract() < *duty;
            let rate = |t: f64| if is_high(t) { *high } else { *low };
            thinned(*from, to.min(until), low.max(*high), rate, random)
        }
        Arrivals::Piecewise { points, .. } => {
            let from = points.first().map_or(0.0, |p| p.0).max(0.0);
            let to = points.last().map_or(0.0, |p| p.0).min(until);
            let most = points.iter().map(|p| p.1).fold(0.0, f64::max);
            thinned(from, to, most, |t| factor(points, t), random)
        }
        Arrivals::Mmpp {
            from,
            to,
            rates,
            holds,
            ..
        } => modulated(*from, to.min(until), rates, holds, random),
        Arrivals::Trace { times, .. } => times.clone(),
    };
    times.retain(|t| *t < until);
    times.sort_by(f64::total_cmp);
    times
}

/// A Poisson process of varying rate on [from, to): one of the highest rate, of which each
/// arrival stays with probability rate/most (Lewis and Shedler's thinning).
fn thinned(
    from: f64,
    to: f64,
    most: f64,
    rate: impl Fn(f64) -> f64,
    random: &mut Stream,
) -> Vec<f64> {
    let mut times = Vec::new();
    if most <= 0.0 {
        return times;
    }
    let mut t = from;
    loop {
        let gap: f64 = Exp1.sample(random);
        t += gap / most;
        if t >= to {
            return times;
        }
        if unit(random) * most < rate(t) {
            times.push(t);
        }
    }
}

/// A Poisson process whose rate is that of a state; the states are held for exponential times.
fn modulated(from: f64, to: f64, rates: &[f64], holds: &[f64], random: &mut Stream) -> Vec<f64> {
    let mut times = Vec::new();
    let (mut t, mut state) = (from, 0);
    while t < to {
        let hold: f64 = Exp1.sample(random);
        let end = (t + hold * holds[state]).min(to);
        times.extend(thinned(t, end, rates[state], |_| rates[state], random));
        t = end;
        if rates.len() > 1 {
            let other = below(random, rates.len() - 1);
            state = if other >= state { other + 1 } else { other };
        }
    }
    times
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream};

    fn drawn(yaml: &str) -> Vec<f64> {
        let process: Arrivals = serde_saphyr::from_str(yaml).unwrap();
        times(&process, 10_000.0, &mut stream(7, Purpose::Arrivals, 0))
    }

    fn close(n: usize, expected: f64) {
        // Four standard deviations of a Poisson count.
        assert!(
            (n as f64 - expected).abs() < 4.0 * expected.sqrt(),
            "{n} for {expected}"
        );
    }

    fn between(times: &[f64], from: f64, to: f64) -> usize {
        times.iter().filter(|t| (from..to).contains(*t)).count()
    }

    #[test]
    fn a_burst_is_exact_and_spread_evenly() {
        assert_eq!(drawn("{kind: burst, at: 67, count: 5}"), [67.0; 5]);
        let spread = drawn("{kind: burst, at: 100, count: 10000, spread: 10}");
        assert_eq!(spread.len(), 10_000);
        close(between(&spread, 100.0, 105.0), 5000.0);
        assert!(drawn("{kind: burst, at: 10000, count: 5}").is_empty());
    }

    #[test]
    fn rates_are_kept() {
        close(
            drawn("{kind: poisson, from: 100, to: 1100, rate: 10}").len(),
            1e4,
        );
        let sine = drawn(
            "{kind: sine, from: 0, to: 1000, mean: 10, amplitude: 20, period: 1000, phase: 0}",
        );
        // The integral of max(0, 10 + 20 sin x) over a period is 10·(4/3·π + 2·√3)/(2π)·1000.
        close(
            sine.len(),
            1e4 * (4.0 / 3.0 * std::f64::consts::PI + 2.0 * 3_f64.sqrt()) / TAU,
        );
        assert_eq!(between(&sine, 590.0, 910.0), 0);
        let saw = drawn("{kind: sawtooth, from: 0, to: 1000, low: 0, high: 80, period: 100}");
        close(saw.len(), 4e4);
        close(
            saw.iter().filter(|t| (**t / 100.0).fract() < 0.5).count(),
            1e4,
        );
        let square =
            drawn("{kind: square, from: 0, to: 1000, low: 1, high: 50, period: 100, duty: 0.3}");
        close(square.len(), 300.0 * 50.0 + 700.0);
        let lines = drawn("{kind: piecewise, points: [[100, 10], [200, 30], [200, 5], [300, 5]]}");
        close(between(&lines, 100.0, 200.0), 2000.0);
        close(between(&lines, 200.0, 300.0), 500.0);
        assert_eq!(between(&lines, 0.0, 100.0) + between(&lines, 300.0, 1e9), 0);
    }

    #[test]
    fn states_are_visited_in_proportion_to_their_holds() {
        let n = drawn("{kind: mmpp, from: 0, to: 10000, rates: [0, 40], holds: [3, 1]}").len();
        assert!((n as f64 / 1e5 - 1.0).abs() < 0.15, "{n}");
        close(
            drawn("{kind: mmpp, from: 0, to: 1000, rates: [10], holds: [3]}").len(),
            1e4,
        );
    }

    #[test]
    fn given_times_are_taken_as_they_are() {
        assert_eq!(
            drawn("{kind: regular, from: 10, to: 13, interval: 1}"),
            [10.0, 11.0, 12.0]
        );
        assert_eq!(
            drawn("{kind: trace, times: [5, 3, 20000]}"),
            [3.0, 5.0],
            "sorted, and what comes after the end is dropped"
        );
    }
}
