//! Values over time, given at points.

/// The value at `t`: linear between points, constant outside, 1 where there are none. Where two
/// points have one time, the later one holds from then on.
pub(crate) fn factor(points: &[(f64, f64)], t: f64) -> f64 {
    let Some(first) = points.first() else {
        return 1.0;
    };
    let after = points.partition_point(|p| p.0 <= t);
    if after == 0 {
        return first.1;
    }
    let (t0, v0) = points[after - 1];
    match points.get(after) {
        None => v0,
        Some(&(t1, v1)) => v0 + (v1 - v0) * (t - t0) / (t1 - t0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_linear_between_points_and_step_at_two_of_one_time() {
        let points = [(10.0, 1.0), (20.0, 3.0), (20.0, 5.0), (30.0, 5.0)];
        for (t, value) in [
            (0.0, 1.0),
            (10.0, 1.0),
            (15.0, 2.0),
            (20.0, 5.0),
            (25.0, 5.0),
            (99.0, 5.0),
        ] {
            assert!((factor(&points, t) - value).abs() < 1e-12, "{t}");
        }
        assert!((factor(&[], 7.0) - 1.0).abs() < 1e-12);
    }
}
