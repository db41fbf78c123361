//! `kubectl conductor explain`: why a worker has as many pods as it has.
//!
//! ```text
//! API server ──ConductorWorker──> page (pure) ──> text
//! ```

mod page;
mod table;

use anyhow::{Context, Result, bail};
use api::ConductorWorker;
use jiff::Timestamp;
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

/// What is asked for.
#[derive(Debug)]
pub(crate) struct Options {
    /// The worker's name.
    pub(crate) name: String,
    /// Its namespace; absent: the context's.
    pub(crate) namespace: Option<String>,
    /// The context of the kubeconfig; absent: the current one.
    pub(crate) context: Option<String>,
}

/// Reads the worker and says in plain words what was decided about it.
pub(crate) async fn run(options: Options) -> Result<String> {
    let Options {
        name,
        namespace,
        context,
    } = options;
    let config = config(context).await?;
    let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config).context("making a client of the API server")?;
    let worker = read(client, &namespace, &name).await?;
    Ok(page::text(&worker, Timestamp::now()))
}

async fn read(client: Client, namespace: &str, name: &str) -> Result<ConductorWorker> {
    let workers: Api<ConductorWorker> = Api::namespaced(client, namespace);
    match workers.get(name).await {
        Ok(worker) => Ok(worker),
        Err(kube::Error::Api(status)) if status.code == 404 => {
            // The server's words tell whether it is the worker or the definition.
            bail!(
                "there is no ConductorWorker {name} in the namespace {namespace} ({}); kubectl get conductorworkers -A lists all",
                status.message.trim()
            )
        }
        Err(error) => Err(error).context(format!("reading the ConductorWorker {name}")),
    }
}

async fn config(context: Option<String>) -> Result<Config> {
    let Some(context) = context else {
        return Config::infer()
            .await
            .context("no cluster is known: write a kubeconfig, or name one in KUBECONFIG");
    };
    let options = KubeConfigOptions {
        context: Some(context.clone()),
        ..KubeConfigOptions::default()
    };
    let kubeconfig = Kubeconfig::read().context("reading the kubeconfig")?;
    Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .with_context(|| format!("the context {context} of the kubeconfig"))
}

#[cfg(test)]
mod tests {
    use axum::{Json, Router, http::StatusCode, routing::get};
    use serde_json::{Value, json};

    use super::*;

    /// What is read from an API server that answers so.
    async fn answered(status: StatusCode, body: Value) -> Result<ConductorWorker> {
        runtime::install_tls_provider();
        let path = "/apis/conductor-oss.org/v1alpha1/namespaces/shop/conductorworkers/greet";
        let router = Router::new().route(path, get(async move || (status, Json(body))));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let client = Client::try_from(Config::new(url.parse()?))?;
        read(client, "shop", "greet").await
    }

    fn refusal(code: u16, reason: &str, message: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code,
            "reason": reason, "message": message,
        })
    }

    #[tokio::test]
    async fn a_worker_is_read_or_it_is_said_why_not() {
        let worker = json!({
            "apiVersion": "conductor-oss.org/v1alpha1", "kind": "ConductorWorker",
            "metadata": {"name": "greet", "namespace": "shop"},
            "spec": {
                "tasks": [{"name": "greet"}], "scaling": {"maxWait": "30s"},
                "template": {"spec": {"containers": [{"name": "app", "image": "greet:dev"}]}},
            },
        });
        let read = answered(StatusCode::OK, worker).await.unwrap();
        assert_eq!(read.metadata.name.as_deref(), Some("greet"));
        let missing = refusal(404, "NotFound", "conductorworkers \"greet\" not found");
        let said = answered(StatusCode::NOT_FOUND, missing).await.unwrap_err();
        assert_eq!(
            said.to_string(),
            "there is no ConductorWorker greet in the namespace shop (conductorworkers \"greet\" not found); kubectl get conductorworkers -A lists all"
        );
        let forbidden = refusal(403, "Forbidden", "you cannot get resource conductorworkers");
        let said = answered(StatusCode::FORBIDDEN, forbidden)
            .await
            .unwrap_err();
        let said = format!("{said:#}");
        assert!(
            said.starts_with("reading the ConductorWorker greet: "),
            "{said}"
        );
        assert!(said.contains("you cannot get resource"), "{said}");
    }
}
