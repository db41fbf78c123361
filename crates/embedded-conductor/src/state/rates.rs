//! `rateLimitPerFrequency`: how many tasks of a type may be given out in a window of time.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use super::TaskDef;

/// When tasks were given out, by type; only of types with a limit.
#[derive(Debug, Default)]
pub(crate) struct Rates(HashMap<Arc<str>, VecDeque<i64>>);

impl Rates {
    /// Whether one more may be given out now, at epoch milliseconds; it is counted if so.
    pub(crate) fn admit(&mut self, task_type: &Arc<str>, def: &TaskDef, now: i64) -> bool {
        let (limit, seconds) = (
            def.rate_limit_per_frequency,
            def.rate_limit_frequency_in_seconds,
        );
        if limit <= 0 || seconds <= 0 {
            return true;
        }
        let given = self.0.entry(task_type.clone()).or_default();
        while given.front().is_some_and(|&at| at < now - seconds * 1000) {
            given.pop_front();
        }
        let admitted = usize::try_from(limit).is_ok_and(|limit| given.len() < limit);
        if admitted {
            given.push_back(now);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_in_a_window() {
        let def: TaskDef = serde_json::from_str(
            r#"{"name":"t","rateLimitPerFrequency":2,"rateLimitFrequencyInSeconds":5}"#,
        )
        .unwrap();
        let (mut rates, t) = (Rates::default(), Arc::from("t"));
        let admitted = [0, 1000, 2000, 5001, 5002, 6001].map(|now| rates.admit(&t, &def, now));
        assert_eq!(admitted, [true, true, false, true, false, true]);
        let free: TaskDef = serde_json::from_str(r#"{"name":"u"}"#).unwrap();
        assert!((0..100).all(|_| rates.admit(&t, &free, 0)));
    }
}
