//! Requests that a page of somebody else could make a browser send (cross-site request forgery).
//! Owns:  the two checks: where a request comes from, and whether it knows the session's token.
//! Gives: 403 with a code.
//! Never: looks at a request that has no cookie to abuse.
//! Holds: a program that is no browser needs no token, as long as it sends what no form can send.

use axum::http::{HeaderMap, header};

use super::{Code, Problem};
use crate::access::same_text;

pub(super) const CSRF_HEADER: &str = "x-csrf-token";
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// Types that a page can send anywhere without asking first (Fetch, "CORS-safelisted").
const FORM_TYPES: [&str; 3] =
    ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"];

/// For a request with the cookie of a session and a method that may change something.
pub(super) fn check(headers: &HeaderMap, expected: &str) -> Result<(), Problem> {
    same_site(headers)?;
    let refused = |text: &str| Err(Problem::new(Code::CsrfRefused, text));
    match headers.get(CSRF_HEADER) {
        Some(sent) if sent.to_str().is_ok_and(|sent| same_text(sent, expected)) => Ok(()),
        Some(_) => refused("X-CSRF-Token is not the token of this session"),
        None if is_browser(headers) => refused("a browser must send X-CSRF-Token"),
        None if is_form(headers) => {
            refused("a form must come with X-CSRF-Token; JSON from a program needs none")
        }
        None => Ok(()),
    }
}

/// Refuses what a browser says comes from another site. What says nothing is no browser of this decade.
pub(super) fn same_site(headers: &HeaderMap) -> Result<(), Problem> {
    let refused = |text: String| Err(Problem::new(Code::CsrfRefused, text));
    if let Some(site) = headers.get(SEC_FETCH_SITE) {
        return match site.to_str() {
            Ok("same-origin" | "none") => Ok(()),
            _ => refused(format!("Sec-Fetch-Site is {site:?}: another site's page sent this")),
        };
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let own = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, at)| at);
    if own.is_some() && own.map(without_port) == host.map(without_port) && same_port(own, host) {
        return Ok(());
    }
    refused(format!("Origin {origin:?} is not where this request went"))
}

/// The port as written; the default one of either scheme counts as not written, since a TLS proxy
/// before us has another one.
fn same_port(own: Option<&str>, host: Option<&str>) -> bool {
    let port = |text: Option<&str>| {
        let port = text.and_then(|text| text.strip_prefix(without_port(text)));
        let port = port.and_then(|port| port.strip_prefix(':')).map(str::to_owned);
        port.filter(|port| port != "80" && port != "443")
    };
    port(own) == port(host)
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

fn is_browser(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN)
        || headers.contains_key(header::REFERER)
        || headers.keys().any(|name| name.as_str().starts_with("sec-fetch-"))
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let essence = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default();
    FORM_TYPES.iter().any(|form| essence.trim().eq_ignore_ascii_case(form))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (header::HeaderName::from_static(name), header::HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    fn allowed(pairs: &[(&'static str, &'static str)]) -> bool {
        check(&headers(pairs), "the-token").is_ok()
    }

    const JSON: (&str, &str) = ("content-type", "application/json");
    const HOST: (&str, &str) = ("host", "pbx.example:8080");

    #[test]
    fn a_program_that_sends_json_needs_no_token() {
        assert!(allowed(&[HOST, JSON]));
        assert!(allowed(&[HOST]), "no body, no type");
        assert!(!allowed(&[HOST, JSON, ("x-csrf-token", "another")]), "a wrong one is refused");
    }

    #[test]
    fn what_a_form_can_send_needs_the_token() {
        for kind in
            ["application/x-www-form-urlencoded", "text/plain;charset=UTF-8", "Multipart/Form-Data"]
        {
            assert!(!allowed(&[HOST, ("content-type", kind)]), "{kind}");
            assert!(allowed(&[HOST, ("content-type", kind), ("x-csrf-token", "the-token")]));
        }
    }

    #[test]
    fn a_browser_needs_the_token_even_on_our_own_page() {
        let own = ("origin", "http://pbx.example:8080");
        assert!(!allowed(&[HOST, JSON, own]));
        assert!(!allowed(&[HOST, JSON, ("sec-fetch-site", "same-origin")]));
        assert!(!allowed(&[HOST, JSON, ("referer", "http://pbx.example:8080/console")]));
        assert!(allowed(&[HOST, JSON, own, ("x-csrf-token", "the-token")]));
    }

    #[test]
    fn another_site_is_refused_even_with_the_token() {
        let token = ("x-csrf-token", "the-token");
        for site in ["cross-site", "same-site", ""] {
            assert!(!allowed(&[HOST, JSON, token, ("sec-fetch-site", site)]), "{site}");
        }
        for origin in [
            "http://evil.example",
            "http://pbx.example.evil.example:8080",
            "http://pbx.example:9090",
            "http://pbx.example",
            "null",
            "",
        ] {
            assert!(!allowed(&[HOST, JSON, token, ("origin", origin)]), "{origin}");
        }
        let behind_tls = ("host", "pbx.example");
        assert!(allowed(&[behind_tls, JSON, token, ("origin", "https://pbx.example")]));
        assert!(allowed(&[behind_tls, JSON, token, ("origin", "https://pbx.example:443")]));
        assert!(allowed(&[("host", "[::1]:8080"), JSON, token, ("origin", "http://[::1]:8080")]));
        assert!(!allowed(&[("host", "[::1]:8080"), JSON, token, ("origin", "http://[::2]:8080")]));
    }
}
