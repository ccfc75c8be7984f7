//! The one HTTP client for calls to the outside.
//! Owns:  connections, time-outs, the cap on answers; the rules of guard and signature, exchangeable.
//! Gives: an `Answer` as soon as there is a status, or why there is none.
//! Never: follows a redirect, uses a proxy of the environment, retries, logs a URL or a header.
//! Holds: a name is resolved once per connection, and what passed the guard is what is connected to.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{
    CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
};
use reqwest::{Method, Response, redirect};
use shared::config::{Config, WebHeader};
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};
use url::Url;

use super::guard::{Guard, Reach, Refused, check_addresses};
use super::multipart::Multipart;
use super::sign::Signer;
use crate::PRODUCT;

/// Look-up, TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Idle connections that are kept, per host.
const IDLE_MAX: usize = 32;
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest text of an error that we keep.
const REASON_CHARS_MAX: usize = 300;
/// A receiver that asks for more is not waited for longer.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3_600);

/// From a name to its addresses.
pub trait Lookup: fmt::Debug + Send + Sync + 'static {
    fn look_up(&self, host: String) -> Looking;
}

pub type Looking = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// What the system's resolver says.
#[derive(Clone, Copy, Debug)]
pub struct SystemLookup;

impl Lookup for SystemLookup {
    fn look_up(&self, host: String) -> Looking {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

#[derive(Debug)]
pub struct Client {
    rules: ArcSwap<Rules>,
    /// For targets that the configuration names.
    anywhere: reqwest::Client,
    open_internet: reqwest::Client,
}

#[derive(Debug)]
struct Rules {
    guard: Guard,
    signer: Signer,
}

impl Rules {
    fn of_config(config: &Config) -> Self {
        let guard = Guard::new(config.named_urls());
        Self { guard, signer: Signer::new(config.webhooks().keys()) }
    }
}

/// One call. It is signed with every key that there is.
#[derive(Debug)]
pub struct Outgoing<'a> {
    pub method: Method,
    pub url: &'a Url,
    /// What the configuration adds.
    pub headers: &'a HeaderMap,
    /// `webhook-id`: the same for every repetition of one event.
    pub id: &'a str,
    pub payload: Payload,
    /// For everything, the answer's body included.
    pub timeout: Duration,
    /// Bytes of the answer's body that are read.
    pub answer_max: usize,
}

#[derive(Clone, Debug)]
pub enum Payload {
    /// Signed is `METHOD path?query`.
    Nothing,
    Form(Vec<u8>),
    Json(Vec<u8>),
    Parts(Multipart),
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// What the header asks for, at most a day.
    pub retry_after: Option<Duration>,
    pub body: Vec<u8>,
    pub ending: Ending,
}

/// How far the body was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    Broken(String),
    /// There was more than was asked for.
    Cut,
    TimedOut,
    Whole,
}

/// Why there is no answer, or none that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failed {
    /// The connection ended in the middle, or what came was not HTTP.
    Broken(String),
    Connect(String),
    Refused(Refused),
    Status(u16),
    TimedOut,
    TooLong,
    /// The name has no address, or the resolver failed.
    Unresolved(String),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(reason) => write!(f, "the exchange broke: {reason}"),
            Self::Connect(reason) => write!(f, "no connection: {reason}"),
            Self::Refused(refused) => write!(f, "refused: {refused}"),
            Self::Status(status) => write!(f, "answered {status}"),
            Self::TimedOut => f.write_str("no answer in time"),
            Self::TooLong => f.write_str("the answer is too long"),
            Self::Unresolved(reason) => write!(f, "the name cannot be resolved: {reason}"),
        }
    }
}

impl StdError for Failed {}

impl Failed {
    /// A word for counters and filters.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Broken(_) => "broken",
            Self::Connect(_) => "connect",
            Self::Refused(_) => "refused",
            Self::Status(_) => "status",
            Self::TimedOut => "timed_out",
            Self::TooLong => "too_long",
            Self::Unresolved(_) => "unresolved",
        }
    }
}

impl Answer {
    pub const fn is_success(&self) -> bool {
        matches!(self.status, 200..=299)
    }

    /// The body, when all of it came.
    pub fn whole(&self) -> Result<&[u8], Failed> {
        match &self.ending {
            Ending::Broken(reason) => Err(Failed::Broken(reason.clone())),
            Ending::Cut => Err(Failed::TooLong),
            Ending::TimedOut => Err(Failed::TimedOut),
            Ending::Whole => Ok(&self.body),
        }
    }
}

