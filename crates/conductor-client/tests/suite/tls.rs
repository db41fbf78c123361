//! TLS: whom to trust, and with what to be trusted.

use anyhow::{Result, ensure};
use conductor_client::{Client, Connection, Kind, Pem};
use harness::{Authority, Certified, Mount, TlsFront, eventually};

use crate::{SOON, auth, call, connection, credentials, server};

fn given(pem: &str) -> Pem {
    Pem::Given(pem.into())
}

fn with_certificate(connection: Connection, of: &Certified) -> Result<Connection> {
    let (certificate, key) = (given(&of.certificate), given(&of.key));
    Ok(connection.with_client_certificate(certificate, key)?)
}

#[tokio::test]
async fn a_custom_ca_is_accepted_and_an_unknown_one_refused_with_what_to_do() -> Result<()> {
    let server = server(Some(auth())).await?;
    let (ours, other) = (Authority::new("ours")?, Authority::new("other")?);
    let front = TlsFront::start(server.addr(), &ours, None).await?;
    let keys = || credentials("key-1", crate::SECRET);
    let trusting = connection(&front.base())?
        .with_ca(given(&ours.pem()))?
        .with_credentials(keys())?;
    call(&Client::with_connection(trusting)?).await?;

    let not_ours = connection(&front.base())?.with_ca(given(&other.pem()))?;
    for connection in [not_ours.clone(), not_ours.with_credentials(keys())?] {
        let error = call(&Client::with_connection(connection)?)
            .await
            .unwrap_err();
        ensure!(error.kind() == Kind::Retryable { after: None });
        let says = "give its CA certificate to trust";
        ensure!(error.to_string().contains(says), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn a_client_certificate_is_shown_and_its_absence_is_told() -> Result<()> {
    let server = server(None).await?;
    let (ours, clients) = (Authority::new("ours")?, Authority::new("clients")?);
    let front = TlsFront::start(server.addr(), &ours, Some(&clients)).await?;
    let without = connection(&front.base())?.with_ca(given(&ours.pem()))?;
    let with = with_certificate(without.clone(), &clients.certify("worker")?)?;
    call(&Client::with_connection(with)?).await?;

    let stranger = with_certificate(without.clone(), &ours.certify("worker")?)?;
    for connection in [without, stranger] {
        let error = call(&Client::with_connection(connection)?)
            .await
            .unwrap_err();
        ensure!(error.status().is_none(), "{error}");
        ensure!(
            error.to_string().contains("wants a client certificate"),
            "{error}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn certificates_are_read_again_when_their_files_change() -> Result<()> {
    let server = server(None).await?;
    let (ours, clients) = (Authority::new("ours")?, Authority::new("clients")?);
    let front = TlsFront::start(server.addr(), &ours, Some(&clients)).await?;
    let (right, wrong) = (clients.certify("worker")?, ours.certify("worker")?);
    let mount = Mount::new(&[
        ("ca.crt", &clients.pem()),
        ("tls.crt", &wrong.certificate),
        ("tls.key", &wrong.key),
    ])?;
    let file = |name| Pem::File(mount.file(name));
    let connection = connection(&front.base())?
        .with_ca(file("ca.crt"))?
        .with_client_certificate(file("tls.crt"), file("tls.key"))?;
    let client = Client::with_connection(connection)?;
    ensure!(call(&client).await.is_err());
    mount.replace(&[
        ("ca.crt", &ours.pem()),
        ("tls.crt", &right.certificate),
        ("tls.key", &right.key),
    ])?;
    eventually("a call", SOON, async || call(&client).await).await?;

    // A certificate without its key is not used; what was there before is.
    mount.replace(&[
        ("ca.crt", &ours.pem()),
        ("tls.crt", &wrong.certificate),
        ("tls.key", &right.key),
    ])?;
    call(&client).await?;
    Ok(())
}

#[tokio::test]
async fn what_is_no_certificate_is_refused_at_once() -> Result<()> {
    let plain = connection("https://localhost")?;
    let ours = Authority::new("ours")?;
    let (one, two) = (ours.certify("one")?, ours.certify("two")?);
    let none = plain.clone().with_ca(given("hello")).unwrap_err();
    ensure!(none.to_string().contains("BEGIN CERTIFICATE"), "{none}");
    let pair = |certificate: &str, key: &str| {
        let pair = plain
            .clone()
            .with_client_certificate(given(certificate), given(key));
        pair.unwrap_err().to_string()
    };
    let no_key = pair(&one.certificate, "");
    ensure!(no_key.contains("BEGIN PRIVATE KEY"), "{no_key}");
    let crossed = pair(&one.certificate, &two.key);
    ensure!(
        crossed.contains("client certificate cannot be used"),
        "{crossed}"
    );
    Ok(())
}
