//! What users of SDK workers complained of, and what they found weak, one test each. Their
//! names say whose complaint they answer; docs/why-not-an-sdk.md lists them.

mod failures;
mod leases;
mod next_task;
mod polling;
mod shutdown;
