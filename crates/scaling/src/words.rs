//! Numbers as people read them.

/// With separators: `4,100`.
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time in seconds with the unit that suits it: `20 ms`, `0.8 s`, `72 s`, `12 min`, `3.5 h`.
pub fn seconds(seconds: f64) -> String {
    let hours = seconds / 3600.0;
    if !seconds.is_finite() || seconds < 0.0 {
        "?".to_owned()
    } else if seconds < 0.0005 {
        "0 s".to_owned()
    } else if seconds < 0.0995 {
        format!("{:.0} ms", seconds * 1000.0)
    } else if seconds < 9.95 {
        format!("{} s", tenths(seconds))
    } else if seconds < 600.0 {
        format!("{seconds:.0} s")
    } else if seconds < 5400.0 {
        format!("{:.0} min", seconds / 60.0)
    } else if hours < 100.0 {
        format!("{} h", tenths(hours))
    } else {
        format!("{:.0} days", hours / 24.0)
    }
}

/// One decimal, where it is not 0.
fn tenths(x: f64) -> f64 {
    (x * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_told_apart() {
        for (n, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (41_000, "41,000"),
            (1_234_567, "1,234,567"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ] {
            assert_eq!(thousands(n), text);
        }
    }

    #[test]
    fn times_have_the_unit_that_suits_them() {
        for (s, text) in [
            (0.0, "0 s"),
            (0.02, "20 ms"),
            (0.8, "0.8 s"),
            (5.0, "5 s"),
            (9.94, "9.9 s"),
            (14.2, "14 s"),
            (72.0, "72 s"),
            (720.0, "12 min"),
            (12_600.0, "3.5 h"),
            (864_000.0, "10 days"),
            (f64::NAN, "?"),
            (-1.0, "?"),
        ] {
            assert_eq!(seconds(s), text);
        }
    }
}
