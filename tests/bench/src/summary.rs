//! Many figures become few. Pure.

/// The middle one of some figures, and the least and most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

/// Of figures in any order; `None` of none.
pub fn spread(figures: &[f64]) -> Option<Spread> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    Some(Spread {
        median: quantile(&sorted, 0.5)?,
        least: *sorted.first()?,
        most: *sorted.last()?,
    })
}

/// The quantile of sorted figures, between the two nearest; `None` of none. `at`: 0 to 1.
pub fn quantile(sorted: &[f64], at: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = at.clamp(0.0, 1.0) * count(last);
    let below = place.floor();
    let index = (0..last).rev().find(|&i| count(i) <= below).unwrap_or(0);
    let next = sorted[(index + 1).min(last)];
    let fraction = place - count(index);
    Some(sorted[index] + (next - sorted[index]) * fraction)
}

/// A number of things as a figure.
pub fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ends() {
        let s = spread(&[3.0, 1.0, 2.0]).unwrap();
        assert_eq!((s.median, s.least, s.most), (2.0, 1.0, 3.0));
        assert_eq!(spread(&[1.0, 2.0]).map(|s| s.median), Some(1.5));
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn quantiles_lie_between() {
        let hundred: Vec<f64> = (0..=100).map(f64::from).collect();
        for (at, expected) in [(0.0, 0.0), (0.5, 50.0), (0.99, 99.0), (1.0, 100.0)] {
            assert_eq!(quantile(&hundred, at), Some(expected));
        }
        assert_eq!(quantile(&[7.0], 0.99), Some(7.0));
    }
}
