//! The integrator's HTTP client: JSON in and out, a bearer token or the cookies of a login.

use std::net::SocketAddr;

use reqwest::Method;
use reqwest::header::{ACCEPT, AUTHORIZATION, COOKIE, HeaderMap, SET_COOKIE};
use serde_json::Value;

use super::SOON;

#[derive(Clone)]
pub(crate) struct Client {
    base: String,
    http: reqwest::Client,
    token: Option<String>,
    cookies: Vec<(String, String)>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) what: String,
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        let kind = self.header("content-type");
        assert!(kind.contains("json"), "{}: {kind}: {text}", self.what);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}: {text}", self.what))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The answer, when it has one of these states.
    #[track_caller]
    pub(crate) fn expect(self, states: &[u16]) -> Self {
        let text = String::from_utf8_lossy(&self.body[..self.body.len().min(2_000)]);
        assert!(states.contains(&self.status), "{}: {} {text}", self.what, self.status);
        self
    }
}

impl Client {
    pub(crate) fn new(server: SocketAddr, token: Option<&str>) -> Self {
        let http = reqwest::Client::builder()
            .timeout(SOON)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .expect("a client");
        let token = token.map(str::to_owned);
        Self { base: format!("http://{server}"), http, token, cookies: Vec::new() }
    }

    /// The same client without anything that says who it is.
    pub(crate) fn stranger(&self) -> Self {
        Self { token: None, cookies: Vec::new(), ..self.clone() }
    }

    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.stranger() }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        shape: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
    ) -> Answer {
        let what = format!("{method} {path}");
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if !self.cookies.is_empty() {
            let pairs = self.cookies.iter().map(|(name, value)| format!("{name}={value}"));
            request = request.header(COOKIE, pairs.collect::<Vec<_>>().join("; "));
        }
        let response = shape(request).send().await;
        let response = response.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        Answer { what, status, headers, body: body.to_vec() }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, |request| request.header(ACCEPT, "application/json")).await
    }

    pub(crate) async fn get_with(&self, path: &str, name: &str, value: &str) -> Answer {
        self.send(Method::GET, path, |request| request.header(name, value)).await
    }

    /// An event stream, from the event with this id on; its body does not end.
    pub(crate) async fn open_after(&self, path: &str, last: Option<&str>) -> reqwest::Response {
        let mut request = self.http.get(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        request.send().await.unwrap_or_else(|error| panic!("GET {path}: {error:?}"))
    }

    pub(crate) async fn json(&self, method: Method, path: &str, body: &Value) -> Answer {
        let with = |request: reqwest::RequestBuilder| {
            request.header(ACCEPT, "application/json").json(body)
        };
        self.send(method, path, with).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.json(Method::POST, path, body).await
    }

    pub(crate) async fn post_with(
        &self,
        path: &str,
        body: &Value,
        key: &str,
        value: &str,
    ) -> Answer {
        self.send(Method::POST, path, |request| request.json(body).header(key, value)).await
    }

    /// As `curl -X POST` does it.
    pub(crate) async fn post_nothing(&self, path: &str) -> Answer {
        self.send(Method::POST, path, |request| request).await
    }

    pub(crate) async fn post_form(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.send(Method::POST, path, |request| request.form(fields)).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.json(Method::PUT, path, body).await
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.json(Method::PATCH, path, body).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, |request| request).await
    }

    /// Takes the cookies of an answer along from now on, as every cookie jar does.
    pub(crate) fn keep_cookies(&mut self, answer: &Answer) {
        for value in answer.headers.get_all(SET_COOKIE) {
            let pair = value.to_str().expect("text").split(';').next().unwrap_or_default();
            let (name, value) = pair.split_once('=').expect("a cookie has a value");
            self.cookies.retain(|(known, _)| known != name);
            self.cookies.push((name.to_owned(), value.to_owned()));
        }
    }

    pub(crate) fn has_cookies(&self) -> bool {
        !self.cookies.is_empty()
    }
}
