//! What readers see of the runs.

pub mod plot;
pub mod table;
