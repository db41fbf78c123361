//! Whose turn it is to be given another sidecar. One operator process runs, so the turns are in its
//! memory; a successor knows them again when it has looked at each worker once.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use kube::Resource;

use super::{
    observed::Key,
    plan::{Standing, Turn, turn},
};
use crate::stores::{Stores, key_of};

/// When pods get another sidecar though the user has changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SidecarUpgrades {
    /// When they are replaced anyway.
    #[default]
    OnNextRollout,
    /// Some workers after others.
    Staged {
        /// How many workers' pods are replaced at a time.
        at_once: usize,
    },
}

/// How far each worker has come.
#[derive(Debug)]
pub(super) struct Turns {
    policy: SidecarUpgrades,
    all: Mutex<All>,
}

#[derive(Debug, Default)]
struct All {
    of: BTreeMap<Key, Standing>,
    /// Each worker that there was at first has been looked at.
    are_known: bool,
}

impl Turns {
    pub(super) fn new(policy: SidecarUpgrades) -> Self {
        Self {
            policy,
            all: Mutex::default(),
        }
    }

    /// Whether it is a worker's turn; if so nobody else is offered this turn until it is noted
    /// what has become of it.
    pub(super) fn offer(&self, key: &Key, stores: &Stores) -> Turn {
        let at_once = match self.policy {
            SidecarUpgrades::OnNextRollout => return Turn::Never,
            SidecarUpgrades::Staged { at_once } => at_once,
        };
        let mut all = self.all();
        if !all.are_known {
            let workers = stores.workers.state();
            let mut keys = workers.iter().filter_map(|worker| key_of(worker.meta()));
            all.are_known = keys.all(|key| all.of.contains_key(&key));
        }
        if !all.are_known {
            return Turn::Unknown;
        }
        let turn = turn(at_once, &all.of, key);
        if let (Turn::Now, Some(standing @ Standing::Behind)) = (&turn, all.of.get_mut(key)) {
            *standing = Standing::UnderWay;
        }
        turn
    }

    /// Notes how far a worker has come by a plan. How many are behind, under way and failed.
    pub(super) fn note(&self, key: &Key, standing: Standing) -> [usize; 3] {
        let mut all = self.all();
        all.of.insert(key.clone(), standing);
        all.counts()
    }

    /// Forgets the workers that are gone.
    pub(super) fn forget_gone(&self, is_there: impl Fn(&Key) -> bool) {
        self.all().of.retain(|key, _| is_there(key));
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl All {
    fn counts(&self) -> [usize; 3] {
        let mut counts = [0; 3];
        for standing in self.of.values() {
            match standing {
                Standing::Current => {}
                Standing::Behind => counts[0] += 1,
                Standing::UnderWay => counts[1] += 1,
                Standing::Failed { .. } => counts[2] += 1,
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher;
    use serde_json::{from_value, json};

    use super::*;
    use crate::{stores::Guarded, worker::Defaults};

    fn key(name: &str) -> Key {
        Key {
            namespace: "shop".to_owned(),
            name: name.to_owned(),
        }
    }

    /// The workers a, b and c.
    fn stores() -> Stores {
        let defaults = Defaults {
            conductor_url: None,
            sidecar_image: String::new(),
            sidecar_image_pull_policy: String::new(),
        };
        let (stores, mut writers) = Stores::new(defaults);
        for name in ["a", "b", "c"] {
            // Its form does not matter.
            let worker: Guarded =
                from_value(json!({"metadata": {"namespace": "shop", "name": name}})).unwrap();
            let here = watcher::Event::Apply(worker);
            writers.workers.apply_watcher_event(&here);
        }
        stores
    }

    #[test]
    fn nobody_has_a_turn_until_everybody_has_been_looked_at() {
        let stores = stores();
        let turns = Turns::new(SidecarUpgrades::Staged { at_once: 1 });
        turns.note(&key("a"), Standing::Behind);
        turns.note(&key("b"), Standing::Behind);
        assert_eq!(turns.offer(&key("a"), &stores), Turn::Unknown);
        // It may be the one that has its turn.
        turns.note(&key("c"), Standing::UnderWay);
        assert_eq!(turns.offer(&key("a"), &stores), Turn::Later);
        assert_eq!(turns.note(&key("c"), Standing::Current), [2, 0, 0]);
        assert_eq!(turns.offer(&key("a"), &stores), Turn::Now);
    }

    #[test]
    fn a_turn_is_offered_once_until_it_is_known_what_became_of_it() {
        let stores = stores();
        let turns = Turns::new(SidecarUpgrades::Staged { at_once: 1 });
        for name in ["a", "b", "c"] {
            turns.note(&key(name), Standing::Behind);
        }
        assert_eq!(turns.offer(&key("a"), &stores), Turn::Now);
        assert_eq!(turns.offer(&key("b"), &stores), Turn::Later);
        assert_eq!(turns.offer(&key("a"), &stores), Turn::Now, "its own");
        // It was not ready, and has not taken it.
        assert_eq!(turns.note(&key("a"), Standing::Behind), [3, 0, 0]);
        assert_eq!(turns.offer(&key("b"), &stores), Turn::Now);
        assert_eq!(turns.note(&key("b"), Standing::UnderWay), [2, 1, 0]);
        let why = "because".to_owned();
        let failed = Standing::Failed { why: why.clone() };
        assert_eq!(turns.note(&key("b"), failed), [2, 0, 1]);
        let by = key("b");
        assert_eq!(turns.offer(&key("c"), &stores), Turn::Halted { by, why });
        // It is deleted.
        turns.forget_gone(|key| key.name != "b");
        assert_eq!(turns.offer(&key("c"), &stores), Turn::Now);
    }

    #[test]
    fn by_default_nobody_has_a_turn() {
        let turns = Turns::new(SidecarUpgrades::default());
        turns.note(&key("a"), Standing::Behind);
        assert_eq!(turns.offer(&key("a"), &stores()), Turn::Never);
    }
}
