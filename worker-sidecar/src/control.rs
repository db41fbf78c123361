//! The sidecar's own endpoints, and the socket of `terminating`.
//!
//! kubelet runs all preStop hooks of a pod at once. The sidecar's own, `worker-sidecar
//! terminating`, says over a socket that the pod goes; those of the other containers ask
//! `/drain`, which answers when nothing is in work any more.

use std::{io, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus::Registry;
use tokio::time::timeout;

use crate::pipeline::Sidecar;

/// How long `/drain` waits for `terminating`. Without it only that one container restarts.
const ALONE: Duration = Duration::from_secs(3);

/// `/metrics`, `/healthz`, `/readyz`, `/stats` and `/drain`.
pub fn router(sidecar: Arc<Sidecar>, registry: Registry) -> Router {
    let fresh = middleware::from_fn_with_state(sidecar.clone(), refresh);
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/stats", get(stats))
        .route("/drain", get(drain))
        .with_state(sidecar)
        .merge(runtime::admin::metrics_route(registry).layer(fresh))
}

async fn refresh(State(sidecar): State<Arc<Sidecar>>, request: Request, next: Next) -> Response {
    sidecar.refresh_metrics();
    next.run(request).await
}

async fn ready(State(sidecar): State<Arc<Sidecar>>) -> (StatusCode, &'static str) {
    match (sidecar.is_draining(), sidecar.handler_ready()) {
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        (false, false) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the handler is not ready\n",
        ),
        (false, true) => (StatusCode::OK, "ok\n"),
    }
}

async fn stats(State(sidecar): State<Arc<Sidecar>>) -> Response {
    Json(sidecar.stats()).into_response()
}

async fn drain(State(sidecar): State<Arc<Sidecar>>) -> &'static str {
    if timeout(ALONE, sidecar.shutdown_begun()).await.is_err() {
        return "not terminating\n";
    }
    sidecar.drained().await;
    "drained\n"
}

/// Listens for `terminating`, for ever. The port tells sidecars in one network namespace
/// apart.
#[cfg(target_os = "linux")]
pub async fn listen(port: u16, sidecar: Arc<Sidecar>) -> io::Result<()> {
    let listener = std::os::unix::net::UnixListener::bind_addr(&socket::address(port)?)?;
    listener.set_nonblocking(true)?;
    let listener = tokio::net::UnixListener::from_std(listener)?;
    loop {
        match listener.accept().await {
            // One at a time: the other end writes a word at once, or is given up.
            Ok((stream, _)) => match timeout(socket::PATIENCE, socket::read_word(stream)).await {
                Ok(Ok(stream)) => {
                    sidecar.begin_shutdown();
                    let _ = timeout(socket::PATIENCE, socket::answer(stream)).await;
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, "a connection to the socket of `terminating` was given up")
                }
                Err(_) => {
                    tracing::warn!("a connection to the socket of `terminating` said nothing")
                }
            },
            Err(error) => {
                tracing::warn!(%error, "the socket of `terminating` does not accept");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Tells the sidecar that listens on this port that its pod is terminating.
#[cfg(target_os = "linux")]
pub fn tell_terminating(port: u16) -> io::Result<()> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::os::unix::net::UnixStream::connect_addr(&socket::address(port)?)?;
    stream.set_read_timeout(Some(socket::PATIENCE))?;
    stream.set_write_timeout(Some(socket::PATIENCE))?;
    stream.write_all(socket::WORD)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer == socket::ANSWER {
        return Ok(());
    }
    Err(io::Error::other(format!("unexpected answer {answer:?}")))
}

/// An abstract socket: it needs no file, since the pod's root file system is read-only, and
/// is seen only within the pod's network namespace.
#[cfg(target_os = "linux")]
mod socket {
    use std::{io, os::linux::net::SocketAddrExt as _, os::unix::net::SocketAddr, time::Duration};

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::UnixStream,
    };

    pub(super) const WORD: &[u8] = b"terminating\n";
    pub(super) const ANSWER: &str = "ok\n";
    pub(super) const PATIENCE: Duration = Duration::from_secs(2);

    pub(super) fn address(port: u16) -> io::Result<SocketAddr> {
        SocketAddr::from_abstract_name(format!("worker-sidecar-{port}"))
    }

    pub(super) async fn read_word(mut stream: UnixStream) -> io::Result<UnixStream> {
        let mut word = [0; WORD.len()];
        stream.read_exact(&mut word).await?;
        if word == WORD {
            return Ok(stream);
        }
        Err(io::Error::other("it said something else"))
    }

    pub(super) async fn answer(mut stream: UnixStream) -> io::Result<()> {
        stream.write_all(ANSWER.as_bytes()).await
    }
}

/// Pods are Linux; elsewhere the sidecar runs inside other programs, which need no socket.
#[cfg(not(target_os = "linux"))]
pub async fn listen(_port: u16, _sidecar: Arc<Sidecar>) -> io::Result<()> {
    std::future::pending().await
}

/// Pods are Linux.
#[cfg(not(target_os = "linux"))]
pub fn tell_terminating(_port: u16) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
