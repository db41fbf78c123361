//! The client of one identity, made anew when what its connection refers to changes.

use std::{sync::Arc, time::Duration};

use conductor_client::Client;
use tokio::time::{Instant, timeout};

use super::{failed::Failed, sizes::Sizes};
use crate::references::{Identity, References, Resolved, Unresolved};

/// How often the objects are read again that it refers to.
const AGAIN: Duration = Duration::from_secs(30);

pub(super) struct Conductor {
    identity: Identity,
    references: Arc<References>,
    client: Option<(Vec<String>, Client)>,
    /// When to read the objects again; never if there are none.
    again: Option<Instant>,
}

impl Conductor {
    pub(super) fn new(identity: Identity, references: Arc<References>) -> Self {
        Self {
            identity,
            references,
            client: None,
            again: None,
        }
    }

    /// Whose it is.
    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The client of the moment. Objects are waited for as long as `patience` lasts.
    pub(super) async fn client(&mut self, patience: Duration) -> Result<Client, Failed> {
        let now = Instant::now();
        if let Some((_, client)) = &self.client
            && self.again.is_none_or(|again| now < again)
        {
            return Ok(client.clone());
        }
        let read = timeout(patience, self.references.resolve(&self.identity)).await;
        let read = read.unwrap_or_else(|_| {
            let why = "Kubernetes does not say what the connection refers to";
            Err(Unresolved::Unknown(why.to_owned()))
        });
        self.again = self.identity.has_references().then(|| now + AGAIN);
        match (read, &self.client) {
            // The same client has the same token.
            (Ok(Resolved { versions, .. }), Some((known, client))) if versions == *known => {
                Ok(client.clone())
            }
            (Err(Unresolved::Unknown(why)), Some((_, client))) => {
                tracing::warn!(identity = ?self.identity, why, "its objects are used as they were");
                Ok(client.clone())
            }
            (
                Ok(Resolved {
                    connection,
                    versions,
                }),
                _,
            ) => {
                let client = Client::with_connection(connection)
                    .map_err(|error| Failed::invalid(error.to_string()))?;
                self.client = Some((versions, client.clone()));
                Ok(client)
            }
            (Err(unresolved), _) => {
                self.client = None;
                Err(unresolved.into())
            }
        }
    }

    /// Notes an answer: keys that are refused may have been changed.
    pub(super) fn note(&mut self, sizes: &Sizes) {
        if sizes.are_unauthorized()
            && let Some(again) = &mut self.again
        {
            *again = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
    use conductor_client::ApiBase;
    use embedded_conductor::{Auth, Embedded, Options};
    use serde_json::{Value, json};

    use super::*;
    use crate::{controller::observed::Key, sampling::Failure, worker::Worker};

    const PATIENCE: Duration = Duration::from_secs(20);

    /// What the API server answers for the Secret.
    type Answer = Arc<Mutex<(StatusCode, Value)>>;

    /// An API server with one Secret, and a client of it.
    async fn kubernetes() -> (Answer, Arc<References>) {
        runtime::install_tls_provider();
        let answer: Answer = Arc::new(Mutex::new((StatusCode::OK, secret("1", "k", "s"))));
        let router = Router::new()
            .route(
                "/api/v1/namespaces/shop/secrets/keys",
                get(|State(answer): State<Answer>| async move {
                    let (status, body) = answer.lock().unwrap().clone();
                    (status, Json(body))
                }),
            )
            .with_state(answer.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let config = kube::Config::new(url.parse().unwrap());
        let client = kube::Client::try_from(config).unwrap();
        (answer, Arc::new(References::new(client)))
    }

    fn secret(version: &str, key: &str, secret: &str) -> Value {
        let text = |text: &str| k8s_openapi::ByteString(text.as_bytes().to_vec());
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "keys", "namespace": "shop", "uid": "u", "resourceVersion": version},
            "data": {"key": text(key), "secret": text(secret)},
        })
    }

    fn refusal(code: u16, reason: &str) -> (StatusCode, Value) {
        let status = json!({
            "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code,
            "reason": reason, "message": reason,
        });
        (StatusCode::from_u16(code).unwrap(), status)
    }

    fn identity(url: &str) -> Identity {
        let defaults = crate::worker::Defaults {
            conductor_url: None,
            sidecar_image: String::new(),
            sidecar_image_pull_policy: String::new(),
        };
        let spec = json!({
            "connection": {"url": url, "authSecretRef": {"name": "keys"}},
            "tasks": [{"name": "greet"}],
            "scaling": {"maxWait": "30s"},
            "template": {"spec": {"containers": [{"name": "app", "image": "greet:dev"}]}},
        });
        let worker = Worker::parse(&serde_json::from_value(spec).unwrap(), &defaults).unwrap();
        let key = Key {
            namespace: "shop".to_owned(),
            name: "greet".to_owned(),
        };
        Identity::of(&key, &worker)
    }

