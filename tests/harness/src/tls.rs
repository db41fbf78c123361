//! Certificates made for a test, and TLS in front of a server that has none.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

/// A certificate authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, PEM.
pub struct Certified {
    /// The certificate.
    pub certificate: String,
    /// The key.
    pub key: String,
    der: (CertificateDer<'static>, PrivateKeyDer<'static>),
}

impl Authority {
    /// One that nobody knows yet.
    pub fn new(name: &str) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Ok(Self(CertifiedIssuer::self_signed(
            params,
            KeyPair::generate()?,
        )?))
    }

    /// Its certificate, PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a client or a server on this machine.
    pub fn certify(&self, name: &str) -> Result<Certified> {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.0)?;
        let der = PrivatePkcs8KeyDer::from(key.serialize_der());
        Ok(Certified {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            der: (certificate.der().clone(), der.into()),
        })
    }
}

/// TLS on 127.0.0.1, and what comes through it goes on to a server in the clear.
#[derive(Debug)]
pub struct TlsFront {
    addr: SocketAddr,
    serving: JoinHandle<()>,
}

impl TlsFront {
    /// In front of `server`, with a certificate of `authority`. With `clients` it asks for a
    /// certificate of theirs.
    pub async fn start(
        server: SocketAddr,
        authority: &Authority,
        clients: Option<&Authority>,
    ) -> Result<Self> {
        crate::install_tls_provider();
        let (certificate, key) = authority.certify("server")?.der;
        let builder = ServerConfig::builder();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(clients.0.der().clone())?;
                let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build()?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let config = builder.with_single_cert(vec![certificate], key)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let serving = tokio::spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                // A connection that is refused is the test's matter.
                open.spawn(async move { pass_on(acceptor, stream, server).await.ok() });
            }
        });
        Ok(Self { addr, serving })
    }

    /// The API's address: `https://localhost:PORT/api`.
    pub fn base(&self) -> String {
        format!("https://localhost:{}/api", self.addr.port())
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn pass_on(acceptor: TlsAcceptor, stream: TcpStream, server: SocketAddr) -> Result<()> {
    let mut outside = acceptor.accept(stream).await.context("no TLS")?;
    let mut inside = TcpStream::connect(server).await?;
    tokio::io::copy_bidirectional(&mut outside, &mut inside).await?;
    Ok(())
}
