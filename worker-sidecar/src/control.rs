//! The sidecar's own endpoints, and the socket of `terminating`.
//!
//! kubelet runs all preStop hooks of a pod at once. The sidecar's own, `worker-sidecar
//! terminating`, says over a socket that the pod goes; those of the other containers ask
//! `/drain`, which answers when nothing is in work any more.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus::Registry;
use tokio::time::{Instant, timeout_at};

use crate::pipeline::Sidecar;

/// How long `/drain` waits for `terminating`. Without it only that one container restarts.
const ALONE: Duration = Duration::from_secs(3);

/// The same where tasks are in work, which an answer that comes too early would break: on a node
/// that is short of CPU it takes seconds until `terminating` runs. No longer than tasks have of the
/// shortest grace period that the spec takes.
const ALONE_AT_WORK: Duration = Duration::from_secs(10);

/// `/metrics`, `/healthz`, `/readyz`, `/stats` and `/drain`; `/cordon` is [`crate::cordon`]'s.
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
    let not_ready = |why| (StatusCode::SERVICE_UNAVAILABLE, why);
    if sidecar.is_draining() {
        not_ready("draining\n")
    } else if sidecar.is_cordoned() && sidecar.is_idle() {
        not_ready("cordoned and idle\n")
    } else if !sidecar.handler_ready() {
        not_ready("the handler is not ready\n")
    } else {
        (StatusCode::OK, "ok\n")
    }
}

async fn stats(State(sidecar): State<Arc<Sidecar>>) -> Response {
    Json(sidecar.stats()).into_response()
}

async fn drain(State(sidecar): State<Arc<Sidecar>>) -> &'static str {
    let _hook = sidecar.shutdown.hook();
    let (called, held) = (Instant::now(), sidecar.held());
    let (was_idle, held_before) = (held.is_empty(), held.ever());
    let told = async |within| timeout_at(called + within, sidecar.shutdown_begun()).await;
    // Where tasks are short, the moment may be one between two of them.
    let at_work = || !was_idle || held.ever() > held_before;
    if told(ALONE).await.is_ok() || (at_work() && told(ALONE_AT_WORK).await.is_ok()) {
        sidecar.drained().await;
        return "drained\n";
    }
    "the pod stays: nothing to wait for\n"
}

/// Tells the sidecar that listens on this port that its pod is terminating.
#[cfg(target_os = "linux")]
pub use socket::tell_terminating;

/// Where `terminating` is heard.
#[cfg(target_os = "linux")]
pub use socket::Socket;

/// An abstract socket: it needs no file, since the pod's root file system is read-only, and
/// is seen only within the pod's network namespace.
#[cfg(target_os = "linux")]
mod socket {
    use std::{
        convert::Infallible,
        io::{self, Read as _, Write as _},
        os::{
            linux::net::SocketAddrExt as _,
            unix::net::{self, SocketAddr},
        },
        sync::atomic::{AtomicBool, Ordering},
        time::Duration,
    };

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{UnixListener, UnixStream},
        time::timeout,
    };

    use crate::pipeline::Sidecar;

    const WORD: &[u8] = b"terminating\n";
    const ANSWER: &str = "ok\n";
    const PATIENCE: Duration = Duration::from_secs(2);

    /// See [`super`].
    #[derive(Debug)]
    pub struct Socket {
        listener: UnixListener,
        told: AtomicBool,
    }

    impl Socket {
        /// The port tells sidecars in one network namespace apart.
        pub fn bind(port: u16) -> io::Result<Self> {
            let listener = net::UnixListener::bind_addr(&address(port)?)?;
            listener.set_nonblocking(true)?;
            Ok(Self {
                listener: UnixListener::from_std(listener)?,
                told: AtomicBool::new(false),
            })
        }

        /// Whether `terminating` was heard: then somebody ends the sidecar when its time comes.
        pub fn was_told(&self) -> bool {
            self.told.load(Ordering::Relaxed)
        }

        /// Listens for ever.
        pub async fn listen(&self, sidecar: &Sidecar) -> Infallible {
            loop {
                // One at a time: the other end writes its word at once, or is given up.
                let heard = match self.listener.accept().await {
                    Ok((stream, _)) => timeout(PATIENCE, self.hear(stream, sidecar)).await,
                    Err(error) => Ok(Err(error)),
                };
                match heard {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tracing::warn!(%error, "`terminating` could not be heard");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    Err(_) => {
                        tracing::warn!("a connection to the socket of `terminating` said nothing");
                    }
                }
            }
        }

        async fn hear(&self, mut stream: UnixStream, sidecar: &Sidecar) -> io::Result<()> {
            let mut word = [0; WORD.len()];
            stream.read_exact(&mut word).await?;
            if word != WORD {
                return Err(io::Error::other("something else was said"));
            }
            // In this order: what the shutdown wakes looks whether it was told.
            self.told.store(true, Ordering::Relaxed);
            sidecar.begin_shutdown();
            stream.write_all(ANSWER.as_bytes()).await
        }
    }

    /// See [`super`].
    pub fn tell_terminating(port: u16) -> io::Result<()> {
        let mut stream = net::UnixStream::connect_addr(&address(port)?)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(WORD)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        if answer == ANSWER {
            return Ok(());
        }
        Err(io::Error::other(format!("unexpected answer {answer:?}")))
    }

    fn address(port: u16) -> io::Result<SocketAddr> {
        SocketAddr::from_abstract_name(format!("worker-sidecar-{port}"))
    }
}

