//! The certificates and keys that the configuration names, read from their files.
//! Owns:  which key of the configuration a file that cannot be used belongs to.
//! Gives: `Keys`, or the problem with its place, for a reload and for `check-config`.
//! Never: shows what stands in a file; a problem has its name and a reason.
//! Holds: all files are read before one of them is used.

use std::path::Path;

use shard::{Keys, StartError};
use shared::config::{Config, Effective, Origin, Problem};
use shared::event::Severity;

/// `None` where SIP over TLS is off. It blocks.
pub(crate) fn read(config: &Config, effective: &Effective) -> Result<Option<Keys>, Problem> {
    let keys = config.tls_files().map(Keys::read).transpose();
    keys.map_err(|error| {
        let key = match &error {
            StartError::TlsFileRefused { path, .. } => key_of(config, path),
            _ => "proxy.ssl_certificate".to_owned(),
        };
        let row = effective.rows().iter().find(|row| row.key.starts_with(&key));
        let origin = row.map_or(Origin::Default, |row| row.origin.clone());
        Problem {
            severity: Severity::Error,
            origin,
            key,
            text: error.to_string(),
            suggestion: None,
        }
    })
}

/// The first key that names this file.
fn key_of(config: &Config, path: &Path) -> String {
    let files = config.tls_files();
    let names = |paths: Option<&[std::path::PathBuf]>| {
        paths.is_some_and(|paths| paths.iter().any(|known| known == path))
    };
    if names(files.map(|files| &files.authorities[..])) {
        return "proxy.tls_ca_certificates".to_owned();
    }
    if names(files.map(|files| &files.client_authorities[..])) {
        return "proxy.tls_client_ca_certificates".to_owned();
    }
    let gateway = files.map(|files| (&*files.certificate, &*files.private_key));
    let own = gateway.map(|files| (files, "proxy.ssl_".to_owned()));
    let trunks = config.trunks().iter().filter_map(|trunk| {
        let files = trunk.options.client_files.as_ref()?;
        let start = format!("proxy.trunks.{}.tls_", trunk.name);
        Some(((&*files.certificate, &*files.private_key), start))
    });
    let found = own.into_iter().chain(trunks).find_map(|((certificate, private_key), start)| {
        let word = match path {
            _ if path == certificate => "certificate",
            _ if path == private_key => "private_key",
            _ => return None,
        };
        Some(start + word)
    });
    found.unwrap_or_else(|| "proxy.ssl_certificate".to_owned())
}
