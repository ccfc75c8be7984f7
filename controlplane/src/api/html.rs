//! Pages for people who look at a path of the console with a browser (surface.md, "the same path").
//! Owns:  who counts as a browser, the frame around an answer, the login form.
//! Gives: `for_browsers`, a layer: the JSON of a path as a page, 401 as the way to the login.
//! Never: anything that the JSON does not say; a script; a text that is not escaped.
//! Holds: status and rights are those of the JSON; who does not ask for HTML gets it untouched.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::{Code, Problem};

/// The longest list is far below.
const SHOWN_BYTES_MAX: usize = 16 << 20;

/// The only source is the page itself; forms go to us.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; \
                      base-uri 'none'; frame-ancestors 'none'";

/// What there is to look at, below the console's prefix.
const PLACES: [(&str, &str); 5] = [
    ("calls/active", "Active calls"),
    ("call-records", "Call records"),
    ("extensions", "Extensions"),
    ("sip-trunk", "Trunks"),
    ("routing", "Routes"),
];

const NOT_BUILT: &str = "The web console is not built yet. This page shows what the same path says to \
                         programs.";

pub(super) async fn for_browsers(
    State(console): State<Arc<str>>,
    request: Request,
    next: Next,
) -> Response {
    let below = request.uri().path().strip_prefix(&*console).map(str::to_owned);
    let Some(below) = below.filter(|below| below.is_empty() || below.starts_with('/')) else {
        return next.run(request).await;
    };
    let wants_page = prefers_html(request.headers());
    let looks = matches!(*request.method(), Method::GET | Method::HEAD);
    let is_login = below == "/login";
    let next_path = if is_login { next_of(request.uri().query()) } else { whole_path(&request) };
    if wants_page && looks && is_login {
        return login_page(&console, &next_path, StatusCode::OK, "");
    }
    if wants_page && looks && matches!(below.as_str(), "" | "/") {
        return page(&console, StatusCode::OK, "Ringgate", NOT_BUILT, "");
    }
    let sends_login = *request.method() == Method::POST && is_login;
    let mut response = next.run(request).await;
    response.headers_mut().append(header::VARY, HeaderValue::from_static("accept"));
    if !wants_page || !(looks || sends_login) || !is_json(response.headers()) {
        return response;
    }
    if response.status() == StatusCode::UNAUTHORIZED && !sends_login {
        let to = format!("{console}/login?next={}", encoded(&next_path));
        let vary = (header::VARY, "accept");
        return (StatusCode::SEE_OTHER, [vary, (header::LOCATION, to.as_str())]).into_response();
    }
    let (parts, body) = response.into_parts();
    let Ok(bytes) = to_bytes(body, SHOWN_BYTES_MAX).await else {
        return Problem::new(Code::Internal, "the answer is too long for a page").into_response();
    };
    let value: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    let mut shown = if sends_login {
        login_page(&console, "", parts.status, value["detail"].as_str().unwrap_or_default())
    } else {
        let text = serde_json::to_string_pretty(&value).unwrap_or_default();
        let title = value["title"].as_str().unwrap_or_else(|| below.trim_start_matches('/'));
        page(&console, parts.status, title, NOT_BUILT, &text)
    };
    for name in [header::ETAG, header::RETRY_AFTER, header::SET_COOKIE, header::WWW_AUTHENTICATE] {
        for value in parts.headers.get_all(&name) {
            shown.headers_mut().append(name.clone(), value.clone());
        }
    }
    shown
}

/// Whether `Accept` names HTML, and JSON not before it. A program that takes anything gets JSON.
fn prefers_html(headers: &HeaderMap) -> bool {
    let texts = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let (mut html, mut json) = (0.0_f32, 0.0_f32);
    for range in texts.flat_map(|text| text.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts.find_map(|part| part.strip_prefix("q="));
        let weight = weight.map_or(1.0, |weight| weight.trim().parse().unwrap_or(0.0));
        match kind.as_str() {
            "text/html" | "application/xhtml+xml" => html = html.max(weight),
            "application/json" | "application/problem+json" => json = json.max(weight),
            _ => {}
        }
    }
    html > json
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let essence = kind.unwrap_or_default().split(';').next().unwrap_or_default();
    matches!(essence.trim(), "application/json" | "application/problem+json")
}

fn whole_path(request: &Request) -> String {
    request.uri().path_and_query().map_or_else(String::new, |path| path.as_str().to_owned())
}

fn next_of(query: Option<&str>) -> String {
    let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let next = pairs.into_iter().find(|(name, _)| name == "next");
    next.map_or_else(String::new, |(_, value)| value.into_owned())
}

fn encoded(path: &str) -> String {
    url::form_urlencoded::byte_serialize(path.as_bytes()).collect()
}

fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"', '\'']) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 32);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    Cow::Owned(out)
}

fn page(console: &str, status: StatusCode, title: &str, lead: &str, json: &str) -> Response {
    let mut body = String::from("<nav><ul>");
    for (path, name) in PLACES {
        let _ = write!(body, "<li><a href=\"{}/{path}\">{name}</a></li>", escaped(console));
    }
    let _ = write!(body, "</ul></nav><h1>{}</h1><p>{}</p>", escaped(title), escaped(lead));
    if !json.is_empty() {
        let _ = write!(body, "<pre>{}</pre>", escaped(json));
    }
    document(status, title, &body)
}

fn login_page(console: &str, next: &str, status: StatusCode, wrong: &str) -> Response {
    let mut body = String::from("<h1>Log in to Ringgate</h1>");
    if !wrong.is_empty() {
        let _ = write!(body, "<p role=\"alert\">{}</p>", escaped(wrong));
    }
    let _ = write!(body, "<form method=\"post\" action=\"{}/login\">", escaped(console));
    if !next.is_empty() {
        let _ = write!(body, "<input type=\"hidden\" name=\"next\" value=\"{}\">", escaped(next));
    }
    body += "<p><label>Name <input name=\"identifier\" autocomplete=\"username\" required \
             autofocus></label></p><p><label>Password <input name=\"password\" type=\"password\" \
             autocomplete=\"current-password\" required></label></p><p><button>Log in</button></p>\
             </form>";
    document(status, "Log in", &body)
}

fn document(status: StatusCode, title: &str, body: &str) -> Response {
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{}</title><meta \
         name=\"viewport\" content=\"width=device-width\"><style>body{{font:16px/1.5 sans-serif;\
         max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}}ul{{display:flex;\
         flex-wrap:wrap;gap:1rem;list-style:none;padding:0}}pre{{overflow:auto}}</style></head>\
         <body>{body}</body></html>",
        escaped(title)
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::VARY, "accept"),
    ];
    (status, headers, Body::from(html)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_is_who_names_html_before_json() {
        let prefers = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            prefers_html(&headers)
        };
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        assert!(prefers(browser) && prefers("text/html"));
        for program in ["*/*", "application/json", "application/json, text/html;q=0.5", "text/csv"]
        {
            assert!(!prefers(program), "{program}");
        }
        assert!(!prefers("text/html;q=0") && !prefers("application/json, text/html"));
        assert!(!prefers_html(&HeaderMap::new()));
    }

    #[test]
    fn what_a_caller_is_called_is_no_markup() {
        assert_eq!(escaped("<b a=\"1\">&'"), "&lt;b a=&quot;1&quot;&gt;&amp;&#39;");
        assert_eq!(encoded("/console/a?b=c&d"), "%2Fconsole%2Fa%3Fb%3Dc%26d");
        assert_eq!(next_of(Some("x=1&next=%2Fconsole%2Fa%3Fb")), "/console/a?b");
    }
}