    async fn failure(conductor: &mut Conductor) -> (Failure, String) {
        let failed = conductor.client(PATIENCE).await.unwrap_err();
        (failed.kind(), failed.message().to_owned())
    }

    #[tokio::test]
    async fn queues_are_read_with_the_workers_own_keys_and_with_changed_ones() {
        let (answer, references) = kubernetes().await;
        let server = Embedded::start(Options {
            auth: Some(Auth::new("k", "s")),
            ..Options::default()
        })
        .await
        .unwrap();
        let tokens = server.tokens().unwrap();
        let mut conductor = Conductor::new(identity(&server.base()), references);
        let ask = [conductor_client::QueueName::new("greet", None)];
        for _ in 0..3 {
            let client = conductor.client(PATIENCE).await.unwrap();
            client.queue_sizes(&ask).await.unwrap();
        }
        assert_eq!(tokens.counts().given, 1, "the client is kept");

        tokens.set(Auth::new("k", "another"));
        tokens.revoke();
        let client = conductor.client(PATIENCE).await.unwrap();
        let error = client.queue_sizes(&ask).await.unwrap_err();
        let refused = Sizes::none(&ask, &Failed::of(&error));
        conductor.note(&refused);
        assert!(refused.are_unauthorized());
        *answer.lock().unwrap() = (StatusCode::OK, secret("2", "k", "another"));
        let client = conductor.client(PATIENCE).await.unwrap();
        client.queue_sizes(&ask).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_not_there_is_said_in_one_sentence() {
        let (answer, references) = kubernetes().await;
        let mut without = secret("1", "k", "s");
        without["data"] = json!({"key": "aw=="});
        let rows = [
            (
                refusal(404, "NotFound"),
                Failure::SecretNotFound,
                "there is no Secret keys in shop: create it, or correct its name in spec.connection",
            ),
            (
                (StatusCode::OK, without),
                Failure::SecretNotFound,
                "the Secret keys in shop has no secret: add it",
            ),
            (
                (StatusCode::OK, secret("1", "k", "")),
                Failure::ConnectionInvalid,
                "the Secret keys in shop cannot be used: the secret is empty",
            ),
            (
                refusal(403, "Forbidden"),
                Failure::Forbidden,
                "the operator may not read the Secret keys in shop: add it to the chart's rbac.secretNames, or let it by a Role in shop",
            ),
        ];
        let mut conductor = Conductor::new(identity("http://127.0.0.1:9"), references);
        for (says, kind, message) in rows {
            *answer.lock().unwrap() = says;
            let said = failure(&mut conductor).await;
            assert_eq!(said, (kind, message.to_owned()));
        }
        // It is looked at again at once.
        *answer.lock().unwrap() = (StatusCode::OK, secret("1", "k", "s"));
        conductor.client(PATIENCE).await.unwrap();
    }

    #[tokio::test]
    async fn kubernetes_being_away_takes_no_keys_away() {
        let (answer, references) = kubernetes().await;
        let mut conductor = Conductor::new(identity("http://127.0.0.1:9"), references);
        conductor.client(PATIENCE).await.unwrap();
        conductor.again = Some(Instant::now());
        *answer.lock().unwrap() = refusal(500, "InternalError");
        conductor.client(PATIENCE).await.unwrap();
    }

    #[test]
    fn workers_share_an_identity_unless_they_refer_to_objects_of_another_namespace() {
        let base = || ApiBase::parse("http://c").unwrap();
        let of = |namespace: &str, secret: Option<&str>| {
            let mut spec = json!({
                "connection": {"url": base().as_str()},
                "tasks": [{"name": "greet"}],
                "scaling": {"maxWait": "30s"},
                "template": {"spec": {"containers": [{"name": "app", "image": "greet:dev"}]}},
            });
            if let Some(secret) = secret {
                spec["connection"]["authSecretRef"] = json!({"name": secret});
            }
            let defaults = crate::worker::Defaults {
                conductor_url: None,
                sidecar_image: String::new(),
                sidecar_image_pull_policy: String::new(),
            };
            let worker = Worker::parse(&serde_json::from_value(spec).unwrap(), &defaults).unwrap();
            let key = Key {
                namespace: namespace.to_owned(),
                name: "greet".to_owned(),
            };
            Identity::of(&key, &worker)
        };
        assert_eq!(of("a", None), of("b", None));
        assert_eq!(of("a", Some("keys")), of("a", Some("keys")));
        assert_ne!(of("a", Some("keys")), of("b", Some("keys")));
        assert_ne!(of("a", Some("keys")), of("a", Some("others")));
        assert_ne!(of("a", Some("keys")), of("a", None));
    }
}