impl Client {
    /// The error is one line for the operator.
    pub fn new(guard: Guard, signer: Signer, lookup: Arc<dyn Lookup>) -> Result<Self, String> {
        Ok(Self {
            rules: ArcSwap::from_pointee(Rules { guard, signer }),
            anywhere: pool(Reach::Anywhere, &lookup)?,
            open_internet: pool(Reach::OpenInternet, &lookup)?,
        })
    }

    /// With the rules of a configuration and the system's resolver.
    pub fn of_config(config: &Config) -> Result<Self, String> {
        let Rules { guard, signer } = Rules::of_config(config);
        Self::new(guard, signer, Arc::new(SystemLookup))
    }

    /// The rules of another configuration hold from the next call on.
    pub fn adopt(&self, config: &Config) {
        self.rules.store(Arc::new(Rules::of_config(config)));
    }

    /// The same with rules that the caller chose.
    pub fn adopt_rules(&self, guard: Guard, signer: Signer) {
        self.rules.store(Arc::new(Rules { guard, signer }));
    }

    pub async fn send(&self, call: Outgoing<'_>) -> Result<Answer, Failed> {
        let most = call.answer_max;
        let response = self.open(call).await?;
        Ok(read(response, most, unix_now()).await)
    }

    /// The same up to the head of the answer; the caller reads its body.
    pub async fn open(&self, call: Outgoing<'_>) -> Result<Response, Failed> {
        let rules = self.rules.load_full();
        let client = match rules.guard.decide(call.url).map_err(Failed::Refused)? {
            Reach::Anywhere => &self.anywhere,
            Reach::OpenInternet => &self.open_internet,
        };
        let at = unix_now();
        let signature = sign(&rules.signer, &call, at).await?;
        let headers = own_headers(&call, at, signature);
        let mut request = client
            .request(call.method, call.url.clone())
            .timeout(call.timeout)
            .headers(call.headers.clone())
            .headers(headers);
        request = match call.payload {
            Payload::Nothing => request,
            Payload::Form(body) | Payload::Json(body) => request.body(body),
            Payload::Parts(parts) => {
                request.header(CONTENT_LENGTH, parts.size()).body(parts.body())
            }
        };
        request.send().await.map_err(failed)
    }
}

fn pool(reach: Reach, lookup: &Arc<dyn Lookup>) -> Result<reqwest::Client, String> {
    let builder = || {
        reqwest::Client::builder()
            .user_agent(PRODUCT)
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(IDLE_MAX)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .dns_resolver(Resolver { lookup: Arc::clone(lookup), reach })
    };
    builder().build().or_else(|error| {
        // A host without CA certificates serves calls all the same; https targets fail their check.
        let reason = one_line(&error);
        tracing::warn!(reason, "no CA certificates on this host: calls to https targets will fail");
        let build = builder().tls_certs_only([]).build();
        build.map_err(|error| format!("the HTTP client cannot be made: {}", one_line(&error)))
    })
}

/// The configuration's headers, checked there.
pub fn header_map(headers: &[WebHeader]) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(headers.len());
    for WebHeader { name, value } in headers {
        let pair = (HeaderName::try_from(name), HeaderValue::try_from(value));
        if let (Ok(name), Ok(mut value)) = pair {
            value.set_sensitive(true);
            map.append(name, value);
        }
    }
    map
}

