//! What a case gets: a server, a client of it, and raw HTTP.

use std::{sync::Arc, time::Duration};

use conductor_client::Client;
use harness::{Server, unique};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{Kind, Work};

/// A server under test.
#[derive(Debug, Clone)]
pub(crate) struct Ctx {
    pub(crate) kind: Kind,
    server: Arc<Server>,
    http: reqwest::Client,
}

/// An answer, as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) kind: String,
    pub(crate) text: String,
}

impl Answer {
    /// The body as JSON; null if it is not.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// The answer if it is a 200, else an error with all of it.
    pub(crate) fn ok(self) -> anyhow::Result<Self> {
        anyhow::ensure!(self.status == 200, "{} {}", self.status, self.text);
        Ok(self)
    }

    /// Conductor's JSON error: status, a part of its message, and never to be retried.
    pub(crate) fn is_error(&self, status: u16, message: &str) -> anyhow::Result<()> {
        same!(format!("status of {}", self.text), self.status, status);
        says!(self.kind, "application/json");
        let body = self.json();
        same!("status in the body", body["status"], json!(status));
        same!("retryable", body["retryable"], json!(false));
        says!(body["message"].as_str().unwrap_or_default(), message);
        Ok(())
    }

    /// A 400 whose only validation error is this.
    pub(crate) fn is_invalid(&self, path: &str, message: &str) -> anyhow::Result<()> {
        self.is_error(400, "Validation failed, check below errors for detail.")?;
        let body = self.json();
        let errors = body["validationErrors"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        same!(format!("number of {errors:?}"), errors.len(), 1);
        same!("path", errors[0]["path"], json!(path));
        same!("message", errors[0]["message"], json!(message));
        Ok(())
    }
}

impl Ctx {
    pub(crate) fn new(kind: Kind, server: Arc<Server>) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(30))
            .build()?;
        Ok(Self { kind, server, http })
    }

    pub(crate) fn client(&self) -> &Client {
        self.server.client()
    }

    /// The address of a path below `/api`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server.base())
    }

    /// A request without a body, to a path below `/api`.
    pub(crate) async fn call(&self, method: Method, path: &str) -> anyhow::Result<Answer> {
        self.request(self.http.request(method, self.url(path)))
            .await
    }

    /// A request with a JSON body.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<Answer> {
        self.send_raw(method, path, "application/json", body.to_string())
            .await
    }

    /// A request with any body.
    pub(crate) async fn send_raw(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: impl Into<reqwest::Body>,
    ) -> anyhow::Result<Answer> {
        let request = self.http.request(method, self.url(path));
        self.request(request.header("content-type", kind).body(body))
            .await
    }

    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.call(Method::GET, path).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.send(Method::POST, path, body).await
    }

    /// A request that was put together elsewhere.
    pub(crate) async fn request(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Answer> {
        let response = request.send().await?;
        let kind = response.headers().get("content-type");
        Ok(Answer {
            status: response.status().as_u16(),
            kind: kind.map_or("", |k| k.to_str().unwrap_or("?")).to_owned(),
            text: response.text().await?,
        })
    }

    /// A connection of its own to the server.
    pub(crate) async fn connect(&self) -> anyhow::Result<TcpStream> {
        let (host, _) = self.split("");
        Ok(TcpStream::connect(host).await?)
    }

    /// A connection of its own on which a path below `/api` was asked for.
    pub(crate) async fn open_get(&self, path: &str) -> anyhow::Result<TcpStream> {
        let mut socket = self.connect().await?;
        socket.write_all(self.head(path).as_bytes()).await?;
        Ok(socket)
    }

    /// The text of a request for a path below `/api`.
    pub(crate) fn head(&self, path: &str) -> String {
        let (host, path) = self.split(path);
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")
    }

    /// The host with its port, and the whole path.
    fn split(&self, path: &str) -> (String, String) {
        let url = self.url(path);
        let rest = url.trim_start_matches("http://");
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        (host.to_owned(), path.to_owned())
    }

    /// A task type with these fields of its definition (without delay between attempts, if
    /// they do not say), and a workflow of one such task, `ref`, that passes `value` on.
    pub(crate) async fn work(&self, def: Value) -> anyhow::Result<Work> {
        let name = unique("t");
        let mut task = json!({ "name": name, "retryDelaySeconds": 0 });
        if let (Some(task), Value::Object(def)) = (task.as_object_mut(), def) {
            task.extend(def);
        }
        self.post("/metadata/taskdefs", &json!([task]))
            .await?
            .ok()?;
        self.define(&json!({
            "name": name,
            "tasks": [{
                "name": name,
                "taskReferenceName": "ref",
                "inputParameters": { "value": "${workflow.input.value}" }
            }]
        }))
        .await?;
        Ok(Work::new(self.clone(), name))
    }

    /// Registers a workflow definition; what every one needs is added.
    pub(crate) async fn define(&self, def: &Value) -> anyhow::Result<()> {
        let mut all =
            json!({ "version": 1, "schemaVersion": 2, "timeoutSeconds": 0, "ownerEmail": "a@b.c" });
        if let (Some(all), Value::Object(def)) = (all.as_object_mut(), def) {
            all.extend(def.clone());
        }
        self.send(Method::PUT, "/metadata/workflow", &json!([all]))
            .await?
            .ok()?;
        Ok(())
    }

    /// Starts a workflow by a request's fields; its id.
    pub(crate) async fn start(&self, request: &Value) -> anyhow::Result<String> {
        Ok(self.post("/workflow", request).await?.ok()?.text)
    }

    /// A workflow with its tasks.
    pub(crate) async fn workflow(&self, id: &str) -> anyhow::Result<Value> {
        Ok(self.get(&format!("/workflow/{id}")).await?.ok()?.json())
    }

    /// A task.
    pub(crate) async fn task(&self, id: &str) -> anyhow::Result<Value> {
        Ok(self.get(&format!("/tasks/{id}")).await?.ok()?.json())
    }

    /// Evaluates a workflow now.
    pub(crate) async fn decide(&self, id: &str) -> anyhow::Result<()> {
        self.call(Method::PUT, &format!("/workflow/decide/{id}"))
            .await?
            .ok()?;
        Ok(())
    }
}
