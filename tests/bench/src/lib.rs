//! The benchmark: our sidecar with a handler, workers on Conductor's SDKs, and the least loop
//! that makes the same exchanges, one after the other on one core, against one server.
//!
//! ```text
//! core 0: driver ──starts workflows──> bench-server (embedded-conductor, journal)
//!                                          ▲ poll, update
//! core 1:                          worker ─┘   (and bench-handler beside the sidecar)
//! ```
//!
//! [`contender`] says who takes part and at which settings, [`measure`] what is measured,
//! [`bars`] what the ratios should be, [`output`] how it is told. Nothing here decides a test: a
//! machine that is busy gives other figures, and ratios of one round are what can be compared.

pub mod bars;
pub mod contender;
pub mod load;
pub mod measure;
pub mod output;
pub mod prepare;
pub mod results;
pub mod server;
pub mod summary;
pub mod usage;
pub mod worker;
