//! The sidecar's own endpoints, and the socket by which the pod's end is announced.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener as StdListener, UnixStream as StdStream},
    },
    sync::Arc,
    time::Duration,
};

use axum::{Json, Router, extract::State, http::StatusCode, middleware, routing::get};
use prometheus::Registry;
use tokio::{io::AsyncWriteExt as _, net::UnixListener};

use crate::{pipeline::Sidecar, shutdown::Shutdown, stats::Stats};

/// kubelet runs all preStop hooks of a pod at once; ours needs a process to start. If none
/// came within this time, the container that asks is restarted alone.
const ANNOUNCED: Duration = Duration::from_secs(3);

/// `/metrics`, `/healthz`, `/readyz`, `/stats` and `/drain`.
pub fn router(sidecar: Arc<Sidecar>, registry: Registry) -> Router {
    let read = sidecar.clone();
    let metrics = runtime::admin::metrics_route(registry).layer(middleware::map_request(
        move |request: axum::extract::Request| {
            read.refresh_metrics();
            std::future::ready(request)
        },
    ));
    Router::new()
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .route("/stats", get(stats))
        .route("/drain", get(drain))
        .with_state(sidecar)
        .merge(metrics)
}

async fn ready(State(sidecar): State<Arc<Sidecar>>) -> (StatusCode, &'static str) {
    if sidecar.is_ready() {
        (StatusCode::OK, "ready\n")
    } else if sidecar.shutdown().limits().is_some() {
        (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n")
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "the handler is not ready\n",
        )
    }
}

async fn stats(State(sidecar): State<Arc<Sidecar>>) -> Json<Stats> {
    Json(sidecar.stats())
}

/// Holds a regular container's preStop hook up until nothing is in flight, at the latest until
/// ten seconds before the grace period ends.
async fn drain(State(sidecar): State<Arc<Sidecar>>) -> &'static str {
    let Ok(limits) = tokio::time::timeout(ANNOUNCED, sidecar.shutdown().begun()).await else {
        return "the pod stays: nothing to wait for\n";
    };
    match tokio::time::timeout_at(limits.drain, sidecar.drained()).await {
        Ok(()) => "drained\n",
        Err(_) => "not drained in time\n",
    }
}

/// A name in the pod's network namespace, not a file: the root file system is read-only.
fn address(port: u16) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("worker-sidecar-{port}"))
}

/// Where the pod's end is announced to the sidecar that listens on this port.
pub fn listen(port: u16) -> io::Result<UnixListener> {
    let listener = StdListener::bind_addr(&address(port)?)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Begins the shutdown when the pod's end is announced. Never ends.
pub async fn announcements(listener: UnixListener, shutdown: Shutdown) -> io::Result<()> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        shutdown.begin();
        tracing::info!("the pod ends: no more polls");
        // The one who announces has gone or not; it changes nothing.
        let _ = stream.write_all(b"ok").await;
    }
}

/// Announces the pod's end to the sidecar on this port, from the container's preStop hook.
pub fn announce(port: u16) -> io::Result<()> {
    use io::Read as _;
    let mut stream = StdStream::connect_addr(&address(port)?)?;
    stream.set_read_timeout(Some(ANNOUNCED))?;
    let mut answer = [0; 2];
    stream.read_exact(&mut answer)
}
