//! What the suites on a real cluster share.
//!
//! ```text
//! Bed::up ─> tests/cluster/bed: Kubernetes, our images, Conductor on Redis
//!    └> kubectl, helm, conductor (a client), until (waiting with a bound)
//! ```

mod bed;
mod load;

pub use bed::{Bed, Follow, root, until};
pub use load::{Load, Outcome};
