//! How a server is reached: its address, who calls, and whom to trust.

use std::{fmt, path::PathBuf};

use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use secrecy::SecretString;

use crate::{
    ApiBase,
    material::{Material, Unreadable},
    token,
};

/// How a server is reached. What is read from files is read again when they change.
///
/// Proxies come from the environment, as elsewhere: `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`.
#[derive(Clone)]
pub struct Connection {
    pub(crate) base: ApiBase,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) ca: Option<Pem>,
    pub(crate) client_certificate: Option<(Pem, Pem)>,
    pub(crate) headers: HeaderMap,
}

/// An application's key and secret. They buy a token at `POST /token`, as Orkes servers want
/// it; a server that answers 404 there has no authentication and is used without.
#[derive(Clone)]
pub enum Credentials {
    /// These, for good.
    Given {
        /// The key's id.
        key: String,
        /// Its secret.
        secret: SecretString,
    },
    /// The files `key` and `secret` of a directory, such as a mounted Secret.
    Dir(PathBuf),
}

/// Text in PEM: certificates, or a private key.
#[derive(Clone)]
pub enum Pem {
    /// This.
    Given(SecretString),
    /// A file's.
    File(PathBuf),
}

/// What is wrong with a connection, and no secret of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidConnection(String);

/// What the client says itself, or what belongs to a single hop.
const OURS: [HeaderName; 8] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
];

impl Connection {
    /// Without credentials, trusting whom the system trusts.
    pub fn new(base: ApiBase) -> Self {
        Self {
            base,
            credentials: None,
            ca: None,
            client_certificate: None,
            headers: HeaderMap::new(),
        }
    }

    /// The server's address.
    pub fn base(&self) -> &ApiBase {
        &self.base
    }

    /// With a key and its secret. An error if they are empty or cannot be read.
    pub fn with_credentials(self, credentials: Credentials) -> Result<Self, InvalidConnection> {
        Self {
            credentials: Some(credentials),
            ..self
        }
        .checked()
    }

    /// Trusting these authorities, and no others. An error if there is no certificate in it.
    ///
    /// # Panics
    /// When no rustls crypto provider is installed.
    pub fn with_ca(self, ca: Pem) -> Result<Self, InvalidConnection> {
        Self {
            ca: Some(ca),
            ..self
        }
        .checked()
    }

    /// With a certificate of our own, for a server that asks for one. An error if certificate
    /// and key cannot be read or do not belong together.
    ///
    /// # Panics
    /// When no rustls crypto provider is installed.
    pub fn with_client_certificate(
        self,
        certificate: Pem,
        key: Pem,
    ) -> Result<Self, InvalidConnection> {
        Self {
            client_certificate: Some((certificate, key)),
            ..self
        }
        .checked()
    }

    /// With more headers on each request, for gateways. They are kept out of logs, as tokens
    /// are. An error names a header that is none or that the client sets itself.
    pub fn with_headers<'a>(
        mut self,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, InvalidConnection> {
        for (given, value) in headers {
            let name = HeaderName::try_from(given)
                .map_err(|_| InvalidConnection(format!("{given:?} is not a header's name")))?;
            if name == token::HEADER {
                return Err(InvalidConnection(format!(
                    "{given} is the token's header: give a key and a secret instead"
                )));
            }
            if OURS.contains(&name) {
                return Err(InvalidConnection(format!(
                    "{given} is set by the client itself: leave it out"
                )));
            }
            let mut value = HeaderValue::try_from(value).map_err(|_| {
                InvalidConnection(format!(
                    "the value of {given} has characters that a header cannot hold"
                ))
            })?;
            value.set_sensitive(true);
            self.headers.insert(name, value);
        }
        Ok(self)
    }

    /// Whether anything is there that may change while it is used.
    pub(crate) fn is_watched(&self) -> bool {
        let file = |pem: &Pem| matches!(pem, Pem::File(_));
        matches!(self.credentials, Some(Credentials::Dir(_)))
            || self.ca.as_ref().is_some_and(file)
            || (self.client_certificate.as_ref()).is_some_and(|(cert, key)| file(cert) || file(key))
    }

    fn checked(self) -> Result<Self, InvalidConnection> {
        let material = Material::read(&self)?;
        if !material.tls.is_default() {
            material.tls.client(&self.headers)?;
        }
        Ok(self)
    }
}

impl From<ApiBase> for Connection {
    fn from(base: ApiBase) -> Self {
        Self::new(base)
    }
}

impl From<Unreadable> for InvalidConnection {
    fn from(Unreadable(why): Unreadable) -> Self {
        Self(why)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("base", &self.base)
            .field("credentials", &self.credentials)
            .field("ca", &self.ca)
            .field("client_certificate", &self.client_certificate)
            .field("headers", &self.headers) // their values are marked as sensitive
            .finish()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given { .. } => f.write_str("Given"),
            Self::Dir(dir) => f.debug_tuple("Dir").field(dir).finish(),
        }
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(_) => f.write_str("Given"),
            Self::File(file) => f.debug_tuple("File").field(file).finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> Connection {
        Connection::new(ApiBase::parse("http://c").unwrap())
    }

    #[test]
    fn a_header_that_cannot_be_is_named_and_its_value_is_not() {
        for (name, says) in [
            ("X Tenant", "\"X Tenant\" is not a header's name"),
            ("x-authorization", "give a key and a secret"),
            ("Content-Type", "leave it out"),
            ("X-Tenant", "characters that a header cannot hold"),
        ] {
            let error = plain().with_headers([(name, "s3cret\n")]).unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn credentials_that_cannot_be_read_are_refused() {
        let nowhere = PathBuf::from("/nowhere");
        let error = plain()
            .with_credentials(Credentials::Dir(nowhere))
            .unwrap_err();
        assert!(error.to_string().contains("/nowhere/key"), "{error}");
        let empty = Credentials::Given {
            key: "k".to_owned(),
            secret: " \n".into(),
        };
        let error = plain().with_credentials(empty).unwrap_err();
        assert_eq!(error.to_string(), "the secret is empty");
    }

    #[test]
    fn debug_shows_no_secret() {
        let connection = plain()
            .with_credentials(Credentials::Given {
                key: "k".to_owned(),
                secret: "s3cret".into(),
            })
            .unwrap()
            .with_headers([("X-Tenant", "s3cret")])
            .unwrap();
        let shown = format!("{connection:?} {connection:#?}");
        assert!(!shown.contains("s3cret"), "{shown}");
        assert!(shown.contains("x-tenant"), "{shown}");
    }
}
