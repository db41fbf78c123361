//! What is going to happen, in order of time.

use std::{cmp::Ordering, collections::BinaryHeap};

/// Something that happens in the pool or at the server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Event {
    /// An attempt is counted in the queue size, but cannot be taken yet.
    Counted { attempt: u32 },
    /// An attempt that was counted can be taken.
    Visible { attempt: u32 },
    /// A slot of a pod asks for work, `delay` seconds after it had a reason to.
    Poll { pod: u32, epoch: u32, delay: f64 },
    /// An execution ends.
    End { pod: u32, attempt: u32 },
    /// A pod is ready.
    Ready { pod: u32 },
    /// A pod removed blindly is at the end of its grace.
    Deadline { pod: u32 },
    /// A type's rate limit begins a new window.
    Window { kind: u32 },
    /// Polls return tasks again.
    ServerBack,
    /// A late look at the queue sizes is taken.
    Look,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    at: f64,
    order: u64,
    event: Event,
}

/// Events to come. Those of one time happen in the order in which they were added.
#[derive(Debug, Default)]
pub(super) struct Events {
    heap: BinaryHeap<Entry>,
    added: u64,
}

impl Events {
    pub(super) fn add(&mut self, at: f64, event: Event) {
        self.added += 1;
        self.heap.push(Entry {
            at,
            order: self.added,
            event,
        });
    }

    /// When the next one happens.
    pub(super) fn next_at(&self) -> Option<f64> {
        self.heap.peek().map(|e| e.at)
    }

    pub(super) fn pop(&mut self) -> Option<(f64, Event)> {
        self.heap.pop().map(|e| (e.at, e.event))
    }
}

impl Ord for Entry {
    /// The earliest is the greatest: the heap gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        other
            .at
            .total_cmp(&self.at)
            .then_with(|| other.order.cmp(&self.order))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}
