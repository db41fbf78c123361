//! The cases, by what they are about.

mod batches;
mod by_reference;
mod client;
mod connections;
mod domains;
mod leases;
mod limits;
mod logs;
mod mistakes;
mod payloads;
mod polls;
mod queues;
mod retries;
mod sidecar;
mod task_defs;
mod updates;
mod workflow_defs;
mod workflows;

use crate::suite::Case;

/// All of them.
pub(crate) fn all() -> impl Iterator<Item = Case> {
    [
        client::CASES,
        task_defs::CASES,
        workflow_defs::CASES,
        workflows::CASES,
        polls::CASES,
        batches::CASES,
        updates::CASES,
        retries::CASES,
        leases::CASES,
        by_reference::CASES,
        logs::CASES,
        queues::CASES,
        domains::CASES,
        limits::CASES,
        mistakes::CASES,
        payloads::CASES,
        connections::CASES,
        sidecar::CASES,
    ]
    .into_iter()
    .flatten()
    .copied()
}