/// Pods are Linux; elsewhere the sidecar runs inside other programs, which need no socket.
#[cfg(not(target_os = "linux"))]
pub use no_socket::{Socket, tell_terminating};

#[cfg(not(target_os = "linux"))]
mod no_socket {
    use std::{convert::Infallible, io};

    use crate::pipeline::Sidecar;

    /// Nowhere.
    #[derive(Debug)]
    pub struct Socket;

    impl Socket {
        /// Does nothing.
        pub fn bind(_port: u16) -> io::Result<Self> {
            Ok(Self)
        }

        /// Never.
        pub fn was_told(&self) -> bool {
            false
        }

        /// Hears nothing, for ever.
        pub async fn listen(&self, _sidecar: &Sidecar) -> Infallible {
            std::future::pending().await
        }
    }

    /// There is no sidecar to tell.
    pub fn tell_terminating(_port: u16) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use conductor_client::Task;
    use tokio::time::sleep;

    use super::*;
    use crate::{
        config::{Config, TaskConfig},
        held::Held,
        shutdown::Limits,
    };

    const GRACE: Duration = Duration::from_secs(60);
    const STAYS: &str = "the pod stays: nothing to wait for\n";

    fn sidecar() -> Arc<Sidecar> {
        let conductor = "http://127.0.0.1:9/api".parse().unwrap();
        let mut config = Config::new(conductor, vec![TaskConfig::new("t")], "w".to_owned());
        config.grace = GRACE;
        Sidecar::new(config, &Registry::new()).unwrap()
    }

    fn hold(sidecar: &Sidecar) -> Held {
        let task = r#"{"taskId":"i","workflowInstanceId":"w"}"#;
        sidecar.held().hold(&Task::from_json(task).unwrap())
    }

    async fn answer(sidecar: &Arc<Sidecar>) -> (&'static str, Duration) {
        let called = Instant::now();
        (drain(State(sidecar.clone())).await, called.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_container_that_restarts_alone_waits_longer_where_there_is_work() {
        let sidecar = sidecar();
        assert_eq!(answer(&sidecar).await, (STAYS, Duration::from_secs(3)));
        let held = hold(&sidecar);
        assert_eq!(answer(&sidecar).await, (STAYS, Duration::from_secs(10)));
        // The moment at which it looks may be one between two tasks.
        let drops = async {
            sleep(Duration::from_secs(1)).await;
            drop(held);
        };
        let (said, ()) = tokio::join!(answer(&sidecar), drops);
        assert_eq!(said, (STAYS, Duration::from_secs(10)));
        let comes_and_goes = async {
            sleep(Duration::from_secs(1)).await;
            drop(hold(&sidecar));
        };
        let (said, ()) = tokio::join!(answer(&sidecar), comes_and_goes);
        assert_eq!(said, (STAYS, Duration::from_secs(10)));
        assert_eq!(answer(&sidecar).await, (STAYS, Duration::from_secs(3)));
        assert!(!sidecar.is_draining());
    }

    /// On a node that is short of CPU a process takes seconds to start, and an HTTP request does
    /// not. kubelet's clock runs all the same.
    #[tokio::test(start_paused = true)]
    async fn a_terminating_that_is_late_is_waited_for_and_hands_back_no_later() {
        let sidecar = sidecar();
        let _held = hold(&sidecar);
        let late = Duration::from_millis(3500);
        let deleted = Instant::now();
        let terminating = async {
            sleep(late).await;
            sidecar.begin_shutdown();
        };
        let (said, ()) = tokio::join!(answer(&sidecar), terminating);
        assert_eq!(said, ("drained\n", late));
        let limits = sidecar.shutdown.limits();
        assert_eq!(limits, Some(Limits::new(deleted, GRACE)));
    }
}
