//! How Conductor is reached: the settings beside its address.

use std::{collections::BTreeMap, path::PathBuf};

use conductor_client::{ApiBase, Connection, Credentials, Pem};
use secrecy::{ExposeSecret, SecretString};

use super::setting::{BadValue, Setting, setting};

/// What was typed. What may be a secret shows in no help and no `Debug`.
#[derive(Debug, Clone, clap::Args)]
pub struct TypedConnection {
    /// A directory with the files key and secret: an application's key and its secret, for
    /// servers with authentication. The files are read again when they change.
    #[arg(long, env = "CONDUCTOR_AUTH_DIR", value_name = "DIR", global = true)]
    auth_dir: Option<String>,
    /// The key itself, in place of a directory.
    #[arg(
        long,
        env = "CONDUCTOR_AUTH_KEY",
        value_name = "KEY",
        hide_env_values = true,
        global = true
    )]
    auth_key: Option<SecretString>,
    /// The key's secret. Others can see arguments: rather use the variable or the directory.
    #[arg(
        long,
        env = "CONDUCTOR_AUTH_SECRET",
        value_name = "SECRET",
        hide_env_values = true,
        global = true
    )]
    auth_secret: Option<SecretString>,
    /// The certificates (PEM) of the authorities to trust, in place of the system's.
    #[arg(long, env = "CONDUCTOR_CA_FILE", value_name = "FILE", global = true)]
    ca_file: Option<String>,
    /// A client certificate (PEM), for servers that ask for one.
    #[arg(
        long,
        env = "CONDUCTOR_CLIENT_CERT_FILE",
        value_name = "FILE",
        global = true
    )]
    client_cert_file: Option<String>,
    /// The client certificate's private key (PEM).
    #[arg(
        long,
        env = "CONDUCTOR_CLIENT_KEY_FILE",
        value_name = "FILE",
        global = true
    )]
    client_key_file: Option<String>,
    /// More headers on each request, a JSON object: {"X-Tenant":"shop"}.
    #[arg(
        long,
        env = "CONDUCTOR_HEADERS",
        value_name = "JSON",
        hide_env_values = true,
        global = true
    )]
    headers: Option<SecretString>,
}

const DIR: Setting = setting(
    "--auth-dir",
    "CONDUCTOR_AUTH_DIR",
    "a directory with the files key and secret, or leave it out",
);
const KEY: Setting = setting(
    "--auth-key",
    "CONDUCTOR_AUTH_KEY",
    "both key and secret, or neither",
);
const SECRET: Setting = setting(
    "--auth-secret",
    "CONDUCTOR_AUTH_SECRET",
    "both key and secret, or neither",
);
const CA: Setting = setting(
    "--ca-file",
    "CONDUCTOR_CA_FILE",
    "a file of certificates in PEM",
);
const CERT: Setting = setting(
    "--client-cert-file",
    "CONDUCTOR_CLIENT_CERT_FILE",
    "the files of a certificate and of its key in PEM, or neither",
);
const CERT_KEY: Setting = setting(
    "--client-key-file",
    "CONDUCTOR_CLIENT_KEY_FILE",
    "the files of a certificate and of its key in PEM, or neither",
);
const HEADERS: Setting = setting(
    "--headers",
    "CONDUCTOR_HEADERS",
    r#"a JSON object of texts such as {"X-Tenant":"shop"}"#,
);

