//! The slots that task types share: taken before a poll, travelling with the task, free
//! again when dropped.
//!
//! Types that wait for a slot get it in the order they came (the semaphore is fair), one
//! each; what a poll may take beyond that is [`crate::rule::share`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::rule::{self, Appetite, Sharers};

/// All slots of a pod.
#[derive(Debug)]
pub struct Slots {
    all: Arc<Semaphore>,
    lanes: Vec<Lane>,
    appetites: Mutex<Vec<Appetite>>,
    total: usize,
}

#[derive(Debug)]
struct Lane {
    room: Arc<Semaphore>,
    cap: usize,
}

/// The right to have one task in work.
#[derive(Debug)]
pub struct Slot {
    _room: OwnedSemaphorePermit,
    _slot: OwnedSemaphorePermit,
}

impl Slots {
    /// `caps`: how many of the slots each type may use at most.
    pub fn new(total: usize, caps: impl IntoIterator<Item = Option<usize>>) -> Self {
        let lanes: Vec<Lane> = caps
            .into_iter()
            .map(|cap| cap.unwrap_or(total).min(total))
            .map(|cap| Lane {
                room: Arc::new(Semaphore::new(cap)),
                cap,
            })
            .collect();
        let appetites = Mutex::new(vec![Appetite::Hungry; lanes.len()]);
        Self {
            all: Arc::new(Semaphore::new(total)),
            lanes,
            appetites,
            total,
        }
    }

    /// How many there are.
    pub fn total(&self) -> usize {
        self.total
    }

    /// How many of them a type may use.
    pub fn cap(&self, lane: usize) -> usize {
        self.lanes[lane].cap
    }

    /// Whether a type would get one at once. Those of polls in the air are taken.
    pub fn is_free(&self, lane: usize) -> bool {
        self.all.available_permits() > 0 && self.lanes[lane].room.available_permits() > 0
    }

    /// How many types share how many slots.
    pub fn sharers(&self) -> Sharers {
        Sharers {
            types: self.lanes.len(),
            slots: self.total,
        }
    }

    /// Whether a type may keep a slot for its next task: no other type wants one.
    pub fn may_keep(&self, lane: usize) -> bool {
        let appetites = self.appetites();
        let mut others = appetites.iter().enumerate().filter(|(i, _)| *i != lane);
        others.all(|(_, a)| matches!(a, Appetite::InTheAir | Appetite::Off))
    }

    /// One slot, as soon as it is this type's turn. Dropping the future gives up the turn.
    pub async fn first(&self, lane: usize, appetite: Appetite) -> Option<Slot> {
        // Up to its cap it could not use what others would leave it.
        self.wants(lane, Appetite::Off);
        // Errors: a closed semaphore, and these never are.
        let room = self.lanes[lane].room.clone().acquire_owned().await.ok()?;
        self.wants(lane, appetite);
        let slot = self.all.clone().acquire_owned().await.ok()?;
        Some(Slot {
            _room: room,
            _slot: slot,
        })
    }

    /// One slot, if there is one.
    pub fn one_now(&self, lane: usize) -> Option<Slot> {
        Some(Slot {
            _room: self.lanes[lane].room.clone().try_acquire_owned().ok()?,
            _slot: self.all.clone().try_acquire_owned().ok()?,
        })
    }

    /// What this type may take besides its first slot, without waiting.
    pub fn more(&self, lane: usize) -> Vec<Slot> {
        let room = self.lanes[lane].room.available_permits();
        let free = self.all.available_permits();
        let share = {
            let appetites = self.appetites();
            let others = appetites.iter().enumerate().filter(|(i, _)| *i != lane);
            rule::share(free + 1, room + 1, others.map(|(_, a)| *a))
        };
        let mut taken = Vec::with_capacity(share - 1);
        while taken.len() + 1 < share {
            let Some(slot) = self.one_now(lane) else {
                break;
            };
            taken.push(slot);
        }
        taken
    }

    /// Says what a type wants of the slots from now on.
    pub fn wants(&self, lane: usize, appetite: Appetite) {
        self.appetites()[lane] = appetite;
    }

    fn appetites(&self) -> MutexGuard<'_, Vec<Appetite>> {
        self.appetites
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn now(slots: &Slots, lane: usize) -> Option<Slot> {
        slots.first(lane, Appetite::Hungry).now_or_never().flatten()
    }

    #[test]
    fn a_type_stays_below_its_cap() {
        let slots = Slots::new(8, [Some(2), None]);
        slots.wants(1, Appetite::InTheAir);
        let first = now(&slots, 0).unwrap();
        let more = slots.more(0);
        assert_eq!(more.len(), 1);
        assert!(now(&slots, 0).is_none() && !slots.is_free(0) && slots.is_free(1));
        drop((first, more));
        assert!(slots.is_free(0));
        assert_eq!((slots.cap(0), slots.cap(1)), (2, 8));
    }

    #[test]
    fn a_batch_leaves_the_others_their_part() {
        let slots = Slots::new(8, [None, None]);
        let _first = now(&slots, 0).unwrap();
        assert_eq!(slots.more(0).len(), 3, "half, while both are hungry");
        slots.wants(1, Appetite::Dry);
        assert_eq!(
            slots.more(0).len(),
            6,
            "all but one, while the other has nothing"
        );
        slots.wants(1, Appetite::Off);
        assert_eq!(slots.more(0).len(), 7);
    }

    #[tokio::test]
    async fn types_that_wait_take_turns() {
        let slots = Arc::new(Slots::new(1, [None, None]));
        let held = now(&slots, 0).unwrap();
        // The first type asks again before the second one does, but it has its one slot.
        let mut again = Box::pin(slots.first(0, Appetite::Hungry));
        assert!(again.as_mut().now_or_never().is_none());
        let mut other = Box::pin(slots.first(1, Appetite::Hungry));
        assert!(other.as_mut().now_or_never().is_none());
        drop(held);
        assert!(again.as_mut().now_or_never().is_none());
        let theirs = other.await.unwrap();
        assert!(slots.more(1).is_empty());
        let mut third = Box::pin(slots.first(1, Appetite::Hungry));
        assert!(third.as_mut().now_or_never().is_none());
        drop(theirs);
        let mine = again.await.unwrap();
        drop(mine);
        assert!(third.await.is_some());
    }
}
