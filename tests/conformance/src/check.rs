//! Expectations that say what they saw.

/// Both are equal, or the error says what each is.
macro_rules! same {
    ($what:expr, $seen:expr, $expected:expr) => {{
        let (seen, expected) = (&$seen, &$expected);
        anyhow::ensure!(
            *seen == *expected,
            "{}: expected {:?}, saw {:?} ({}:{})",
            $what,
            expected,
            seen,
            file!(),
            line!()
        );
    }};
}

/// A text contains another.
macro_rules! says {
    ($seen:expr, $expected:expr) => {{
        let (seen, expected): (&str, &str) = (&$seen, &$expected);
        anyhow::ensure!(
            seen.contains(expected),
            "expected something with {:?}, saw {:?} ({}:{})",
            expected,
            seen,
            file!(),
            line!()
        );
    }};
}
