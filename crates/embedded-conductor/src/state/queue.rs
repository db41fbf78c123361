//! One queue: what can be polled, what is delayed, what a poll holds.

use std::{collections::BTreeMap, sync::Arc};

use super::timers::Due;

/// Lower ranks first, then in order of arrival.
pub(crate) type Turn = (i64, u64);

/// Where a task is in its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Not in the queue: being worked on, or ended.
    Out,
    /// It can be polled.
    Ready(Turn),
    /// It can be polled later.
    Delayed(Due),
    /// A poll that waits for more has it in hand.
    Held,
}

/// The queue of a task type in a domain.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    ready: BTreeMap<Turn, Arc<str>>,
    delayed: BTreeMap<Due, Arc<str>>,
    held: usize,
    given: u64,
}

impl Queue {
    /// Everything that waits, delayed or not.
    pub(crate) fn size(&self) -> usize {
        self.ready.len() + self.delayed.len() + self.held
    }

    /// The same without what polls hold.
    pub(crate) fn size_without_held(&self) -> usize {
        self.ready.len() + self.delayed.len()
    }

    pub(crate) fn held(&self) -> usize {
        self.held
    }

    pub(crate) fn push(&mut self, id: Arc<str>, rank: i64) -> Place {
        self.given += 1;
        let turn = (rank, self.given);
        self.ready.insert(turn, id);
        Place::Ready(turn)
    }

    pub(crate) fn delay(&mut self, id: Arc<str>, due: Due) -> Place {
        self.delayed.insert(due, id);
        Place::Delayed(due)
    }

    /// Takes the next task into a poll's hand.
    pub(crate) fn pop(&mut self) -> Option<Arc<str>> {
        let (_, id) = self.ready.pop_first()?;
        self.held += 1;
        Some(id)
    }

    pub(crate) fn remove(&mut self, place: Place) {
        match place {
            Place::Out => {}
            Place::Ready(turn) => {
                self.ready.remove(&turn);
            }
            Place::Delayed(due) => {
                self.delayed.remove(&due);
            }
            Place::Held => self.held = self.held.saturating_sub(1),
        }
    }

    /// The delayed task that is due first, unless one is ready anyway.
    pub(crate) fn first_if_none_ready(&self) -> Option<Arc<str>> {
        if !self.ready.is_empty() {
            return None;
        }
        self.delayed.values().next().cloned()
    }
}
