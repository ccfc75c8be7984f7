//! Who may ask: the Host that was asked for, and the source address under the AMI prefix.
//! Owns:  the two gates in front of the resources.
//! Gives: middleware.
//! Never: a login; while there are none, only this machine reaches us.
//! Holds: a web page that a browser on this machine shows cannot use a name of its own for us.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::{App, Code, Problem};

/// Refuses names that are not loopback: a foreign name that resolves to this machine is how a page
/// of somebody else reads local services (DNS rebinding).
pub(super) async fn loopback_host(request: Request, next: Next) -> Response {
    match asked_host(request.uri(), request.headers()) {
        Some(host) if is_loopback(host) => next.run(request).await,
        Some(host) => {
            let text = format!("\"{host}\" is not a name of this machine's loopback address");
            Problem::new(Code::ForeignHost, text).into_response()
        }
        None => Problem::new(Code::ForeignHost, "the request has no readable Host").into_response(),
    }
}

fn asked_host<'r>(uri: &'r Uri, headers: &'r HeaderMap) -> Option<&'r str> {
    let authority = uri.authority().map(|authority| authority.as_str());
    authority.or_else(|| headers.get(header::HOST)?.to_str().ok())
}

fn is_loopback(host: &str) -> bool {
    if let Ok(address) = host.parse::<SocketAddr>() {
        return address.ip().to_canonical().is_loopback();
    }
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if let Ok(ip) = bare.unwrap_or(host).parse::<IpAddr>() {
        return ip.to_canonical().is_loopback();
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        Some(_) => return false,
        None => host,
    };
    name.eq_ignore_ascii_case("localhost") || name.eq_ignore_ascii_case("localhost.")
}

/// `[ami].allows` decides by the address of the socket.
pub(super) async fn ami_source(State(app): State<App>, request: Request, next: Next) -> Response {
    let source = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
    let allowed =
        source.is_some_and(|source| app.http.ami_allows().iter().any(|net| net.contains(source)));
    if allowed {
        return next.run(request).await;
    }
    let source = source.map_or_else(|| "unknown".to_owned(), |source| source.to_string());
    let text = format!("{source} is not in [ami] allows");
    Problem::new(Code::SourceRefused, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_ours() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:8080",
            "127.9.9.9:1",
            "localhost",
            "LOCALHOST:8080",
            "localhost.:80",
            "[::1]",
            "[::1]:8080",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:8080",
            "192.0.2.1:8080",
            "[2001:db8::1]:80",
            "localhost:evil",
            "0.0.0.0",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
