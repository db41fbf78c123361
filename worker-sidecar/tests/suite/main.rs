//! The sidecar between a Conductor and a handler: what becomes of tasks.

mod answers;
mod breaker;
mod connection;
mod cordon;
mod extensions;
mod hooks;
mod in_the_air;
mod local_api;
mod metrics;
mod outages;
mod program;
mod repeats;
mod results;
mod scripted;
mod setup;
mod shutdown;
mod table;
mod work;
