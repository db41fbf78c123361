//! Tokens: what buys one, how long it is good for, when to buy the next. Pure but for the
//! call itself.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::header::{HeaderName, HeaderValue};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use crate::{ApiBase, Error, Kind, link::exchange, material::Keys};

/// What carries a token, without a "Bearer" before it.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-authorization");

/// How long the SDKs keep a token, and we one that does not say how long it is good for.
pub(crate) const UNSAID: Duration = Duration::from_secs(2700);

/// How long a server that has no `/token` is used without, before it is asked again.
pub(crate) const NO_AUTH_FOR: Duration = Duration::from_secs(600);

/// A token that is refused after less than this is a strike: another that is bought at once
/// would most likely be refused too.
const SETTLED: Duration = Duration::from_secs(60);

/// So many strikes cost no pause: a server that restarts twice is none that refuses all.
const FREE: u32 = 3;

/// The pauses between tokens that cannot be bought, or are refused as soon as they are.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How long buying one may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What `POST /token` brought.
pub(crate) enum Bought {
    /// A token, and how long it says it is good for.
    Token(HeaderValue, Option<Duration>),
    /// The server has no authentication.
    NoAuth,
}

/// `POST /token`. `wall` is the time since the epoch.
pub(crate) async fn buy(
    http: &reqwest::Client,
    base: &ApiBase,
    keys: &Keys,
    wall: Duration,
) -> Result<Bought, Error> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Request<'a> {
        key_id: &'a str,
        key_secret: &'a str,
    }
    #[derive(Deserialize)]
    struct Answer {
        token: String,
    }
    const CALL: &str = "token";
    let request = http
        .post(base.join(&["token"]))
        .timeout(PATIENCE)
        .json(&Request {
            key_id: &keys.id,
            key_secret: keys.secret.expose_secret(),
        });
    let body = match exchange(CALL, request).await {
        Ok(answer) => answer.body,
        Err(error) if error.status() == Some(404) => return Ok(Bought::NoAuth),
        Err(error) => {
            return Err(match error.kind() {
                Kind::Retryable { .. } => error,
                // Whatever it is, somebody has to mend it; what waits for the token is kept.
                _ => error.unauthorized(),
            }
            .without(keys.secret.expose_secret()));
        }
    };
    // The reader's own message would quote what it read.
    let unreadable = || {
        let says = r#"the server's answer is not {"token":"..."}"#;
        Error::refused(CALL, says.to_owned()).unauthorized()
    };
    let answer: Answer = serde_json::from_slice(&body).map_err(|_| unreadable())?;
    let token = answer.token.as_str();
    let mut value = HeaderValue::try_from(token).map_err(|_| unreadable())?;
    if value.is_empty() {
        return Err(unreadable());
    }
    value.set_sensitive(true);
    Ok(Bought::Token(value, lifetime(token, wall)))
}

/// How long a JWT says that it is good for. From its own two times where it has both, since
/// the server's clock may differ from ours; none if it is no JWT, or if that makes no sense.
pub(crate) fn lifetime(token: &str, wall: Duration) -> Option<Duration> {
    #[derive(Deserialize)]
    struct Claims {
        exp: f64,
        iat: Option<f64>,
    }
    let payload = token.split('.').nth(1)?.trim_end_matches('=');
    let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    let seconds = claims.exp - claims.iat.unwrap_or(wall.as_secs_f64());
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|d| !d.is_zero())
}

/// When to buy the next, counted from when this one was bought: between 70 and 80 % of its
/// life, so that many workers do not come together, and failures have time to pass.
pub(crate) fn refresh_after(lifetime: Option<Duration>, random: f64) -> Duration {
    match lifetime {
        Some(lifetime) => lifetime.mul_f64(0.7 + random.clamp(0.0, 1.0) / 10.0),
        None => UNSAID.mul_f64(0.9 + random.clamp(0.0, 1.0) / 10.0),
    }
}

/// The pause after so many failures, at least 1: by `random` from half to all of it, and no
/// sooner than the server asks for, but for more than a minute. Pauses grow where somebody has to
/// mend something; a server that is away is there again at any moment, and results wait for that.
pub(crate) fn pause_or_later(failures: u32, error: &Error, random: f64) -> Duration {
    let asked = match error.kind() {
        Kind::Retryable { after } => after.unwrap_or_default(),
        _ => Duration::ZERO,
    };
    let is_away = matches!(error.kind(), Kind::Retryable { .. })
        && error.status().is_none_or(|status| status >= 500);
    let failures = if is_away { 1 } else { failures };
    pause(failures, random).max(asked.min(LONGEST_PAUSE))
}