impl TypedConnection {
    /// Finds out what was meant, for the server at `base`. Reads the files. No message quotes
    /// what may be a secret.
    pub(super) fn mean(self, base: ApiBase) -> Result<Connection, BadValue> {
        let Self {
            auth_dir,
            auth_key,
            auth_secret,
            ca_file,
            client_cert_file,
            client_key_file,
            headers,
        } = self;
        let file = |path: Option<String>| path.filter(|path| !path.is_empty()).map(PathBuf::from);
        let mut connection = Connection::new(base);

        let given = |secret: &SecretString| !secret.expose_secret().is_empty();
        let (key, secret) = (auth_key.filter(given), auth_secret.filter(given));
        let credentials = match (file(auth_dir), key, secret) {
            (None, None, None) => None,
            (Some(dir), None, None) => Some((DIR, Credentials::Dir(dir))),
            (None, Some(key), Some(secret)) => {
                let key = key.expose_secret().to_owned();
                Some((KEY, Credentials::Given { key, secret }))
            }
            (Some(_), ..) => {
                return Err(DIR.bad("a key or a secret is given beside it".to_owned()));
            }
            (None, Some(_), None) => return Err(SECRET.bad("not given".to_owned())),
            (None, None, Some(_)) => return Err(KEY.bad("not given".to_owned())),
        };
        if let Some((setting, credentials)) = credentials {
            connection = connection
                .with_credentials(credentials)
                .map_err(|e| setting.bad(e.to_string()))?;
        }

        // A server's address may be http for now: what is wrong with the files is told anyway.
        if let Some(ca) = file(ca_file) {
            connection = connection
                .with_ca(Pem::File(ca))
                .map_err(|e| CA.bad(e.to_string()))?;
        }
        match (file(client_cert_file), file(client_key_file)) {
            (None, None) => {}
            (Some(certificate), Some(key)) => {
                let (certificate, key) = (Pem::File(certificate), Pem::File(key));
                connection = connection
                    .with_client_certificate(certificate, key)
                    .map_err(|e| CERT.bad(e.to_string()))?;
            }
            (Some(_), None) => return Err(CERT_KEY.bad("not given".to_owned())),
            (None, Some(_)) => return Err(CERT.bad("not given".to_owned())),
        }

        if let Some(headers) = headers.filter(given) {
            // The reader's own message may quote a value.
            let headers: BTreeMap<String, String> =
                serde_json::from_str(headers.expose_secret())
                    .map_err(|_| HEADERS.bad("not a JSON object of texts".to_owned()))?;
            let pairs = headers.iter().map(|(name, value)| (&**name, &**value));
            connection = connection
                .with_headers(pairs)
                .map_err(|e| HEADERS.bad(e.to_string()))?;
        }
        Ok(connection)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use harness::{Authority, Mount};

    use super::*;

    #[derive(clap::Parser)]
    struct Alone {
        #[command(flatten)]
        typed: TypedConnection,
    }

    fn mean(arguments: &[&str]) -> Result<Connection, BadValue> {
        runtime::install_tls_provider();
        let arguments = ["sidecar"].iter().chain(arguments);
        let typed = Alone::try_parse_from(arguments).unwrap().typed;
        typed.mean(ApiBase::parse("http://c").unwrap())
    }

    #[test]
    fn nothing_and_everything_are_taken() {
        mean(&[]).unwrap();
        mean(&["--auth-dir", "", "--auth-key", "", "--auth-secret", ""]).unwrap();
        mean(&["--auth-key", "k", "--auth-secret", "s"]).unwrap();
        let authority = Authority::new("a").unwrap();
        let certified = authority.certify("me").unwrap();
        let mount = Mount::new(&[
            ("key", "k"),
            ("secret", "s"),
            ("ca.crt", &authority.pem()),
            ("tls.crt", &certified.certificate),
            ("tls.key", &certified.key),
        ])
        .unwrap();
        let file = |name| mount.file(name).display().to_string();
        mean(&[
            "--auth-dir",
            &mount.path().display().to_string(),
            "--ca-file",
            &file("ca.crt"),
            "--client-cert-file",
            &file("tls.crt"),
            "--client-key-file",
            &file("tls.key"),
            "--headers",
            r#"{"X-Tenant":"shop"}"#,
        ])
        .unwrap();
    }

    #[test]
    fn debug_shows_no_secret() {
        let arguments = [
            "sidecar",
            "--auth-key=k3y",
            "--auth-secret=s3cret",
            r#"--headers={"X-A":"v4lue"}"#,
        ];
        let typed = Alone::try_parse_from(arguments).unwrap().typed;
        let shown = format!("{typed:?} {typed:#?}");
        for secret in ["k3y", "s3cret", "v4lue"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_and_no_secret_with_it() {
        let mount = Mount::new(&[("key", "k"), ("secret", " "), ("ca.crt", "hello")]).unwrap();
        let dir = mount.path().display().to_string();
        let ca = mount.file("ca.crt").display().to_string();
        let rows: [(&[&str], &str, &str); 12] = [
            (&["--auth-key", "k"], "--auth-secret", "not given"),
            (&["--auth-secret", "s3cret"], "--auth-key", "not given"),
            (&["--auth-dir", "/nowhere"], "--auth-dir", "/nowhere/key"),
            (&["--auth-dir", &dir], "--auth-dir", "secret is empty"),
            (
                &["--auth-dir", &dir, "--auth-secret", "s3cret"],
                "--auth-dir",
                "beside it",
            ),
            (&["--ca-file", "/nowhere"], "--ca-file", "/nowhere"),
            (&["--ca-file", &ca], "--ca-file", "BEGIN CERTIFICATE"),
            (
                &["--client-cert-file", &ca],
                "--client-key-file",
                "not given",
            ),
            (
                &["--client-cert-file", &ca, "--client-key-file", &ca],
                "--client-cert-file",
                "must be PEM",
            ),
            (&["--headers", r#"["s3cret"]"#], "--headers", "JSON object"),
            (
                &["--headers", r#"{"X-A":["s3cret"]}"#],
                "--headers",
                "JSON object",
            ),
            (
                &["--headers", r#"{"Host":"s3cret"}"#],
                "--headers",
                "leave it out",
            ),
        ];
        for (arguments, flag, says) in rows {
            let message = mean(arguments).unwrap_err().to_string();
            assert!(message.starts_with(&format!("{flag} (")), "{message}");
            assert!(message.contains(says), "{message}");
            assert!(message.contains("; write "), "{message}");
            assert!(!message.contains("s3cret"), "{message}");
        }
    }
}
