//! How it is told: tables and a plot.

pub mod plot;
pub mod table;
