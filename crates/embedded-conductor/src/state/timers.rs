//! What is to happen later.

use std::{collections::BTreeMap, sync::Arc};

/// When something is due, and a number that makes it unique.
pub(crate) type Due = (i64, u64);

/// What is to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// A delayed task can be polled.
    Deliver(Arc<str>),
    /// A workflow may have timed out.
    Decide(Arc<str>),
}

/// Events by time.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    events: BTreeMap<Due, Event>,
    given: u64,
}

impl Timers {
    pub(crate) fn add(&mut self, at: i64, event: Event) -> Due {
        self.given += 1;
        let due = (at, self.given);
        self.events.insert(due, event);
        due
    }

    pub(crate) fn cancel(&mut self, due: Due) {
        self.events.remove(&due);
    }

    /// The first event due by `now`, if any; it is removed.
    pub(crate) fn pop(&mut self, now: i64) -> Option<(Due, Event)> {
        let first = self.events.first_entry()?;
        (first.key().0 <= now).then(|| first.remove_entry())
    }

    pub(crate) fn next(&self) -> Option<i64> {
        self.events.keys().next().map(|due| due.0)
    }
}
