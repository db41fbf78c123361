//! The autoscaler on a real cluster with a real Conductor, beside KEDA and HPA, a Deployment of
//! one size, and what the simulator says of the same tasks.
//!
//! ```text
//! scenarios/*.yaml ─> load ─┬─> replay ──────────> Conductor <── workers ──> ledger
//!                           │                          ▲ queue sizes
//!                           │             contender ───┘──> replicas, pods ──> watch
//!                           └─> predict (simulator)
//! run = outcomes + ledger + watch ─> figures ─> results ─> target/live/{report.md,plot.svg}
//! ```
//!
//! `make live` runs everything, `cargo test --release -p live -- burst` a part. It needs a
//! cluster of our own, so root on Debian without a container engine.
//!
//! | variable | |
//! | --- | --- |
//! | `KEEP=1` | leaves the cluster up |
//! | `LIVE_OUTAGE` | seconds for which queue sizes cannot be read, in place of 300 |

pub mod clock;
pub mod contender;
pub mod figures;
pub mod ledger;
pub mod load;
pub mod output;
pub mod predict;
pub mod replay;
pub mod results;
pub mod run;
pub mod stage;
pub mod watch;
