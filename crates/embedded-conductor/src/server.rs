//! Sockets: accepting, faults, stopping.

use std::{
    net::SocketAddr,
    sync::Arc,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use axum::{Router, body::Body};
use hyper::service::{Service, service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

use crate::{
    faults::{Fault, Faults},
    http,
    shared::{Moved, Shared},
    state::{BatchFill, Counts},
    tokens::{Auth, Tokens},
};

/// How to run a server.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// When a batch poll that is not full is answered, and what else goes with that.
    pub batch_fill: BatchFill,
    /// How many workflows that have ended are kept.
    pub keep_ended: usize,
    /// Whether there is `update-v2`; servers before December 2024 have none.
    pub has_update_v2: bool,
    /// After how many answers a connection is closed, as Tomcat does after 100.
    pub close_after: Option<u32>,
    /// After how long without a request a connection is closed; none for never. Tomcat does so
    /// after 60 s.
    pub idle_close: Option<Duration>,
    /// The key that is let in; none to let everybody in, as open-source Conductor does.
    pub auth: Option<Auth>,
    /// Whether to note what each task does, for [`Embedded::take_journal`]. It grows until
    /// taken.
    pub journal: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            batch_fill: BatchFill::default(),
            keep_ended: 100_000,
            has_update_v2: true,
            close_after: Some(100),
            idle_close: Some(Duration::from_secs(60)),
            auth: None,
            journal: false,
        }
    }
}

/// A running server. It ends when this is dropped.
#[derive(Debug)]
pub struct Embedded {
    shared: Arc<Shared>,
    close_after: Option<u32>,
    idle_close: Option<Duration>,
    has_update_v2: bool,
    addr: SocketAddr,
    timer: JoinHandle<()>,
    serving: Option<JoinHandle<()>>,
}

impl Embedded {
    /// Starts a server on the current Tokio runtime.
    pub async fn start(options: Options) -> std::io::Result<Self> {
        let listener = TcpListener::bind(options.listen).await?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared::new(
            options.batch_fill,
            options.keep_ended,
            options.auth,
            options.journal,
        ));
        let timer = {
            let shared = shared.clone();
            tokio::spawn(async move { shared.run_timer().await })
        };
        let mut embedded = Self {
            shared,
            close_after: options.close_after,
            idle_close: options.idle_close,
            has_update_v2: options.has_update_v2,
            addr,
            timer,
            serving: None,
        };
        embedded.serve(listener);
        Ok(embedded)
    }

    /// The API's address: `http://127.0.0.1:PORT/api`.
    pub fn base(&self) -> String {
        format!("http://{}/api", self.addr)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What happened since the start.
    pub fn counts(&self) -> Counts {
        self.shared.call(|state, _| state.counts())
    }

    /// What tasks did since the last time this was asked, oldest first; nothing without
    /// [`Options::journal`].
    pub fn take_journal(&self) -> Vec<Moved> {
        self.shared.take_journal()
    }

    /// Faults for tests.
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// Its tokens; none if everybody is let in.
    pub fn tokens(&self) -> Option<&Tokens> {
        self.shared.tokens.as_deref()
    }

    /// Goes away as a server that is killed: connections break, new ones are refused. What it
    /// knows stays for [`Embedded::come_back`].
    pub async fn go_away(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let _ = serving.await;
        }
    }

    /// Listens again where it did before [`Embedded::go_away`].
    pub async fn come_back(&mut self) -> std::io::Result<()> {
        if self.serving.is_none() {
            let listener = TcpListener::bind(self.addr).await?;
            self.serve(listener);
        }
        Ok(())
    }

    /// Ends: connections break, everything is forgotten.
    pub async fn stop(mut self) {
        self.go_away().await;
        self.timer.abort();
    }

    fn serve(&mut self, listener: TcpListener) {
        let connections = Connections {
            shared: self.shared.clone(),
            router: http::router(self.shared.clone(), self.has_update_v2),
            close_after: self.close_after,
            idle_close: self.idle_close,
        };
        self.serving = Some(tokio::spawn(connections.accept(listener)));
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.timer.abort();
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

/// A connection that is to close without an answer.
#[derive(Debug, thiserror::Error)]
#[error("closed without an answer, as asked")]
struct Closed;

struct Connections {
    shared: Arc<Shared>,
    router: Router,
    close_after: Option<u32>,
    idle_close: Option<Duration>,
}

impl Connections {
    async fn accept(self, listener: TcpListener) {
        // Dropped with this future, and the connections with it.
        let mut open = JoinSet::new();
        loop {
            while open.try_join_next().is_some() {}
            match listener.accept().await {
                Ok((stream, _)) => {
                    open.spawn(self.connection(stream));
                }
                Err(error) => {
                    // Most likely too many open files: let some close.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn connection(&self, stream: TcpStream) -> impl Future<Output = ()> + use<> {
        let (shared, router) = (self.shared.clone(), self.router.clone());
        let (close_after, idle_close) = (self.close_after, self.idle_close);
        async move {
            let _ = stream.set_nodelay(true);
            let answered = AtomicU32::new(0);
            let router = TowerToHyperService::new(router);
            let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
                let fault = shared.faults.meet(request.method(), request.uri().path());
                let (shared, router, answered) = (&shared, &router, &answered);
                async move {
                    match fault {
                        None => {}
                        Some(Fault::Status(status)) => {
                            let mut response = hyper::Response::new(Body::empty());
                            *response.status_mut() =
                                hyper::StatusCode::from_u16(status).unwrap_or_default();
                            return Ok(response);
                        }
                        Some(Fault::Hang) => {
                            shared.faults.hang().await;
                            return Err(Closed);
                        }
                        Some(Fault::Close) => return Err(Closed),
                        Some(Fault::LoseAnswer) => {
                            let _ = router.call(request).await;
                            return Err(Closed);
                        }
                    }
                    let mut response = match http::refuse_address(request.uri()) {
                        Some(refused) => refused,
                        None => router
                            .call(request)
                            .await
                            .unwrap_or_else(|never| match never {}),
                    };
                    if response.extensions().get::<http::Unheard>().is_some() {
                        return Err(Closed);
                    }
                    let number = answered.fetch_add(1, Ordering::Relaxed) + 1;
                    if close_after.is_some_and(|n| number >= n) {
                        let close = hyper::header::HeaderValue::from_static("close");
                        response
                            .headers_mut()
                            .insert(hyper::header::CONNECTION, close);
                    }
                    Ok(response)
                }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(idle_close)
                .serve_connection(TokioIo::new(stream), service);
            // A connection that breaks is the other side's matter, or was asked for.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
        }
    }
}
