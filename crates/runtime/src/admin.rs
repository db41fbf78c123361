//! The program's own HTTP server: metrics, health and what else it offers.

use std::{future::Future, io, time::Duration};

use axum::{
    Router,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus::{Encoder, Registry, TextEncoder};
use tokio::{net::TcpListener, sync::watch};

/// How long answers under way may still take after `stop`.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// Serves until `stop` ends; then answers what was already asked, for at most five seconds.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (told, mut stopped) = watch::channel(false);
    let graceful = async move {
        stop.await;
        told.send_replace(true);
    };
    let limit = async move {
        // An error: the server ended and dropped its end.
        if stopped.wait_for(|stopped| *stopped).await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(LAST_ANSWERS).await;
    };
    let server = axum::serve(listener, router).with_graceful_shutdown(graceful);
    tokio::select! {
        ended = server => ended,
        () = limit => Ok(()),
    }
}

/// `GET /metrics`: the registry in Prometheus' text format.
pub fn metrics_route(registry: Registry) -> Router {
    Router::new().route("/metrics", get(async move || metrics(&registry)))
}

fn metrics(registry: &Registry) -> Response {
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    match encoder.encode(&registry.gather(), &mut text) {
        Ok(()) => {
            let kind = encoder.format_type().to_owned();
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;

    #[tokio::test]
    async fn metrics_are_served_until_stop() {
        let registry = Registry::new();
        let counter = prometheus::IntCounter::new("things_total", "Things.").unwrap();
        registry.register(Box::new(counter.clone())).unwrap();
        counter.inc();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = tokio::spawn(serve(listener, metrics_route(registry), async {
            let _ = stopped.await;
        }));

        let mut connection = TcpStream::connect(address).await.unwrap();
        connection
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let mut answer = vec![0; 4096];
        let n = connection.read(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..n]).into_owned();
        assert!(answer.contains("text/plain; version=0.0.4"), "{answer}");
        assert!(answer.contains("things_total 1"), "{answer}");

        // The connection is still open, as a scraper's is: it must not hold the server up.
        stop.send(()).unwrap();
        server.await.unwrap().unwrap();
    }
}
