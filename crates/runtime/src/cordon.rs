//! Who may tell a sidecar to take no more work: the operator, by a token that it signs and that
//! a pod checks with the public key alone. So nobody else in the cluster can stop a worker, and
//! a pod that is broken into can stop no other.
//!
//! A token is a JSON Web Token (RFC 7519) in compact form, signed with Ed25519 (`EdDSA`, RFC
//! 8037): one audience, which is one pod; one action; valid for [`VALID`] at most. Within that
//! time it may be replayed, which is harmless: both actions are idempotent and a cordon ends by
//! itself.
//!
//! ring, which TLS brings anyway, does the cryptography: the crates for JWT bring a second
//! implementation of it, with RSA and more, and would check the times by a clock of their own.
//!
//! Operator and sidecars differ in their versions during an upgrade: what is signed here must be
//! taken, and what is taken be signed, two versions back. Claims that are not known are ignored.

use std::{fmt, str::FromStr, time::Duration};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use ring::{
    rand::{SecureRandom as _, SystemRandom},
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};
use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer, pem::PemObject as _};
use serde::{Deserialize, Serialize};

/// How long a token is valid at most, from its `iat`.
pub const VALID: Duration = Duration::from_secs(60);

/// How far the clocks of two nodes may be apart.
const SKEW: u64 = 5;

/// RFC 8410: what comes before the 32 bytes of a key in a `SubjectPublicKeyInfo`.
const SPKI: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// To take no more work for a while.
    Cordon,
    /// To take work again.
    Uncordon,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cordon => "cordon",
            Self::Uncordon => "uncordon",
        })
    }
}

/// How tokens name a pod: by its uid too, where it is known, since another pod may get the name.
pub fn audience(name: &str, uid: Option<&str>) -> String {
    match uid {
        Some(uid) => format!("{name}/{uid}"),
        None => name.to_owned(),
    }
}

/// What a token begins with.
const HEADER: &[u8] = br#"{"alg":"EdDSA","typ":"JWT"}"#;

#[derive(Deserialize)]
struct Header<'a> {
    alg: &'a str,
    /// Extensions that must be understood; there are none.
    #[serde(default)]
    crit: Option<serde::de::IgnoredAny>,
}

/// Times in seconds since 1970.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    aud: String,
    iat: u64,
    exp: u64,
    action: Action,
}

/// A text that holds no key; says what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}; write an Ed25519 key in PEM, as `openssl genpkey -algorithm ed25519` makes it")]
pub struct InvalidKey(String);

/// The system gives no random numbers to make a key of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random numbers, so that no key can be made")]
pub struct NoRandomness;

/// The operator's half.
pub struct SigningKey(Ed25519KeyPair);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey")
    }
}

