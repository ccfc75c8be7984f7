//! Of a trunk in a file: trust, codecs, our address towards it, its media, its outbound proxy.
//! Owns:  the keys of these, and which of them need each other.
//! Gives: `TrunkOptions` and the proxy to be resolved, or the problem with them.
//! Never: asks a name server.
//! Holds: what it gives has no flaw; what is wrong was reported.

use std::collections::HashMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::files::addresses;
use super::problem::Report;
use super::trunks::TrunkConfig;
use crate::ids::CertificateId;
use crate::net::Transport;
use crate::settings::ClientFiles;
use crate::trunk_options::{
    CODECS_PER_TRUNK_MAX, OutboundProxy, TLS_NAMES_PER_TRUNK_MAX, TrunkMedia, TrunkOptions,
    goes_beside, odd_codec, odd_tls_name,
};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TrunkOptionsFile {
    trusted: Option<bool>,
    remote_party_id: Option<bool>,
    codec: Option<Names>,
    external_ip: Option<String>,
    media_mode: Option<String>,
    outbound_proxy: Option<String>,
    tls_certificate: Option<String>,
    tls_private_key: Option<String>,
    inbound_tls_names: Vec<String>,
}

/// The original writes one codec as a text, or with commas between.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Names {
    One(String),
    More(Vec<String>),
}

/// `has_backup`: the trunk names a `backup_dest`.
pub(super) fn check(
    file: &TrunkOptionsFile,
    named: Option<Transport>,
    has_backup: bool,
    key: &str,
    report: &mut Report<'_>,
) -> (TrunkOptions, Option<OutboundProxy>) {
    let trusted = file.trusted.unwrap_or(false);
    let remote_party_id = file.remote_party_id.unwrap_or(false);
    if remote_party_id && !trusted {
        let key = format!("{key}.remote_party_id");
        report.warning_try(&key, "is not used without trust", "write trusted = true");
    }
    let proxy = proxy(file, named, has_backup, key, report);
    let options = TrunkOptions {
        trusted,
        remote_party_id: remote_party_id && trusted,
        codecs: codecs(file.codec.as_ref(), key, report),
        external_ip: addresses(file.external_ip.as_deref(), &format!("{key}.external_ip"), report),
        media: media(file.media_mode.as_deref(), key, report),
        route: proxy.as_ref().map(|proxy| proxy.route.clone()),
        client_files: client_files(file, key, report),
        tls_names: tls_names(&file.inbound_tls_names, key, report),
    };
    (options, proxy)
}

fn client_files(
    file: &TrunkOptionsFile,
    key: &str,
    report: &mut Report<'_>,
) -> Option<ClientFiles> {
    let path = |text: &Option<String>| {
        text.as_deref().filter(|text| !text.is_empty() && !text.contains('\0')).map(PathBuf::from)
    };
    match (path(&file.tls_certificate), path(&file.tls_private_key)) {
        (None, None) => None,
        (Some(certificate), Some(private_key)) => Some(ClientFiles::new(certificate, private_key)),
        (Some(_), None) => {
            let key = format!("{key}.tls_certificate");
            report.error_try(&key, "has no key", "write tls_private_key = \"FILE\"");
            None
        }
        (None, Some(_)) => {
            let key = format!("{key}.tls_private_key");
            report.error_try(&key, "has no certificate", "write tls_certificate = \"FILE\"");
            None
        }
    }
}

fn tls_names(written: &[String], key: &str, report: &mut Report<'_>) -> Vec<Box<str>> {
    let key = format!("{key}.inbound_tls_names");
    if written.len() > TLS_NAMES_PER_TRUNK_MAX {
        report.error(&key, format!("has more than {TLS_NAMES_PER_TRUNK_MAX} names"));
    }
    let mut names = Vec::new();
    for (place, name) in written.iter().enumerate() {
        match odd_tls_name(name) {
            Some(reason) => report.error(&format!("{key}[{place}]"), reason),
            None => names.push(name.to_ascii_lowercase().into()),
        }
    }
    names
}

/// A name may itself say that it has TLS (RFC 3263 4.1).
fn may_be_secure(trunk: &TrunkConfig) -> bool {
    let may = |transport: Option<Transport>| transport.is_none_or(Transport::is_secure);
    match (&trunk.outbound_proxy, &trunk.backup) {
        (Some(proxy), _) => may(proxy.transport),
        (None, backup) => {
            may(trunk.transport) || backup.as_ref().is_some_and(|(_, transport)| may(*transport))
        }
    }
}

