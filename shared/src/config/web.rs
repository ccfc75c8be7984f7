//! SIP over WebSocket: `proxy.ws_port`, `proxy.wss_port` and the path that clients ask for.
//! Owns:  `WebListener`.
//! Gives: where to listen; the files of TLS where WSS needs them.
//! Never: serves the path on the HTTP address; that is the control plane's, and a shard has the flows.
//! Holds: there is no WSS listener without a certificate and a key, and the path is one that can be asked
//!        for.

use super::file::ConfigFile;
use super::problem::Report;
use super::tls;
use crate::settings::TlsFiles;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebListener {
    pub ws_port: Option<u16>,
    pub wss_port: Option<u16>,
    /// Of the WSS listener, where there is one.
    pub files: Option<TlsFiles>,
    pub path: String,
}

const PATH_DEFAULT: &str = "/ws";
const PATH_BYTES_MAX: usize = 256;

impl WebListener {
    pub(super) fn check(file: &ConfigFile, tcp_port: Option<u16>, report: &mut Report<'_>) -> Self {
        let proxy = &file.proxy;
        let on = |port: Option<u16>| port.filter(|port| *port > 0);
        let (ws_port, wss_port) = (on(proxy.ws_port), on(proxy.wss_port));
        let taken = [
            ("proxy.tcp_port", tcp_port),
            ("proxy.tls_port", on(proxy.tls_port)),
            ("proxy.ws_port", ws_port),
        ];
        let mut apart = |key: &'static str, port: Option<u16>, others: &[(&str, Option<u16>)]| {
            let same = others.iter().find(|(_, other)| port.is_some() && *other == port);
            if let (Some((other, _)), Some(port)) = (same, port) {
                report.error(key, format!("{port} is {other}: each needs a port of its own"));
            }
        };
        apart("proxy.ws_port", ws_port, &taken[..2]);
        apart("proxy.wss_port", wss_port, &taken);
        let files = wss_port.and_then(|_| tls::files(file, "proxy.wss_port", report));
        let path = path(proxy.ws_handler.as_deref(), report);
        // The original serves the path over HTTP: whoever brings its file has no port for it.
        if proxy.ws_handler.is_some() && proxy.ws_port.is_none() && proxy.wss_port.is_none() {
            let text = "the path is served on proxy.ws_port and proxy.wss_port: set one of them";
            report.warning("proxy.ws_handler", text);
        }
        Self { ws_port, wss_port, files, path }
    }
}

fn path(written: Option<&str>, report: &mut Report<'_>) -> String {
    let Some(path) = written else { return PATH_DEFAULT.to_owned() };
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#');
    if !path.starts_with('/') || path.len() > PATH_BYTES_MAX || !path.bytes().all(plain) {
        let text = format!("{path:?} is no path that a client could ask for");
        report.error_try("proxy.ws_handler", text, "write \"/ws\"");
    }
    path.to_owned()
}
