//! How Conductor is reached.

use std::{collections::BTreeMap, fmt};

use api::{HeaderText, NameRef};
use conductor_client::ApiBase;

use super::{Defaults, InvalidSpec};

/// How Conductor is reached. Equal connections of one namespace reach it alike.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Connection {
    /// Where it is.
    pub base: ApiBase,
    /// A Secret with `key` and `secret`.
    pub auth_secret: Option<String>,
    /// A `ConfigMap` with `ca.crt`.
    pub ca_config_map: Option<String>,
    /// A Secret with `tls.crt` and `tls.key`.
    pub client_cert_secret: Option<String>,
    /// More headers.
    pub headers: BTreeMap<String, String>,
}

impl Connection {
    /// By its address alone.
    pub fn new(base: ApiBase) -> Self {
        Self {
            base,
            auth_secret: None,
            ca_config_map: None,
            client_cert_secret: None,
            headers: BTreeMap::new(),
        }
    }

    /// Whether it depends on objects of the worker's namespace.
    pub fn has_references(&self) -> bool {
        self.auth_secret.is_some()
            || self.ca_config_map.is_some()
            || self.client_cert_secret.is_some()
    }
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.base.fmt(f)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("base", &self.base)
            .field("auth_secret", &self.auth_secret)
            .field("ca_config_map", &self.ca_config_map)
            .field("client_cert_secret", &self.client_cert_secret)
            .field("headers", &self.headers.keys()) // a value may be a secret all the same
            .finish()
    }
}

pub(super) fn parse(
    connection: Option<&api::Connection>,
    defaults: &Defaults,
) -> Result<Connection, InvalidSpec> {
    let Some(connection) = connection else {
        return defaults
            .conductor_url
            .clone()
            .map(Connection::new)
            .ok_or_else(|| {
                InvalidSpec::new(
                    "connection",
                    "the operator has no default connection; write connection.url, such as http://conductor:8080/api",
                )
            });
    };
    let api::Connection {
        url,
        auth_secret_ref,
        ca_config_map_ref,
        client_cert_secret_ref,
        headers,
    } = connection;
    let base =
        ApiBase::parse(url).map_err(|e| InvalidSpec::new("connection.url", e.to_string()))?;
    let headers: BTreeMap<String, String> = headers
        .iter()
        .map(|(name, HeaderText(value))| (name.clone(), value.clone()))
        .collect();
    // The sidecar would refuse them in the same way.
    let pairs = headers.iter().map(|(name, value)| (&**name, &**value));
    conductor_client::Connection::new(base.clone())
        .with_headers(pairs)
        .map_err(|e| {
            let advice = "write names such as X-Tenant with values in one line of ASCII";
            InvalidSpec::new("connection.headers", format!("{e}; {advice}"))
        })?;
    Ok(Connection {
        base,
        auth_secret: name(auth_secret_ref.as_ref(), "authSecretRef")?,
        ca_config_map: name(ca_config_map_ref.as_ref(), "caConfigMapRef")?,
        client_cert_secret: name(client_cert_secret_ref.as_ref(), "clientCertSecretRef")?,
        headers,
    })
}

fn name(reference: Option<&NameRef>, field: &str) -> Result<Option<String>, InvalidSpec> {
    let Some(NameRef { name }) = reference else {
        return Ok(None);
    };
    let is_end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_name = name.chars().all(|c| is_end(c) || matches!(c, '-' | '.'))
        && name.starts_with(is_end)
        && name.ends_with(is_end);
    if is_name {
        Ok(Some(name.clone()))
    } else {
        Err(InvalidSpec::new(
            format!("connection.{field}.name"),
            "write the name of an object in the worker's namespace, such as conductor-keys; leave the reference out if there is none",
        ))
    }
}
