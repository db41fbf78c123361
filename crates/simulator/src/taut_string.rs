//! The shortest path between two rising bounds.

/// The slopes, one for each step, of the shortest path from (0, `low[0]`) to (n, `low[n]`)
/// that stays between `low` and `high`: the taut string, which is also the path whose slope
/// varies least.
///
/// From the last bend on, the slopes that stay within the bounds form a cone; where the next
/// bound leaves it, the string bends at the point that made the cone's side.
pub(crate) fn slopes(low: &[f64], high: &[f64]) -> Vec<f64> {
    let end = low.len() - 1;
    let mut slopes = Vec::with_capacity(end);
    let (mut at, mut y) = (0, low[0]);
    while at < end {
        let (mut least, mut most) = (f64::NEG_INFINITY, f64::INFINITY);
        let (mut least_at, mut most_at) = (at, at);
        let mut bend = (end, low[end]);
        for next in at + 1..=end {
            let steps = (next - at) as f64;
            let top = if next == end { low[end] } else { high[next] };
            let (to_low, to_high) = ((low[next] - y) / steps, (top - y) / steps);
            if to_low > most {
                bend = (most_at, high[most_at]);
                break;
            }
            if to_high < least {
                bend = (least_at, low[least_at]);
                break;
            }
            if to_low >= least {
                (least, least_at) = (to_low, next);
            }
            if to_high <= most {
                (most, most_at) = (to_high, next);
            }
        }
        let slope = (bend.1 - y) / (bend.0 - at) as f64;
        slopes.resize(bend.0, slope);
        (at, y) = bend;
    }
    slopes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_tube_gives_a_straight_line() {
        let low = [0.0, 0.0, 0.0, 0.0, 8.0];
        let high = [0.0, 9.0, 9.0, 9.0, 9.0];
        assert_eq!(slopes(&low, &high), [2.0; 4]);
    }

    #[test]
    fn a_closed_tube_gives_the_tube() {
        let a = [0.0, 1.0, 5.0, 5.0, 6.0];
        assert_eq!(slopes(&a, &a), [1.0, 4.0, 0.0, 1.0]);
    }

    #[test]
    fn it_bends_at_corners_only() {
        // It must pass below (2, 1) and above (4, 8).
        let low = [0.0, 0.0, 0.0, 0.0, 8.0, 8.0];
        let high = [0.0, 1.0, 1.0, 9.0, 9.0, 9.0];
        assert_eq!(slopes(&low, &high), [0.5, 0.5, 3.5, 3.5, 0.0]);
    }

    #[test]
    fn it_stays_within() {
        let high: Vec<f64> = (0..200)
            .map(|n| f64::from(n) + 20.0 * (f64::from(n) / 15.0).sin().abs())
            .scan(0.0_f64, |most, x| {
                *most = most.max(x);
                Some(*most)
            })
            .collect();
        let low: Vec<f64> = (0..200)
            .map(|n| if n < 12 { 0.0 } else { high[n - 12] })
            .collect();
        let mut y = 0.0;
        for (n, slope) in slopes(&low, &high).iter().enumerate() {
            y += slope;
            assert!(
                y >= low[n + 1] - 1e-9 && (y <= high[n + 1] + 1e-9),
                "{n}: {y}"
            );
        }
    }
}
