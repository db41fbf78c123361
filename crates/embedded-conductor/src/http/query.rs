//! Query parameters.

use axum::{extract::FromRequestParts, http::request::Parts};

use crate::state::Refused;

/// The parameters of a request, decoded, in order.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let query = parts.uri.query().unwrap_or_default();
        Ok(Self(
            url::form_urlencoded::parse(query.as_bytes())
                .map(|(key, value)| (key.into_owned(), value.into_owned()))
                .collect(),
        ))
    }
}

impl Query {
    /// A parameter, if it was sent; it may be empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == name).map(|(_, v)| &**v)
    }

    /// A parameter that must be sent.
    pub(super) fn required(&self, name: &str, kind: &str) -> Result<&str, Refused> {
        self.get(name).ok_or_else(|| {
            Refused::mistake(format!(
                "Required request parameter '{name}' for method parameter type {kind} is not present"
            ))
        })
    }

    /// All values of a parameter.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(k, _)| k == name)
            .map(|(_, v)| &**v)
    }

    /// A whole number.
    pub(super) fn int(&self, name: &str) -> Result<Option<i64>, Refused> {
        let Some(given) = self.get(name).filter(|v| !v.is_empty()) else {
            return Ok(None);
        };
        given.trim().parse().map(Some).map_err(|_| {
            Refused::mistake(format!(
                "Method parameter '{name}': Failed to convert value of type 'java.lang.String' to \
                 required type 'int'; For input string: \"{given}\""
            ))
        })
    }

    /// True if it was sent as such.
    pub(super) fn flag(&self, name: &str, default: bool) -> bool {
        self.get(name).map_or(default, |v| v == "true")
    }
}
