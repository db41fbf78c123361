//! Keys and tokens, as Orkes servers have them. Open-source Conductor has none.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;

/// Whom to let in.
#[derive(Clone, PartialEq, Eq)]
pub struct Auth {
    /// The key's id.
    pub key: String,
    /// Its secret.
    pub secret: String,
    /// How long a token is good for; it says so in whole seconds, rounded up.
    pub lifetime: Duration,
    /// What a token that is not good is answered with: 401 or 403.
    pub refusal: u16,
}

impl Auth {
    /// This key and secret, tokens of an hour, 401.
    pub fn new(key: impl Into<String>, secret: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            secret: secret.into(),
            lifetime: Duration::from_secs(3600),
            refusal: 401,
        }
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("key", &self.key)
            .field("lifetime", &self.lifetime)
            .field("refusal", &self.refusal)
            .finish_non_exhaustive()
    }
}

/// The tokens that were given out, and what tests do with them.
#[derive(Debug)]
pub struct Tokens(Mutex<Inner>);

struct Inner {
    auth: Auth,
    /// When each ends, in time since the epoch.
    given: HashMap<String, Duration>,
    counts: TokenCounts,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("auth", &self.auth)
            .field("given", &self.given.len())
            .field("counts", &self.counts)
            .finish()
    }
}

/// What happened at the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TokenCounts {
    /// Tokens given out.
    pub given: u64,
    /// Requests for a token with a wrong key or secret.
    pub wrong_keys: u64,
    /// Other requests whose token was not good, or that had none.
    pub refused: u64,
}

/// Why a request is not let in: the status and Orkes' word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Denied {
    pub(crate) status: u16,
    pub(crate) error: &'static str,
    pub(crate) message: &'static str,
}

impl Denied {
    pub(crate) fn body(self) -> String {
        json!({ "status": self.status, "error": self.error, "message": self.message }).to_string()
    }
}

impl Tokens {
    pub(crate) fn new(auth: Auth) -> Self {
        Self(Mutex::new(Inner {
            auth,
            given: HashMap::new(),
            counts: TokenCounts::default(),
        }))
    }

    /// Other keys or lifetimes from now on; tokens that were given out stay good.
    pub fn set(&self, auth: Auth) {
        self.lock().auth = auth;
    }

    /// All tokens that were given out are over: `EXPIRED_TOKEN`.
    pub fn expire(&self) {
        for end in self.lock().given.values_mut() {
            *end = Duration::ZERO;
        }
    }

    /// All tokens that were given out were never good: `INVALID_TOKEN`.
    pub fn revoke(&self) {
        self.lock().given.clear();
    }

    /// What happened so far.
    pub fn counts(&self) -> TokenCounts {
        self.lock().counts
    }

    /// A token for a key and its secret.
    pub(crate) fn give(&self, key: &str, secret: &str, now: Duration) -> Result<String, Denied> {
        let mut inner = self.lock();
        if (key, secret) != (&*inner.auth.key, &*inner.auth.secret) {
            inner.counts.wrong_keys += 1;
            return Err(Denied {
                status: 401,
                error: "INVALID_CREDENTIALS",
                message: "invalid keyId or keySecret",
            });
        }
        let end = now + inner.auth.lifetime;
        let says = end.as_secs() + u64::from(end.subsec_nanos() > 0);
        let claims = json!({ "sub": key, "iat": now.as_secs(), "exp": says });
        let parts = [
            json!({ "typ": "JWT", "alg": "HS512" }).to_string(),
            claims.to_string(),
            uuid::Uuid::new_v4().to_string(), // nobody but this server checks it
        ];
        let token = parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        inner.given.insert(token.clone(), end);
        inner.counts.given += 1;
        Ok(token)
    }

    /// Whether a request with this token is let in.
    pub(crate) fn check(&self, token: Option<&str>, now: Duration) -> Result<(), Denied> {
        let mut inner = self.lock();
        let denied = match token.map(|token| inner.given.get(token)) {
            Some(Some(&end)) if now < end => return Ok(()),
            Some(Some(_)) => ("EXPIRED_TOKEN", "the token has expired"),
            Some(None) => ("INVALID_TOKEN", "the token is not valid"),
            None => ("INVALID_TOKEN", "there is no token in X-Authorization"),
        };
        inner.counts.refused += 1;
        Err(Denied {
            status: inner.auth.refusal,
            error: denied.0,
            message: denied.1,
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Time since the epoch.
pub(crate) fn now() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn tokens_are_for_the_key_and_end() {
        let tokens = Tokens::new(Auth::new("k", "s"));
        assert_eq!(tokens.give("k", "x", S(0)).unwrap_err().status, 401);
        let token = tokens.give("k", "s", S(0)).unwrap();
        assert_eq!(tokens.check(Some(&token), S(3599)), Ok(()));
        let over = tokens.check(Some(&token), S(3600)).unwrap_err();
        assert_eq!((over.status, over.error), (401, "EXPIRED_TOKEN"));
        for none in [None, Some("x")] {
            assert_eq!(tokens.check(none, S(0)).unwrap_err().error, "INVALID_TOKEN");
        }
        let counts = TokenCounts {
            given: 1,
            wrong_keys: 1,
            refused: 3,
        };
        assert_eq!(tokens.counts(), counts);
    }

    #[test]
    fn tests_end_tokens_and_change_keys() {
        let tokens = Tokens::new(Auth::new("k", "s"));
        let token = tokens.give("k", "s", S(0)).unwrap();
        let auth = Auth {
            refusal: 403,
            ..Auth::new("k", "new")
        };
        tokens.set(auth);
        assert_eq!(tokens.check(Some(&token), S(1)), Ok(()));
        assert!(tokens.give("k", "s", S(1)).is_err());
        tokens.expire();
        let denied = tokens.check(Some(&token), S(1)).unwrap_err();
        assert_eq!((denied.status, denied.error), (403, "EXPIRED_TOKEN"));
        tokens.revoke();
        let denied = tokens.check(Some(&token), S(1)).unwrap_err();
        assert_eq!(denied.error, "INVALID_TOKEN");
        assert!(!format!("{tokens:?}").contains(&token));
    }
}
