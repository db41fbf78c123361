//! What the suites on a real cluster share.
//!
//! ```text
//! Bed::up ─> tests/cluster/bed: Kubernetes, our images, Conductor on Redis
//!    └> kubectl, helm, conductor (a client), until (waiting with a bound)
//! ```

mod bed;
mod load;
mod repaired;
mod suite;

pub use bed::{Bed, CHART, Follow, OPERATOR, RELEASE, root, until};
pub use load::{Load, Outcome};
pub use repaired::repaired;
pub use suite::{Case, run};