/// What the trunks need of the TLS of the whole gateway. `asks`: clients are asked for certificates.
pub(super) fn check_tls(
    trunks: &[TrunkConfig],
    has_tls: bool,
    asks: bool,
    report: &mut Report<'_>,
) -> Vec<ClientFiles> {
    for trunk in trunks {
        let key = |name: &str| format!("proxy.trunks.{}.{name}", trunk.name);
        let options = &trunk.options;
        if options.client_files.is_some() && !has_tls {
            let hint = "write proxy.tls_port = 5061";
            report.warning_try(&key("tls_certificate"), "is not used without TLS", hint);
        } else if options.client_files.is_some() && !may_be_secure(trunk) {
            let text = "is not used: the trunk is not reached over TLS";
            report.warning_try(&key("tls_certificate"), text, "write transport = \"tls\"");
        }
        if !options.tls_names.is_empty() && !asks {
            let (text, hint) = (
                "no call can come from it: no client is asked for a certificate",
                "write proxy.tls_client_ca_certificates = \"FILE\"",
            );
            report.error_try(&key("inbound_tls_names"), text, hint);
        }
    }
    clients(trunks, report)
}

fn clients(trunks: &[TrunkConfig], report: &mut Report<'_>) -> Vec<ClientFiles> {
    let mut known: HashMap<CertificateId, ClientFiles> = HashMap::new();
    for trunk in trunks {
        let Some(files) = &trunk.options.client_files else { continue };
        let first = known.entry(files.id).or_insert_with(|| files.clone());
        if first != files {
            let key = format!("proxy.trunks.{}.tls_certificate", trunk.name);
            let text = format!("cannot be told from {}", first.certificate.display());
            report.error_try(&key, text, "give the file another name");
        }
    }
    trunks.iter().filter_map(|trunk| trunk.options.client_files.clone()).collect()
}

fn proxy(
    file: &TrunkOptionsFile,
    named: Option<Transport>,
    has_backup: bool,
    key: &str,
    report: &mut Report<'_>,
) -> Option<OutboundProxy> {
    let text = file.outbound_proxy.as_deref().filter(|text| !text.is_empty())?;
    let key = format!("{key}.outbound_proxy");
    match OutboundProxy::parse(text, named) {
        Ok(_) if has_backup => {
            let text = "does not go with backup_dest: the proxy finds the way";
            report.error_try(&key, text, "give the proxy's name several addresses");
            None
        }
        Ok(proxy) => Some(proxy),
        Err(reason) => {
            report.error_try(&key, reason, "write \"sip:HOST:PORT\"");
            None
        }
    }
}

fn codecs(written: Option<&Names>, key: &str, report: &mut Report<'_>) -> Vec<Box<str>> {
    let key = format!("{key}.codec");
    let names: Vec<&str> = match written {
        None => Vec::new(),
        Some(Names::One(text)) => text.split(',').map(str::trim).collect(),
        Some(Names::More(list)) => list.iter().map(|name| name.trim()).collect(),
    };
    if names.len() > CODECS_PER_TRUNK_MAX {
        report.error(&key, format!("has more than {CODECS_PER_TRUNK_MAX} codecs"));
    }
    let mut codecs: Vec<Box<str>> = Vec::new();
    for name in names.into_iter().filter(|name| !name.is_empty()) {
        if let Some(reason) = odd_codec(name) {
            report.error_try(&key, reason, "write codec = [\"PCMA\", \"PCMU\"]");
        } else if goes_beside(name) {
            continue;
        } else if codecs.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            report.warning(&key, format!("has {name} twice"));
        } else {
            codecs.push(name.into());
        }
    }
    codecs
}

fn media(word: Option<&str>, key: &str, report: &mut Report<'_>) -> TrunkMedia {
    let word = word.unwrap_or("auto");
    TrunkMedia::parse(word).unwrap_or_else(|| {
        let key = format!("{key}.media_mode");
        let words = TrunkMedia::WORDS.join(", ");
        if word == "force_transcode" {
            // A word of the original: its file starts us unchanged.
            report.warning_try(&key, "transcoding is not built", format!("write one of {words}"));
        } else {
            report.error(&key, format!("\"{word}\" is none of {words}"));
        }
        TrunkMedia::Auto
    })
}
