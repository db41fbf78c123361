//! Where Conductor's API is.

use std::fmt;

use url::Url;

/// The root of Conductor's API, normalised: `http://conductor:8080` and
/// `http://conductor:8080/api/` are the same server. Equal bases are equal servers.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiBase(Url);

/// Why an address cannot be Conductor's, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not a Conductor address: {why}; write for example http://conductor:8080/api")]
pub struct InvalidBase {
    given: String,
    why: String,
}

impl ApiBase {
    /// Parses an address with or without the final `/api`.
    pub fn parse(given: &str) -> Result<Self, InvalidBase> {
        let refuse = |why: &str| InvalidBase {
            given: given.to_owned(),
            why: why.to_owned(),
        };
        let mut url = Url::parse(given.trim()).map_err(|e| refuse(&e.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refuse("its scheme must be http or https"));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(refuse("it has no host"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refuse("it must not have a query or a fragment"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refuse("it must not hold credentials"));
        }
        let path = url.path().trim_end_matches('/').to_owned();
        if path.ends_with("/api") {
            url.set_path(&path);
        } else {
            url.set_path(&format!("{path}/api"));
        }
        Ok(Self(url))
    }

    /// The address as text, ending in `/api`.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The address of an endpoint; each segment is escaped.
    pub(crate) fn join(&self, segments: &[&str]) -> Url {
        let mut url = self.0.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.extend(segments);
        }
        url
    }
}

impl fmt::Display for ApiBase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ApiBase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiBase({})", self.as_str())
    }
}

impl std::str::FromStr for ApiBase {
    type Err = InvalidBase;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::parse(s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_suffix_is_optional() {
        for given in [
            "http://c:8080",
            "http://c:8080/",
            "http://c:8080/api",
            "http://c:8080/api/",
            " http://c:8080/api ",
        ] {
            assert_eq!(ApiBase::parse(given).unwrap().as_str(), "http://c:8080/api");
        }
        assert_eq!(
            ApiBase::parse("https://gate.example/conductor/")
                .unwrap()
                .as_str(),
            "https://gate.example/conductor/api"
        );
    }

    #[test]
    fn a_bad_address_is_told_what_to_write() {
        for given in [
            "conductor:8080",
            "ftp://c",
            "http://",
            "http://c/?x=1",
            "http://a:b@c/",
            "",
        ] {
            let message = ApiBase::parse(given).unwrap_err().to_string();
            assert!(message.contains("http://conductor:8080/api"), "{message}");
        }
    }

    #[test]
    fn segments_are_escaped() {
        let base = ApiBase::parse("http://c").unwrap();
        assert_eq!(
            base.join(&["tasks", "poll", "a b?c"]).as_str(),
            "http://c/api/tasks/poll/a%20b%3Fc"
        );
    }
}
