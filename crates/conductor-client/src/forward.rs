//! Requests that are passed on as they came: the sidecar's local task API.

use bytes::Bytes;
use reqwest::{
    Method, RequestBuilder, Response, StatusCode,
    header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue},
};

use crate::{Client, Error, client::PATIENCE};

const CALL: &str = "forward";

/// A request to pass on. Of its headers only those go along that say what the body is and what
/// is understood; credentials are the client's own.
#[derive(Debug, Clone)]
pub struct Forward<'a> {
    /// The method.
    pub method: Method,
    /// The path below the API's base, as segments that are not escaped yet. `.`, `..` and
    /// empty segments are for the caller to refuse.
    pub path: &'a [&'a str],
    /// The query's names and values, not escaped yet.
    pub query: &'a [(&'a str, &'a str)],
    /// `Content-Type`.
    pub content_type: Option<HeaderValue>,
    /// `Accept`.
    pub accept: Option<HeaderValue>,
    /// The body; it is not looked at.
    pub body: Bytes,
}

/// What the server answered, whatever its status; the body comes piece by piece.
#[derive(Debug)]
pub struct Forwarded {
    status: StatusCode,
    headers: HeaderMap,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Coming(Response),
    Read(Option<Bytes>),
}

impl Client {
    /// Passes a request on, with the client's own token where it has credentials. An error is
    /// only that no answer came: what the server says, errors of its own included, is the
    /// caller's to pass back. The token is in none of it.
    pub async fn forward(&self, forward: Forward<'_>) -> Result<Forwarded, Error> {
        let Forward {
            method,
            path,
            query,
            content_type,
            accept,
            body,
        } = forward;
        let mut headers = HeaderMap::new();
        for (name, value) in [(CONTENT_TYPE, content_type), (ACCEPT, accept)] {
            if let Some(value) = value {
                headers.insert(name, value);
            }
        }
        let mut request = self.request(method, path, PATIENCE).headers(headers);
        if !query.is_empty() {
            request = request.query(query);
        }
        if !body.is_empty() {
            request = request.body(body);
        }
        self.link.forward(CALL, request).await
    }
}

impl Forwarded {
    /// Sends a request. The bodies of errors are read, since they may speak of the token.
    pub(crate) async fn of(request: RequestBuilder) -> Result<Self, Error> {
        let lost = |e| Error::transport(CALL, &e);
        let response = request.send().await.map_err(lost)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = if status.is_success() {
            Body::Coming(response)
        } else {
            Body::Read(Some(response.bytes().await.map_err(lost)?))
        };
        Ok(Self {
            status,
            headers,
            body,
        })
    }

    /// The failure that it is, if it is one.
    pub(crate) fn failure(&self) -> Option<Error> {
        match &self.body {
            Body::Coming(_) => None,
            Body::Read(body) => {
                let body = body.as_deref().unwrap_or_default();
                Some(Error::answered(CALL, self.status, &self.headers, body))
            }
        }
    }

    /// Servers quote what they do not like.
    pub(crate) fn without(mut self, secret: &str) -> Self {
        if let Body::Read(Some(body)) = &mut self.body
            && let Ok(text) = std::str::from_utf8(body)
            && text.contains(secret)
        {
            *body = Bytes::from(text.replace(secret, "…"));
            self.headers.remove(CONTENT_LENGTH);
        }
        self
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The next piece of the body; none at its end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        match &mut self.body {
            Body::Coming(response) => {
                let chunk = response.chunk().await;
                chunk.map_err(|e| Error::transport(CALL, &e))
            }
            Body::Read(body) => Ok(body.take()),
        }
    }
}
