//! How servers on Redis and on SQL differ.

/// Which servers this one answers like. What tells them apart first is when a batch poll is
/// answered that found some tasks, but fewer than it asked for; the rest is in the methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BatchFill {
    /// At its time-out, as servers on SQL up to 3.32, here `SQLite`'s.
    Sql,
    /// At once, as servers on Redis.
    #[default]
    Redis,
}

impl std::str::FromStr for BatchFill {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s {
            "sql" => Ok(Self::Sql),
            "redis" => Ok(Self::Redis),
            other => Err(format!("{other:?} is not a batch fill; write sql or redis")),
        }
    }
}

impl BatchFill {
    /// Which of the tasks of a queue goes first: the lower number. Workflows have priorities
    /// from 0 to 99. On Redis the priority is taken for the time when a task is due: small ones
    /// go first, and those without one last.
    pub(crate) fn rank(self, priority: i64) -> i64 {
        match self {
            Self::Sql => -priority,
            Self::Redis if priority == 0 => i64::MAX,
            Self::Redis => priority,
        }
    }

    /// How many tasks a batch poll wants that says it wants `count`. `SQLite` takes a negative
    /// limit for none.
    pub(crate) fn wanted(self, count: i64) -> usize {
        match (self, usize::try_from(count)) {
            (_, Ok(count)) => count,
            (Self::Sql, Err(_)) => usize::MAX,
            (Self::Redis, Err(_)) => 0,
        }
    }

    /// Whether `rateLimitPerFrequency` is heeded.
    pub(crate) fn limits_rates(self) -> bool {
        self == Self::Redis
    }

    /// The status of a deletion of what is not there.
    pub(crate) fn nothing_to_delete(self) -> u16 {
        match self {
            Self::Sql => 500,
            Self::Redis => 404,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_are_ranked_as_the_stores_do() {
        let order = |fill: BatchFill| {
            let mut priorities = [0, 5, 1, 99, 50];
            priorities.sort_by_key(|&p| fill.rank(p));
            priorities
        };
        assert_eq!(order(BatchFill::Sql), [99, 50, 5, 1, 0]);
        assert_eq!(order(BatchFill::Redis), [1, 5, 50, 99, 0]);
    }

    #[test]
    fn negative_counts() {
        assert_eq!(BatchFill::Sql.wanted(-1), usize::MAX);
        assert_eq!(BatchFill::Redis.wanted(-1), 0);
        assert_eq!(BatchFill::Redis.wanted(7), 7);
    }
}
