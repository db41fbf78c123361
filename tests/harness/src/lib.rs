//! What the test suites share: servers to test against, a handler that does what it is told,
//! and waiting with a bound.
//!
//! ```no_run
//! # async fn test() -> anyhow::Result<()> {
//! use std::time::Duration;
//! use harness::{Handler, Reply, Server, eventually, unique};
//!
//! let server = Server::embedded().await?;
//! let task = unique("greet");
//! let workflow = server.register(&task).await?;
//! let handler = Handler::start(|call| Reply::output(call.input.clone())).await?;
//! // … a sidecar between the two …
//! let id = server.start(&workflow, serde_json::json!({"n": 1})).await?;
//! eventually("the task was executed", Duration::from_secs(5), async || {
//!     match handler.ledger().len() {
//!         1 => Ok(()),
//!         n => Err(format!("{n} executions")),
//!     }
//! })
//! .await?;
//! # Ok(())
//! # }
//! ```

mod conductor;
mod gateway;
mod handler;
mod mount;
mod proxy;
mod server;
mod skew;
mod tls;
mod wait;

pub use conductor::{Backend, Conductor, Stop};
pub use gateway::Gateway;
pub use handler::{Call, Entry, Handler, Reply, Then};
pub use mount::Mount;
pub use proxy::Proxy;
pub use runtime::install_tls_provider;
pub use server::Server;
pub use skew::skew;
pub use tls::{Authority, Certified, TlsFront};
pub use wait::{eventually, unique};
