//! A request's way to the server: the HTTP client and the token of the moment.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use reqwest::{RequestBuilder, Response, StatusCode, header::HeaderValue};
use tokio::{
    sync::{mpsc, oneshot},
    task::AbortHandle,
};

use crate::{
    Connection, Error,
    forward::Forwarded,
    keeper::{Keeper, Need, Renewed},
    material::{Material, Unreadable},
    token,
};

/// A success: 200, 201, 202 or 204.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// What a request is sent with at this moment. Replaced as a whole: reading it waits for nobody.
pub(crate) struct Live {
    pub(crate) http: reqwest::Client,
    pub(crate) pass: Pass,
}

/// A token, or that there is none.
#[derive(Clone)]
pub(crate) struct Pass {
    /// Grows with each token, and with each time that a server turns out to have none.
    pub(crate) number: u64,
    /// None where the server has no authentication, or where `number` is 0.
    pub(crate) token: Option<HeaderValue>,
}

/// Sends requests. Clones of a client share one.
pub(crate) struct Link {
    live: Arc<ArcSwap<Live>>,
    /// None where no tokens are used.
    needs: Option<mpsc::UnboundedSender<Need>>,
    keeper: Option<AbortHandle>,
}

impl Link {
    pub(crate) fn new(connection: Connection) -> Result<Self, Error> {
        const CALL: &str = "new";
        let invalid = |Unreadable(why)| Error::invalid(CALL, why);
        let material = Material::read(&connection).map_err(invalid)?;
        let live = Arc::new(ArcSwap::from_pointee(Live {
            http: material.tls.client(&connection.headers).map_err(invalid)?,
            pass: Pass {
                number: 0,
                token: None,
            },
        }));
        let has_tokens = connection.credentials.is_some();
        if !has_tokens && !connection.is_watched() {
            return Ok(Self {
                live,
                needs: None,
                keeper: None,
            });
        }
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| {
            Error::invalid(
                CALL,
                "credentials and files need a tokio runtime".to_owned(),
            )
        })?;
        let (needs, asked) = mpsc::unbounded_channel();
        let keeper = Keeper::new(connection, material, live.clone());
        let keeper = runtime.spawn(keeper.run(asked)).abort_handle();
        Ok(Self {
            live,
            needs: has_tokens.then_some(needs),
            keeper: Some(keeper),
        })
    }

    /// The HTTP client of the moment; calls in the air keep the one they began with.
    pub(crate) fn http(&self) -> reqwest::Client {
        self.live.load().http.clone()
    }

    /// Sends a request; with a token where there are credentials. One whose token is refused
    /// is sent once more, with a new one.
    pub(crate) async fn send(
        &self,
        call: &'static str,
        request: RequestBuilder,
    ) -> Result<Answer, Error> {
        match &self.needs {
            None => exchange(call, request).await,
            // Boxed, so that callers without tokens do not carry its size with each call.
            Some(needs) => Box::pin(self.send_with_token(call, request, needs)).await,
        }
    }

    async fn send_with_token(
        &self,
        call: &'static str,
        request: RequestBuilder,
        needs: &mpsc::UnboundedSender<Need>,
    ) -> Result<Answer, Error> {
        let mut pass = self.live.load().pass.clone();
        if pass.number == 0 {
            pass = match renewed(needs, 0).await {
                Renewed::Pass(pass) => pass,
                Renewed::Failed(error) => return Err(error.before(call)),
                Renewed::TooSoon => return Err(Error::lost(call)),
            };
        }
        let again = request.try_clone();
        let error = match exchange(call, pass.on(request)).await {
            Ok(answer) => return Ok(answer),
            Err(error) => pass.hidden_in(error),
        };
        let Some(again) = again.filter(|_| error.is_token_refused()) else {
            return Err(error);
        };
        match renewed(needs, pass.number).await {
            Renewed::Pass(fresh) => exchange(call, fresh.on(again))
                .await
                .map_err(|error| fresh.hidden_in(error)),
            Renewed::Failed(error) => Err(error.before(call)),
            Renewed::TooSoon => Err(error),
        }
    }
}

impl Link {
    /// An error of one who read an answer that this sent.
    pub(crate) fn hidden_in(&self, error: Error) -> Error {
        self.live.load().pass.hidden_in(error)
    }

    /// The same for a request that is passed on: whatever is answered is passed back.
    pub(crate) async fn forward(
        &self,
        call: &'static str,
        request: RequestBuilder,
    ) -> Result<Forwarded, Error> {
        let Some(needs) = &self.needs else {
            return Forwarded::of(request).await;
        };
        let mut pass = self.live.load().pass.clone();
        if pass.number == 0 {
            pass = match renewed(needs, 0).await {
                Renewed::Pass(pass) => pass,
                Renewed::Failed(error) => return Err(error.before(call)),
                Renewed::TooSoon => return Err(Error::lost(call)),
            };
        }
        let again = request.try_clone();
        let forwarded = pass.forward(request).await?;
        let is_refused = forwarded.failure().is_some_and(|e| e.is_token_refused());
        let Some(again) = again.filter(|_| is_refused) else {
            return Ok(forwarded);
        };
        match renewed(needs, pass.number).await {
            Renewed::Pass(fresh) => fresh.forward(again).await,
            Renewed::Failed(error) => Err(error.before(call)),
            Renewed::TooSoon => Ok(forwarded),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(keeper) = &self.keeper {
            keeper.abort();
        }
    }
}

impl Pass {
    fn on(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.token {
            Some(token) => request.header(token::HEADER, token),
            None => request,
        }
    }

    async fn forward(&self, request: RequestBuilder) -> Result<Forwarded, Error> {
        let forwarded = Forwarded::of(self.on(request)).await;
        let forwarded = forwarded.map_err(|error| self.hidden_in(error))?;
        Ok(match self.text() {
            Some(token) => forwarded.without(token),
            None => forwarded,
        })
    }

    fn text(&self) -> Option<&str> {
        self.token.as_ref().and_then(|token| token.to_str().ok())
    }

    /// Servers quote what they do not like.
    fn hidden_in(&self, error: Error) -> Error {
        match self.text() {
            Some(token) => error.without(token),
            None => error,
        }
    }
}

/// Another pass than this one.
async fn renewed(needs: &mpsc::UnboundedSender<Need>, seen: u64) -> Renewed {
    let (reply, answer) = oneshot::channel();
    let _ = needs.send(Need { seen, reply });
    // Without an answer the runtime ends, or the keeper is broken.
    answer.await.unwrap_or(Renewed::TooSoon)
}

/// One request and its answer.
pub(crate) async fn exchange(call: &'static str, request: RequestBuilder) -> Result<Answer, Error> {
    let response: Response = request
        .send()
        .await
        .map_err(|e| Error::transport(call, &e))?;
    let (status, headers) = (response.status(), response.headers().clone());
    let body = response
        .bytes()
        .await
        .map_err(|e| Error::transport(call, &e))?;
    match status {
        StatusCode::OK | StatusCode::CREATED | StatusCode::ACCEPTED | StatusCode::NO_CONTENT => {
            Ok(Answer { status, body })
        }
        _ => Err(Error::answered(call, status, &headers, &body)),
    }
}
