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

pub mod args;
mod dev;
mod load;
mod manifest;
mod pool;
mod report;
mod sample;
