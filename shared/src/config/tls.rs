//! SIP over TLS: `proxy.tls_port` and the files that it needs.
//! Owns:  `TlsListener`.
//! Gives: where to listen, and what we prove ourselves with; nothing where TLS is off.
//! Never: reads a file; the shards' start does, and names one that it cannot use.
//! Holds: there is no listener without a certificate and a key.

use std::path::PathBuf;

use serde::Deserialize;

use super::file::ConfigFile;
use super::problem::Report;
use crate::settings::TlsFiles;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsListener {
    pub port: u16,
    pub files: TlsFiles,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Paths {
    One(String),
    More(Vec<String>),
}

impl TlsListener {
    pub(super) fn check(
        file: &ConfigFile,
        tcp_port: Option<u16>,
        report: &mut Report<'_>,
    ) -> Option<Self> {
        const KEY: &str = "proxy.tls_port";
        let proxy = &file.proxy;
        let port = proxy.tls_port.filter(|port| *port > 0)?;
        if tcp_port == Some(port) {
            report.error(KEY, format!("{port} is proxy.tcp_port: each needs a port of its own"));
        }
        Some(Self { port, files: files(file, KEY, report)? })
    }
}

/// The files that a listener which `key` switches on needs.
pub(super) fn files(
    file: &ConfigFile,
    key: &'static str,
    report: &mut Report<'_>,
) -> Option<TlsFiles> {
    let proxy = &file.proxy;
    // The original lets SIP use the files of HTTPS where it has none of its own.
    let certificate = proxy.ssl_certificate.as_ref().or(file.ssl_certificate.as_ref());
    let private_key = proxy.ssl_private_key.as_ref().or(file.ssl_private_key.as_ref());
    let mut path = |text: Option<&String>, name: &str, what: &str| {
        let path = text.filter(|text| !text.is_empty() && !text.contains('\0'));
        if path.is_none() {
            let word = key.trim_start_matches("proxy.");
            let hint = format!("write proxy.{name} = \"FILE\", or {word} = 0");
            report.error_try(key, format!("TLS needs {what}"), &hint);
        }
        path.map(PathBuf::from)
    };
    let certificate = path(certificate, "ssl_certificate", "a certificate");
    let private_key = path(private_key, "ssl_private_key", "the certificate's private key");
    let paths = |written: &Option<Paths>| match written {
        None => Vec::new(),
        Some(Paths::One(path)) => vec![PathBuf::from(path)],
        Some(Paths::More(paths)) => paths.iter().map(PathBuf::from).collect(),
    };
    let authorities = paths(&proxy.tls_ca_certificates);
    let client_authorities = paths(&proxy.tls_client_ca_certificates);
    let (certificate, private_key) = (certificate?, private_key?);
    let clients = Vec::new(); // the trunks' own, once they are checked
    Some(TlsFiles { certificate, private_key, authorities, client_authorities, clients })
}
