//! The kubectl plugin. `kubectl conductor dev` runs `ConductorWorker` manifests on this machine:
//!
//! ```text
//! files ─> Manifests ─> embedded-conductor <─ load
//!                  └──> Pool per worker: process + sidecar per pod ─> Stats
//!                         ▲ replicas                                   │
//!                         └───────────── scaling::decide <─────────────┘
//! ```
//!
//! The manifests, the sidecar's pipeline and the decision are those of a cluster; only the
//! server and the pods are stand-ins.
//!
//! `kubectl conductor explain` reads a worker from a cluster and tells what its status holds.
//!
//! `kubectl conductor simulate` starts nothing: it runs scenario files through the simulator.

pub mod args;
mod dev;
mod explain;
mod load;
mod manifest;
mod pool;
mod report;
mod sample;
mod simulate;
