//! What connections refer to: Secrets and `ConfigMaps`, read by their names. They are not
//! watched, so that the operator needs no right to list everybody's.

use std::{collections::BTreeMap, fmt::Debug};

use conductor_client::{Connection, Credentials, InvalidConnection, Pem};
use k8s_openapi::{
    ByteString, NamespaceResourceScope,
    api::core::v1::{ConfigMap, Secret},
};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use crate::{controller::observed::Key, worker};

/// Whose connection: workers of one identity are sampled together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// Where the objects are that it refers to; none if it refers to none.
    namespace: Option<String>,
    connection: worker::Connection,
}

/// A connection with what it refers to.
#[derive(Debug)]
pub struct Resolved {
    /// The connection.
    pub connection: Connection,
    /// The objects' versions: equal ones hold the same.
    pub versions: Vec<String>,
}

/// Why a connection cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unresolved {
    /// A Secret, or what should be in it, is not there.
    Secret(String),
    /// A `ConfigMap`, or what should be in it, is not there.
    ConfigMap(String),
    /// What they hold cannot be used.
    Invalid(String),
    /// The operator may not read it.
    Forbidden(String),
    /// Kubernetes does not say.
    Unknown(String),
}

/// Reads what connections refer to.
pub struct References(Client);

impl Identity {
    /// A worker's.
    pub fn of(key: &Key, worker: &worker::Worker) -> Self {
        let connection = worker.connection.clone();
        let namespace = connection.has_references().then(|| key.namespace.clone());
        Self {
            namespace,
            connection,
        }
    }

    /// Where Conductor is.
    pub fn base(&self) -> &conductor_client::ApiBase {
        &self.connection.base
    }

    /// Whether both reach the same queues, whoever they are to the server: gateways tell tenants
    /// by headers.
    pub fn reaches_queues_of(&self, connection: &worker::Connection) -> bool {
        self.connection.base == connection.base && self.connection.headers == connection.headers
    }

    /// Whether it may change although the workers do not.
    pub fn has_references(&self) -> bool {
        self.namespace.is_some()
    }
}

impl References {
    /// By this client.
    pub fn new(client: Client) -> Self {
        Self(client)
    }

    /// A connection with what it refers to now.
    pub async fn resolve(&self, identity: &Identity) -> Result<Resolved, Unresolved> {
        let worker::Connection {
            base,
            auth_secret,
            ca_config_map,
            client_cert_secret,
            headers,
        } = &identity.connection;
        let namespace = identity.namespace.as_deref().unwrap_or_default();
        let pairs = headers.iter().map(|(name, value)| (&**name, &**value));
        let mut connection = Connection::new(base.clone())
            .with_headers(pairs)
            .map_err(|e| Unresolved::Invalid(e.to_string()))?;
        let mut versions = Vec::new();
        if let Some(name) = auth_secret {
            let secret = self.secret(namespace, name).await?;
            let credentials = Credentials::Given {
                key: text(&secret, "key")?,
                secret: text(&secret, "secret")?.into(),
            };
            let of = (Secret::kind(&()), &secret.metadata);
            connection = used(of, connection.with_credentials(credentials))?;
            versions.push(version(&secret));
        }
        if let Some(name) = ca_config_map {
            let map: ConfigMap = self.get(namespace, name).await?;
            let ca = map.data.iter().flatten().find(|(key, _)| *key == "ca.crt");
            let Some((_, ca)) = ca else {
                return Err(Unresolved::ConfigMap(format!(
                    "the ConfigMap {name} in {namespace} has no ca.crt: put the CA's certificate there"
                )));
            };
            let of = (ConfigMap::kind(&()), &map.metadata);
            connection = used(of, connection.with_ca(Pem::Given(ca.as_str().into())))?;
            versions.push(version(&map));
        }
        if let Some(name) = client_cert_secret {
            let secret = self.secret(namespace, name).await?;
            let certificate = Pem::Given(text(&secret, "tls.crt")?.into());
            let key = Pem::Given(text(&secret, "tls.key")?.into());
            let of = (Secret::kind(&()), &secret.metadata);
            connection = used(of, connection.with_client_certificate(certificate, key))?;
            versions.push(version(&secret));
        }
        Ok(Resolved {
            connection,
            versions,
        })
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Secret, Unresolved> {
        self.get(namespace, name).await
    }

    async fn get<K>(&self, namespace: &str, name: &str) -> Result<K, Unresolved>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug,
    {
        let api: Api<K> = Api::namespaced(self.0.clone(), namespace);
        let kind = K::kind(&());
        match api.get_opt(name).await {
            Ok(Some(object)) => Ok(object),
            Ok(None) => {
                let why = format!(
                    "there is no {kind} {name} in {namespace}: create it, or correct its name in spec.connection"
                );
                Err(if kind == Secret::kind(&()) {
                    Unresolved::Secret(why)
                } else {
                    Unresolved::ConfigMap(why)
                })
            }
            Err(kube::Error::Api(status)) if status.code == 403 => {
                let value = if kind == Secret::kind(&()) {
                    "rbac.secretNames"
                } else {
                    "rbac.configMapNames"
                };
                Err(Unresolved::Forbidden(format!(
                    "the operator may not read the {kind} {name} in {namespace}: add it to the chart's {value}, or let it by a Role in {namespace}"
                )))
            }
            Err(error) => Err(Unresolved::Unknown(format!(
                "the {kind} {name} in {namespace} cannot be read: {error}"
            ))),
        }
    }
}

impl std::fmt::Debug for References {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("References")
    }
}

fn text(secret: &Secret, name: &str) -> Result<String, Unresolved> {
    let (own, namespace) = (secret.name_any(), secret.namespace().unwrap_or_default());
    let none: &BTreeMap<String, ByteString> = &BTreeMap::new();
    let Some(ByteString(bytes)) = secret.data.as_ref().unwrap_or(none).get(name) else {
        return Err(Unresolved::Secret(format!(
            "the Secret {own} in {namespace} has no {name}: add it"
        )));
    };
    String::from_utf8(bytes.clone()).map_err(|_| {
        Unresolved::Invalid(format!(
            "{name} of the Secret {own} in {namespace} is not text"
        ))
    })
}

fn version(object: &impl ResourceExt) -> String {
    // Another object of the same name has another UID.
    let (uid, version) = (object.uid(), object.resource_version());
    format!(
        "{}/{}",
        uid.unwrap_or_default(),
        version.unwrap_or_default()
    )
}

fn used(
    (kind, meta): (std::borrow::Cow<'_, str>, &kube::api::ObjectMeta),
    made: Result<Connection, InvalidConnection>,
) -> Result<Connection, Unresolved> {
    made.map_err(|why| {
        let name = meta.name.as_deref().unwrap_or_default();
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        Unresolved::Invalid(format!(
            "the {kind} {name} in {namespace} cannot be used: {why}"
        ))
    })
}