fn pause(failures: u32, random: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    let whole = FIRST_PAUSE
        .saturating_mul(1 << doublings)
        .min(LONGEST_PAUSE);
    whole.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
}

/// Tokens that were refused soon after they were bought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Strikes(u32);

impl Strikes {
    /// A token of this age was refused: the strikes from now on if another may be bought, none
    /// if it is too soon for that.
    pub(crate) fn refused(self, age: Duration, random: f64) -> Option<Self> {
        if age >= SETTLED {
            return Some(Self(0));
        }
        let wait = match self.0.checked_sub(FREE) {
            None => Duration::ZERO,
            Some(more) => pause(more + 1, random),
        };
        (age >= wait).then_some(Self(self.0.saturating_add(1)))
    }
}

#[cfg(test)]
mod tests {
    use reqwest::{StatusCode, header::HeaderMap};

    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn jwt(claims: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn a_jwt_says_how_long_it_is_good_for() {
        let wall = S(1_000_000);
        for (token, expected) in [
            (jwt(r#"{"exp":1003600}"#), Some(S(3600))),
            (jwt(r#"{"iat":5000,"exp":5060}"#), Some(S(60))),
            (jwt(r#"{"exp":999999}"#), None),
            (jwt(r#"{"iat":5000,"exp":5000}"#), None),
            (jwt(r#"{"sub":"x"}"#), None),
            (jwt("[]"), None),
            ("opaque".to_owned(), None),
            ("a.%%%.c".to_owned(), None),
            (jwt(r#"{"exp":1e300}"#), None),
        ] {
            assert_eq!(lifetime(&token, wall), expected, "{token}");
        }
    }

    #[test]
    fn the_next_token_is_bought_ahead_of_the_end() {
        assert_eq!(refresh_after(Some(S(100)), 0.0), S(70));
        assert!(refresh_after(Some(S(100)), 1.0) <= S(81));
        for random in [0.0, 0.5, 1.0] {
            assert!(refresh_after(None, random) <= UNSAID);
        }
    }

    #[test]
    fn a_token_that_is_refused_at_once_is_not_replaced_at_once_for_ever() {
        let none = Strikes::default();
        let mut strikes = none;
        for n in 1..=FREE {
            strikes = strikes.refused(Duration::ZERO, 1.0).unwrap();
            assert_eq!(strikes, Strikes(n));
        }
        assert_eq!(strikes.refused(Duration::from_millis(900), 1.0), None);
        let more = strikes.refused(S(1), 1.0).unwrap();
        assert_eq!(more.refused(S(1), 1.0), None);
        assert_eq!(more.refused(S(2), 1.0), Some(Strikes(FREE + 2)));
        assert_eq!(more.refused(S(60), 1.0), Some(none), "it was good for long");
        assert_eq!(Strikes(u32::MAX).refused(S(59), 1.0), None);
    }

    #[test]
    fn pauses_double_up_to_a_minute() {
        for (failures, seconds) in [(1, 1), (2, 2), (6, 32), (7, 60), (1000, 60)] {
            assert_eq!(pause(failures, 1.0), S(seconds));
        }
        assert_eq!(pause(1, 0.0), Duration::from_millis(500));
    }

    /// What the server answers, and after how many seconds it wants to be asked again.
    fn answered(status: u16, after: Option<u64>) -> Error {
        let mut headers = HeaderMap::new();
        if let Some(after) = after {
            headers.insert("retry-after", after.into());
        }
        let status = StatusCode::from_u16(status).unwrap();
        Error::answered("token", status, &headers, b"")
    }

    #[test]
    fn the_server_may_ask_for_a_longer_pause() {
        let asked = |seconds| answered(429, Some(seconds));
        assert_eq!(pause_or_later(1, &asked(7), 1.0), S(7));
        assert_eq!(pause_or_later(1, &asked(u64::MAX), 1.0), S(60));
        assert_eq!(pause_or_later(3, &asked(1), 1.0), S(4));
        assert_eq!(pause_or_later(3, &answered(503, Some(30)), 1.0), S(30));
    }

    #[test]
    fn a_server_that_is_away_is_asked_within_every_second() {
        for status in [500, 502, 503] {
            assert_eq!(pause_or_later(9, &answered(status, None), 1.0), S(1));
        }
        for status in [401, 403, 404] {
            assert_eq!(pause_or_later(3, &answered(status, None), 1.0), S(4));
        }
    }
}