impl SigningKey {
    /// A new one, which nobody else has.
    ///
    /// # Errors
    /// Where the system gives no random numbers.
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut seed = [0; 32];
        SystemRandom::new()
            .fill(&mut seed)
            .map_err(|_| NoRandomness)?;
        Ed25519KeyPair::from_seed_unchecked(&seed)
            .map(Self)
            .map_err(|_| NoRandomness)
    }

    /// Reads a private key, PKCS #8 in PEM.
    pub fn from_pem(pem: &str) -> Result<Self, InvalidKey> {
        let refuse = |why: String| InvalidKey(format!("not a private key: {why}"));
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes())
            .map_err(|e| refuse(e.to_string()))?;
        // Unchecked: OpenSSL leaves the public half out.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der());
        pair.map(Self).map_err(|e| refuse(e.to_string()))
    }

    /// The pods' half, in base64 as [`PublicKeys`] reads it.
    pub fn public(&self) -> String {
        STANDARD.encode(self.0.public_key().as_ref())
    }

    /// A token for one pod, which is valid from `now` (seconds since 1970) for [`VALID`].
    pub fn sign(&self, audience: &str, action: Action, now: u64) -> String {
        let claims = Claims {
            aud: audience.to_owned(),
            iat: now,
            exp: now + VALID.as_secs(),
            action,
        };
        // Texts and numbers have a JSON form.
        self.sign_parts(HEADER, &serde_json::to_vec(&claims).unwrap_or_default())
    }

    fn sign_parts(&self, header: &[u8], claims: &[u8]) -> String {
        let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
        let signed = format!("{header}.{claims}");
        let signature = URL_SAFE_NO_PAD.encode(self.0.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

/// The pods' half: one key, or several while they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKeys(Vec<[u8; 32]>);

impl FromStr for PublicKeys {
    type Err = InvalidKey;

    /// Reads public keys in PEM, or one in base64: the key alone or a `SubjectPublicKeyInfo`.
    fn from_str(given: &str) -> Result<Self, InvalidKey> {
        let given = given.trim();
        let refuse = |why: &dyn fmt::Display| InvalidKey(format!("not a public key: {why}"));
        if !given.starts_with("-----BEGIN") {
            let bytes = STANDARD.decode(given).map_err(|e| refuse(&e))?;
            return Ok(Self(vec![public_key(&bytes)?]));
        }
        let keys = SubjectPublicKeyInfoDer::pem_slice_iter(given.as_bytes())
            .map(|der| public_key(&der.map_err(|e| refuse(&e))?))
            .collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Err(refuse(&"there is no PUBLIC KEY in it"));
        }
        Ok(Self(keys))
    }
}

fn public_key(der: &[u8]) -> Result<[u8; 32], InvalidKey> {
    let key = der.strip_prefix(&SPKI).unwrap_or(der);
    key.try_into()
        .map_err(|_| InvalidKey("not a public key of Ed25519".to_owned()))
}

/// Why a token is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It has not the form.
    #[error("the token is no JSON Web Token: {0}")]
    Malformed(String),
    /// Something else than `EdDSA`.
    #[error("the token is signed with {0:?}; only EdDSA is taken")]
    Algorithm(String),
    /// No key of ours signed it.
    #[error("the token's signature is not that of the operator's key")]
    Signature,
    /// It is for another pod.
    #[error("the token is for {theirs:?}, and this is {ours:?}")]
    Audience {
        /// The token's.
        theirs: String,
        /// The pod's own.
        ours: String,
    },
    /// It is for something else.
    #[error("the token allows to {theirs}, not to {ours}")]
    Action {
        /// The token's.
        theirs: Action,
        /// What was asked for.
        ours: Action,
    },
    /// It was valid.
    #[error("the token expired {0} s ago")]
    Expired(u64),
    /// It will be valid.
    #[error("the token will be valid in {0} s; are the clocks right?")]
    Early(u64),
    /// It would be valid for too long.
    #[error("the token is valid for {0} s, more than 60")]
    TooLong(u64),
}

impl PublicKeys {
    /// Whether a token allows an action on this pod `now` (seconds since 1970). Pure.
    pub fn check(
        &self,
        token: &str,
        audience: &str,
        action: Action,
        now: u64,
    ) -> Result<(), Refused> {
        let malformed = |why: &dyn fmt::Display| Refused::Malformed(why.to_string());
        let (signed, signature) = token.rsplit_once('.').ok_or_else(|| malformed(&"no dot"))?;
        let (header, claims) = signed
            .split_once('.')
            .ok_or_else(|| malformed(&"one dot"))?;
        let decode = |part| URL_SAFE_NO_PAD.decode(part).map_err(|e| malformed(&e));
        let (header, claims, signature) = (decode(header)?, decode(claims)?, decode(signature)?);

        let header: Header<'_> = serde_json::from_slice(&header).map_err(|e| malformed(&e))?;
        if header.alg != "EdDSA" {
            return Err(Refused::Algorithm(header.alg.to_owned()));
        }
        if header.crit.is_some() {
            return Err(malformed(&"it has critical extensions"));
        }
        let signed_by = |key: &[u8; 32]| {
            let key = UnparsedPublicKey::new(&ED25519, key);
            key.verify(signed.as_bytes(), &signature).is_ok()
        };
        // Nothing that it says counts before this.
        if !self.0.iter().any(signed_by) {
            return Err(Refused::Signature);
        }
        let claims: Claims = serde_json::from_slice(&claims).map_err(|e| malformed(&e))?;
        claims.check(audience, action, now)
    }
}

