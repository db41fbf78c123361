//! Routes, and how requests and answers look.

mod answer;
mod metadata;
mod payloads;
mod query;
mod queues;
mod tasks;
mod tokens;
mod workflows;

use std::sync::Arc;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{Method, StatusCode, Uri},
    response::{IntoResponse, Response},
    routing::{any, delete, get, post, put},
};

use crate::{shared::Shared, state::Refused};
use answer::Answer;
pub(crate) use answer::Unheard;

/// More than any payload that Conductor takes, so that the refusal is ours.
const BODY_LIMIT: usize = 64 * 1024 * 1024;

type AppState = axum::extract::State<Arc<Shared>>;

pub(crate) fn router(shared: Arc<Shared>, has_update_v2: bool) -> Router {
    // Routes of the same depth name their parameters alike, as the router wants it.
    let mut api = Router::new();
    if has_update_v2 {
        api = api.route("/tasks/update-v2", post(tasks::update_v2));
    }
    let api = api
        .route("/tasks", post(tasks::update))
        .route("/tasks/poll/{a}", get(tasks::poll))
        .route(
            "/tasks/poll/batch/{a}",
            get(tasks::batch_poll).post(tasks::update_of_a_batch),
        )
        .route("/tasks/{a}", get(tasks::get))
        .route("/tasks/{a}/log", post(tasks::log).get(tasks::logs))
        .route("/tasks/{a}/{b}/{c}", post(tasks::update_by_reference))
        .route(
            "/tasks/{a}/{b}/{c}/sync",
            post(tasks::update_by_reference_sync),
        )
        .route("/tasks/queue/size", get(queues::size))
        .route("/tasks/queue/sizes", get(queues::sizes))
        .route("/tasks/queue/all", get(queues::all))
        .route("/tasks/queue/all/verbose", get(queues::all_verbose))
        .route("/tasks/queue/polldata", get(queues::poll_data))
        .route("/tasks/queue/polldata/all", get(queues::all_poll_data))
        .route("/tasks/queue/requeue/{a}", post(queues::requeue))
        .route(
            "/metadata/taskdefs",
            post(metadata::register_task_defs)
                .put(metadata::update_task_def)
                .get(metadata::task_defs),
        )
        .route(
            "/metadata/taskdefs/{a}",
            get(metadata::task_def).delete(metadata::remove_task_def),
        )
        .route(
            "/metadata/workflow",
            post(metadata::register_workflow_def)
                .put(metadata::update_workflow_defs)
                .get(metadata::workflow_defs),
        )
        .route("/metadata/workflow/{a}", get(metadata::workflow_def))
        .route(
            "/metadata/workflow/{a}/{b}",
            delete(metadata::remove_workflow_def),
        )
        .route("/workflow", post(workflows::start))
        .route(
            "/workflow/{a}",
            post(workflows::start_by_name)
                .get(workflows::get)
                .delete(workflows::terminate),
        )
        .route("/workflow/{a}/status", get(workflows::status))
        .route("/workflow/{a}/pause", put(workflows::pause))
        .route("/workflow/{a}/resume", put(workflows::resume))
        .route("/workflow/{a}/remove", delete(workflows::remove))
        .route("/workflow/decide/{a}", put(workflows::decide))
        .route("/workflow/running/{a}", get(workflows::running))
        .route("/tasks/externalstoragelocation", get(payloads::location))
        .route("/tasks/external-storage-location", get(payloads::location))
        // Conductor has these; nothing here needs them.
        .route("/tasks/search", any(unsupported))
        .route("/tasks/search-v2", any(unsupported))
        .route("/workflow/search", any(unsupported))
        .route("/workflow/search-v2", any(unsupported))
        .route("/workflow/{a}/retry", any(unsupported))
        .route("/workflow/{a}/restart", any(unsupported))
        .route("/workflow/{a}/rerun", any(unsupported))
        .route("/workflow/bulk/{a}", any(unsupported))
        .route("/event", any(unsupported))
        .route("/event/{a}", any(unsupported))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method);
    // Without keys there is no `/token`, as in open-source Conductor.
    let api = match &shared.tokens {
        None => api,
        Some(tokens) => {
            let give = post(tokens::give).with_state(tokens.clone());
            let check = axum::middleware::from_fn_with_state(tokens.clone(), tokens::check);
            api.layer(check).route("/token", give)
        }
    };
    let api = api
        .route("/health", get(health))
        .route("/version", get(version));
    Router::new()
        .route("/health", get(health))
        .nest("/api", api)
        .fallback(unknown)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(shared)
}

/// The answer to a request whose address does not even reach Conductor: what runs it takes no
/// slash within a part of the path, and says so in HTML.
pub(crate) fn refuse_address(uri: &Uri) -> Option<Response> {
    let path = uri.path().as_bytes();
    let slash = path
        .windows(3)
        .any(|part| part.eq_ignore_ascii_case(b"%2F"));
    slash.then(|| {
        let page = "<!doctype html><html lang=\"en\"><head><title>HTTP Status 400 – Bad \
                    Request</title></head><body><h1>HTTP Status 400 – Bad Request</h1></body></html>";
        (StatusCode::BAD_REQUEST, axum::response::Html(page)).into_response()
    })
}

async fn health() -> Answer {
    Answer::Json(r#"{"healthResults":[],"suppressedHealthResults":[],"healthy":true}"#.to_owned())
}

async fn version() -> Answer {
    Answer::Text(concat!("embedded-", env!("CARGO_PKG_VERSION")).to_owned())
}

async fn unknown(original: axum::extract::OriginalUri) -> Response {
    let path = original.0.path().trim_start_matches('/');
    Refused::missing(format!("No static resource {path}.")).into_response()
}

async fn wrong_method(method: Method) -> Response {
    let message = format!("Request method '{method}' is not supported");
    Refused::new(405, message).into_response()
}

async fn unsupported(method: Method, uri: axum::extract::OriginalUri) -> Response {
    let uri: &Uri = &uri.0;
    let message = format!(
        "embedded-conductor does not support {method} {}",
        uri.path()
    );
    Refused::new(StatusCode::NOT_IMPLEMENTED.as_u16(), message).into_response()
}
