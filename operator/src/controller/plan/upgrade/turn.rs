//! Whose turn it is.

use std::collections::BTreeMap;

use crate::controller::observed::Key;

/// Whether a worker may be given another sidecar for no change of the user's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Turn {
    /// No worker ever: the policy is `OnNextRollout`.
    #[default]
    Never,
    /// Not all workers have been looked at: how many have one is not known.
    Unknown,
    /// It is others' turn, or it needs none.
    Later,
    /// Now.
    Now,
    /// No worker while the upgrade of this one fails.
    Halted {
        /// Which.
        by: Key,
        /// Why, in a sentence.
        why: String,
    },
}

/// How far the upgrade of a worker's sidecar has come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Standing {
    /// Nothing is to be done, or it is none that could be.
    #[default]
    Current,
    /// Its pods have another sidecar than this operator adds.
    Behind,
    /// It has its turn: its pods are replaced.
    UnderWay,
    /// They are, and new ones do not get ready or fail their tasks.
    Failed {
        /// Why, in a sentence.
        why: String,
    },
}

/// Whether it is a worker's turn where at most so many have one at a time. `all` are all workers.
pub fn turn(at_once: usize, all: &BTreeMap<Key, Standing>, key: &Key) -> Turn {
    let own = all.get(key);
    if matches!(own, Some(Standing::UnderWay | Standing::Failed { .. })) {
        return Turn::Now;
    }
    let failed = all.iter().find_map(|(key, standing)| match standing {
        Standing::Failed { why } => Some((key.clone(), why.clone())),
        _ => None,
    });
    if let Some((by, why)) = failed {
        return Turn::Halted { by, why };
    }
    let others = all.values();
    let under_way = others.filter(|standing| **standing == Standing::UnderWay);
    if own == Some(&Standing::Behind) && under_way.count() < at_once {
        Turn::Now
    } else {
        Turn::Later
    }
}
