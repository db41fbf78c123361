//! One suite for embedded-conductor and the real Conductor, so that the double cannot drift.
//!
//! A case is a function over a `Ctx`: a server, whichever it is, with a client and raw
//! HTTP. Where servers differ the case asks [`Kind`] what to expect; nothing is skipped but
//! what a server cannot do at all. Every case uses names of its own, so that many run at
//! once against one server.

#[macro_use]
mod check;
mod cases;
mod ctx;
mod kind;
mod rows;
mod suite;
mod work;

pub use kind::Kind;
pub use suite::run;

pub(crate) use ctx::{Answer, Ctx};
pub(crate) use work::Work;