impl Claims {
    fn check(&self, audience: &str, action: Action, now: u64) -> Result<(), Refused> {
        let Self {
            aud,
            iat,
            exp,
            action: allowed,
        } = self;
        if aud != audience {
            return Err(Refused::Audience {
                theirs: aud.clone(),
                ours: audience.to_owned(),
            });
        }
        if *allowed != action {
            return Err(Refused::Action {
                theirs: *allowed,
                ours: action,
            });
        }
        let valid = exp.saturating_sub(*iat);
        if valid > VALID.as_secs() {
            return Err(Refused::TooLong(valid));
        }
        if now >= exp.saturating_add(SKEW) {
            return Err(Refused::Expired(now - exp));
        }
        if now.saturating_add(SKEW) < *iat {
            return Err(Refused::Early(iat - now));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `openssl genpkey -algorithm ed25519`, and `openssl pkey -pubout` of it; for these tests.
    const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIG7ny9CrAZrgdFximGpkXIVliRIwUT55wHM9+p0/ZkCI\n-----END PRIVATE KEY-----\n";
    const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAmaLZA15vvGWA8nzwzUdZLwSaLrCP/HrAr3SDBNsP8os=\n-----END PUBLIC KEY-----\n";
    const OTHER: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIDEWDwX7sTUwYk7LPjVLK8YFmLnQStpYTmX6XU1MMX3W\n-----END PRIVATE KEY-----\n";
    const NOW: u64 = 1_800_000_000;
    const POD: &str = "greet-1/uid";

    fn key() -> SigningKey {
        SigningKey::from_pem(PRIVATE).unwrap()
    }

    fn keys() -> PublicKeys {
        PUBLIC.parse().unwrap()
    }

    #[test]
    fn a_token_is_taken_by_its_pod_for_its_action_while_it_is_valid() {
        let token = key().sign(POD, Action::Cordon, NOW);
        let check = |audience, action, now| keys().check(&token, audience, action, now);
        for now in [NOW - 5, NOW, NOW + 59, NOW + 64] {
            assert_eq!(check(POD, Action::Cordon, now), Ok(()));
        }
        assert_eq!(
            check(POD, Action::Cordon, NOW + 65),
            Err(Refused::Expired(5))
        );
        assert_eq!(check(POD, Action::Cordon, NOW - 6), Err(Refused::Early(6)));
        let wrong = check(POD, Action::Uncordon, NOW).unwrap_err().to_string();
        assert_eq!(wrong, "the token allows to cordon, not to uncordon");
        for pod in ["greet-1", "greet-1/other", "", "greet-1/uid/"] {
            let wrong = check(pod, Action::Cordon, NOW).unwrap_err();
            assert!(matches!(wrong, Refused::Audience { .. }), "{wrong}");
        }
        assert_eq!(audience("greet-1", Some("uid")), POD);
        assert_eq!(audience("greet-1", None), "greet-1");
    }

    #[test]
    fn each_key_that_is_made_is_another() {
        let [one, two] = [(); 2].map(|()| SigningKey::generate().unwrap());
        assert_ne!(one.public(), two.public());
        let token = one.sign(POD, Action::Cordon, NOW);
        let check = |key: &SigningKey| {
            let keys: PublicKeys = key.public().parse().unwrap();
            keys.check(&token, POD, Action::Cordon, NOW)
        };
        assert_eq!(check(&one), Ok(()));
        assert_eq!(check(&two), Err(Refused::Signature));
    }

    #[test]
    fn a_token_is_a_jwt_of_rfc_8037() {
        let token = key().sign(POD, Action::Cordon, NOW);
        let parts: Vec<_> = token.split('.').collect();
        let read = |part: &str| String::from_utf8(URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
        assert_eq!(read(parts[0]), r#"{"alg":"EdDSA","typ":"JWT"}"#);
        assert_eq!(
            read(parts[1]),
            r#"{"aud":"greet-1/uid","iat":1800000000,"exp":1800000060,"action":"cordon"}"#
        );
        assert_eq!(URL_SAFE_NO_PAD.decode(parts[2]).unwrap().len(), 64);
    }

    #[test]
    fn only_the_operators_signature_counts() {
        let token = key().sign(POD, Action::Cordon, NOW);
        let foreign = SigningKey::from_pem(OTHER)
            .unwrap()
            .sign(POD, Action::Cordon, NOW);
        let check = |token: &str| keys().check(token, POD, Action::Cordon, NOW);
        assert_eq!(check(&foreign), Err(Refused::Signature));
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let (header, _) = signed.split_once('.').unwrap();
        let other = URL_SAFE_NO_PAD.encode(
            r#"{"aud":"greet-1/uid","iat":1800000000,"exp":1800000060,"action":"uncordon"}"#,
        );
        assert_eq!(
            check(&format!("{header}.{other}.{signature}")),
            Err(Refused::Signature)
        );
        assert_eq!(check(&format!("{signed}.")), Err(Refused::Signature));

        // Both keys are known while they change.
        let both = format!("{PUBLIC}{}", pem_of(&SigningKey::from_pem(OTHER).unwrap()));
        let both: PublicKeys = both.parse().unwrap();
        for token in [&token, &foreign] {
            assert_eq!(both.check(token, POD, Action::Cordon, NOW), Ok(()));
        }
    }

    /// What operators send: see skew/README.md.
    #[derive(Debug, PartialEq, Deserialize, Serialize)]
    struct Sent {
        public_key: String,
        audience: String,
        action: Action,
        signed_at: u64,
        method: String,
        path: String,
        token: String,
    }

    /// In the order of their names.
    fn sent() -> Vec<(String, Sent)> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/skew/cordon");
        let files = std::fs::read_dir(folder).unwrap();
        let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        files.sort();
        let read = |path: &std::path::PathBuf| {
            let text = std::fs::read_to_string(path).unwrap();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, serde_json::from_str(&text).unwrap())
        };
        files.iter().map(read).collect()
    }

    #[test]
    fn tokens_of_earlier_operators_are_taken() {
        let all = sent();
        for action in [Action::Cordon, Action::Uncordon] {
            assert!(all.iter().any(|(_, sent)| sent.action == action));
        }
        for (name, sent) in all {
            let keys: PublicKeys = sent.public_key.parse().unwrap();
            let checked = keys.check(&sent.token, &sent.audience, sent.action, sent.signed_at + 1);
            assert_eq!(checked, Ok(()), "{name}");
        }
    }

    #[test]
    fn earlier_sidecars_take_what_is_signed_now() {
        // Ed25519 has one signature for each text: what was taken then is what is signed now.
        for action in [Action::Cordon, Action::Uncordon] {
            let all = sent();
            let newest = all.iter().rfind(|(_, sent)| sent.action == action);
            let (name, newest) = newest.unwrap();
            let signed = key().sign(&newest.audience, action, newest.signed_at);
            assert_eq!(signed, newest.token, "{name}");
            assert_eq!(key().public(), newest.public_key, "{name}");
        }
    }

    fn pem_of(key: &SigningKey) -> String {
        let der = [&SPKI, key.0.public_key().as_ref()].concat();
        format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            STANDARD.encode(der)
        )
    }

    #[test]
    fn what_is_no_such_token_is_refused() {
        let good = br#"{"alg":"EdDSA"}"#;
        let claims = |text: &str| text.as_bytes().to_vec();
        let valid = claims(
            r#"{"aud":"greet-1/uid","iat":1800000000,"exp":1800000060,"action":"cordon","more":1}"#,
        );
        let sign = |header: &[u8], claims: &[u8]| key().sign_parts(header, claims);
        let check = |token: &str| keys().check(token, POD, Action::Cordon, NOW);
        assert_eq!(
            check(&sign(good, &valid)),
            Ok(()),
            "unknown claims are ignored"
        );
        for (token, says) in [
            (String::new(), "no JSON Web Token"),
            ("a".to_owned(), "no JSON Web Token"),
            ("a.b".to_owned(), "no JSON Web Token"),
            ("a.b.c".to_owned(), "no JSON Web Token"),
            ("a.b.c.d".to_owned(), "no JSON Web Token"),
            (sign(br#"{"alg":"none"}"#, &valid), "only EdDSA"),
            (sign(br#"{"alg":"HS256"}"#, &valid), "only EdDSA"),
            (
                sign(br#"{"alg":"EdDSA","crit":["b64"]}"#, &valid),
                "critical",
            ),
            (sign(b"{}", &valid), "no JSON Web Token"),
            (sign(good, &claims("{}")), "no JSON Web Token"),
            (
                sign(
                    good,
                    &claims(
                        r#"{"aud":"greet-1/uid","iat":1800000000,"exp":1800000061,"action":"cordon"}"#,
                    ),
                ),
                "valid for 61 s",
            ),
            (
                sign(
                    good,
                    &claims(
                        r#"{"aud":"greet-1/uid","iat":1800000000,"exp":"1800000060","action":"cordon"}"#,
                    ),
                ),
                "no JSON Web Token",
            ),
            (
                sign(
                    good,
                    &claims(
                        r#"{"aud":"greet-1/uid","iat":1800000000,"exp":1800000060,"action":"drain"}"#,
                    ),
                ),
                "no JSON Web Token",
            ),
        ] {
            let message = check(&token).unwrap_err().to_string();
            assert!(message.contains(says), "{token}: {message}");
        }
    }

    #[test]
    fn keys_are_read_and_not_shown() {
        let public = key().public();
        assert_eq!(public.parse(), Ok(keys()));
        let der = STANDARD.encode([&SPKI, key().0.public_key().as_ref()].concat());
        assert_eq!(der.parse(), Ok(keys()));
        for bad in [
            "",
            "key",
            "AAAA",
            PRIVATE,
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
        ] {
            let message = bad.parse::<PublicKeys>().unwrap_err().to_string();
            assert!(
                message.contains("openssl genpkey -algorithm ed25519"),
                "{message}"
            );
        }
        assert!(SigningKey::from_pem(PUBLIC).is_err());
        assert_eq!(format!("{:?}", key()), "SigningKey");
    }
}