fn unix_now() -> i64 {
    // A clock before 1970 is broken; 0 is as good a time as any then.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

async fn sign(signer: &Signer, call: &Outgoing<'_>, at: i64) -> Result<Option<String>, Failed> {
    let mut signing = signer.begin(call.id, at);
    match &call.payload {
        Payload::Nothing => signing.update(target_line(&call.method, call.url).as_bytes()),
        Payload::Form(body) | Payload::Json(body) => signing.update(body),
        Payload::Parts(parts) => {
            let parts = parts.clone();
            let signed = tokio::task::spawn_blocking(move || {
                let read = parts.read(&mut |piece| {
                    signing.update(&piece);
                    true
                });
                read.map(|()| signing.finish())
            });
            let signed = signed.await.map_err(|error| Failed::Broken(error.to_string()))?;
            return signed.map_err(|error| Failed::Broken(error.to_string()));
        }
    }
    Ok(signing.finish())
}

fn own_headers(call: &Outgoing<'_>, at: i64, signature: Option<String>) -> HeaderMap {
    let content_type = match &call.payload {
        Payload::Nothing => None,
        Payload::Form(_) => Some("application/x-www-form-urlencoded".to_owned()),
        Payload::Json(_) => Some("application/json".to_owned()),
        Payload::Parts(parts) => Some(parts.content_type()),
    };
    let mut headers = HeaderMap::new();
    headers.insert("webhook-timestamp", HeaderValue::from(at));
    // All three are letters, digits and signs of ours, so none of them is refused.
    for (name, value) in [
        (CONTENT_TYPE, content_type),
        (HeaderName::from_static("webhook-id"), Some(call.id.to_owned())),
        (HeaderName::from_static("webhook-signature"), signature),
    ] {
        if let Some(Ok(value)) = value.map(HeaderValue::try_from) {
            headers.insert(name, value);
        }
    }
    headers
}

/// `GET /pbx/auth?u=1001`: what is signed when there is no body.
fn target_line(method: &Method, url: &Url) -> String {
    let path = url.path();
    match url.query() {
        Some(query) => format!("{method} {path}?{query}"),
        None => format!("{method} {path}"),
    }
}

async fn read(mut response: Response, most: usize, at: i64) -> Answer {
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let mut answer = Answer {
        status: response.status().as_u16(),
        retry_after: retry_after.and_then(|text| parse_retry_after(text, at)),
        body: Vec::new(),
        ending: Ending::Whole,
    };
    loop {
        match response.chunk().await {
            Ok(None) => return answer,
            Ok(Some(chunk)) => {
                let room = most - answer.body.len();
                answer.body.extend_from_slice(&chunk[..room.min(chunk.len())]);
                if chunk.len() > room {
                    // Dropping the response closes the connection: the rest is not read.
                    answer.ending = Ending::Cut;
                    return answer;
                }
            }
            Err(error) => {
                answer.ending = match failed(error) {
                    Failed::TimedOut => Ending::TimedOut,
                    other => Ending::Broken(other.to_string()),
                };
                return answer;
            }
        }
    }
}

/// Seconds, or a date (RFC 9110 10.2.3).
fn parse_retry_after(text: &str, now: i64) -> Option<Duration> {
    let text = text.trim();
    let seconds = match text.parse::<u64>() {
        Ok(seconds) => seconds,
        Err(_) => {
            let form = format_description!(
                "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
            );
            let at: OffsetDateTime = PrimitiveDateTime::parse(text, form).ok()?.assume_utc();
            u64::try_from(at.unix_timestamp() - now).unwrap_or(0)
        }
    };
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// Looks a name up, holds its addresses against the guard, and hands on exactly those.
#[derive(Debug)]
struct Resolver {
    lookup: Arc<dyn Lookup>,
    reach: Reach,
}

#[derive(Debug)]
struct LookupFailed(String);

impl fmt::Display for LookupFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for LookupFailed {}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let looking = self.lookup.look_up(name.as_str().to_owned());
        let reach = self.reach;
        Box::pin(async move {
            let found = looking.await.map_err(|error| LookupFailed(error.to_string()))?;
            if found.is_empty() {
                return Err(LookupFailed("it has no address".to_owned()).into());
            }
            if reach == Reach::OpenInternet {
                check_addresses(&found)?;
            }
            // Port 0 stands for the one of the URL.
            let addresses = found.into_iter().map(|ip| SocketAddr::new(ip, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}

fn failed(error: reqwest::Error) -> Failed {
    let error = error.without_url();
    let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
    while let Some(found) = cause {
        if let Some(refused) = found.downcast_ref::<Refused>() {
            return Failed::Refused(refused.clone());
        }
        if let Some(LookupFailed(reason)) = found.downcast_ref::<LookupFailed>() {
            return Failed::Unresolved(reason.clone());
        }
        cause = found.source();
    }
    if error.is_timeout() {
        Failed::TimedOut
    } else if error.is_connect() {
        Failed::Connect(one_line(&error))
    } else {
        Failed::Broken(one_line(&error))
    }
}

/// What an error and its causes say, without repetition, in one line.
pub(crate) fn one_line(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(found) = cause {
        let more = found.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = found.source();
    }
    let shown = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    shown.take(REASON_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_and_at_most_a_day() {
        let now = 784_111_767; // Sun, 06 Nov 1994 08:49:27 GMT
        let seconds = |text| parse_retry_after(text, now).map(|wait| wait.as_secs());
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds(" 0 "), Some(0));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(10));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        assert_eq!(seconds("99999999"), Some(86_400));
        for wrong in ["", "soon", "-5", "1.5", "Sun, 06 Nov 1994", "99999999999999999999999"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_signed_without_a_body_is_method_path_and_query() {
        let line = |text: &str| target_line(&Method::GET, &Url::parse(text).expect("a URL"));
        assert_eq!(
            line("https://a.example/pbx/auth?u=1001&r=pbx.com"),
            "GET /pbx/auth?u=1001&r=pbx.com"
        );
        assert_eq!(line("https://a.example"), "GET /");
        assert_eq!(line("https://a.example/?#x"), "GET /?");
    }
}
