//! What a connection is made of, as its files hold it at one moment.

use std::{fmt::Display, path::Path, time::Duration};

use reqwest::{Certificate, Identity, header::HeaderMap};
use secrecy::{ExposeSecret, SecretString};

use crate::connection::{Connection, Credentials, Pem};

/// The server closes a connection that was idle for 60 s; ours goes first, so that a request
/// does not meet a closing one.
const IDLE: Duration = Duration::from_secs(50);

/// Keys and certificates. No `Debug`: it would show them.
#[derive(Clone, PartialEq)]
pub(crate) struct Material {
    pub(crate) keys: Option<Keys>,
    pub(crate) tls: Tls,
}

/// A key's id and its secret.
#[derive(Clone)]
pub(crate) struct Keys {
    pub(crate) id: String,
    pub(crate) secret: SecretString,
}

/// Whom to trust, and with what to be trusted.
#[derive(Clone)]
pub(crate) struct Tls {
    /// Certificates, PEM.
    ca: Option<SecretString>,
    /// A certificate and its key, PEM.
    identity: Option<SecretString>,
}

/// What cannot be read, and why; no contents.
pub(crate) struct Unreadable(pub(crate) String);

impl Material {
    /// Reads the files. They are few, small and in memory where Kubernetes mounts them, so
    /// that reading them takes no thread of its own.
    pub(crate) fn read(connection: &Connection) -> Result<Self, Unreadable> {
        let keys = match &connection.credentials {
            None => None,
            Some(Credentials::Given { key, secret }) => Some(Keys::new(
                key,
                secret.expose_secret(),
                "the key",
                "the secret",
            )?),
            Some(Credentials::Dir(dir)) => {
                let (key, secret) = (dir.join("key"), dir.join("secret"));
                Some(Keys::new(
                    text(&key)?.expose_secret(),
                    text(&secret)?.expose_secret(),
                    key.display(),
                    secret.display(),
                )?)
            }
        };
        let identity = match &connection.client_certificate {
            None => None,
            Some((certificate, key)) => {
                let (certificate, key) = (certificate.read()?, key.read()?);
                let both = format!("{}\n{}", certificate.expose_secret(), key.expose_secret());
                Some(both.into())
            }
        };
        let ca = connection.ca.as_ref().map(Pem::read).transpose()?;
        let tls = Tls { ca, identity };
        Ok(Self { keys, tls })
    }
}

impl Keys {
    /// Files made by hand end in a newline, which is not part of what they hold.
    fn new(
        id: &str,
        secret: &str,
        id_is: impl Display,
        secret_is: impl Display,
    ) -> Result<Self, Unreadable> {
        let (id, secret) = (id.trim(), secret.trim());
        if id.is_empty() {
            return Err(Unreadable(format!("{id_is} is empty")));
        }
        if secret.is_empty() {
            return Err(Unreadable(format!("{secret_is} is empty")));
        }
        Ok(Self {
            id: id.to_owned(),
            secret: secret.into(),
        })
    }
}

impl PartialEq for Keys {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.secret.expose_secret() == other.secret.expose_secret()
    }
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        self.shown() == other.shown()
    }
}

impl Pem {
    fn read(&self) -> Result<SecretString, Unreadable> {
        match self {
            Self::Given(text) => Ok(text.clone()),
            Self::File(path) => text(path),
        }
    }
}

fn text(path: &Path) -> Result<SecretString, Unreadable> {
    std::fs::read_to_string(path)
        .map(SecretString::from)
        .map_err(|e| Unreadable(format!("{} cannot be read: {e}", path.display())))
}

impl Tls {
    fn shown(&self) -> [Option<&str>; 2] {
        [&self.ca, &self.identity].map(|text| text.as_ref().map(ExposeSecret::expose_secret))
    }

    pub(crate) fn is_default(&self) -> bool {
        self.ca.is_none() && self.identity.is_none()
    }

    /// An HTTP client with it.
    pub(crate) fn client(&self, headers: &HeaderMap) -> Result<reqwest::Client, Unreadable> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("conductor-worker/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers.clone())
            .connect_timeout(Duration::from_secs(10))
            .pool_idle_timeout(IDLE)
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true);
        if let Some(ca) = &self.ca {
            let certificates = Certificate::from_pem_bundle(ca.expose_secret().as_bytes())
                .map_err(|_| Unreadable("the CA certificates are not PEM".to_owned()))?;
            if certificates.is_empty() {
                return Err(Unreadable(
                    "there is no CA certificate in it: it must be PEM, with BEGIN CERTIFICATE"
                        .to_owned(),
                ));
            }
            builder = builder.tls_certs_only(certificates);
        }
        if let Some(identity) = &self.identity {
            let identity = Identity::from_pem(identity.expose_secret().as_bytes()).map_err(|_| {
                Unreadable(
                    "the client certificate and its key must be PEM, with BEGIN CERTIFICATE and BEGIN PRIVATE KEY"
                        .to_owned(),
                )
            })?;
            builder = builder.identity(identity);
        }
        builder.build().map_err(|error| {
            let (what, why) = match (&self.identity, &self.ca) {
                (Some(_), None) => ("the client certificate cannot be used", causes(&error)),
                (None, Some(_)) => ("the CA certificates cannot be used", causes(&error)),
                _ => ("no HTTP client can be made", causes(&error)),
            };
            Unreadable(format!("{what}: {why}"))
        })
    }
}

fn causes(error: &reqwest::Error) -> String {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(cause) = deepest.source() {
        deepest = cause;
    }
    deepest.to_string()
}
