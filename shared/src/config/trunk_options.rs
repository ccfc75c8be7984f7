//! Of a trunk in a file: trust, codecs, our address towards it, its media, its outbound proxy.
//! Owns:  the keys of these, and which of them need each other.
//! Gives: `TrunkOptions` and the proxy to be resolved, or the problem with them.
//! Never: asks a name server.
//! Holds: what it gives has no flaw; what is wrong was reported.

use serde::Deserialize;

use super::files::addresses;
use super::problem::Report;
use crate::net::Transport;
use crate::trunk_options::{
    CODECS_PER_TRUNK_MAX, OutboundProxy, TrunkMedia, TrunkOptions, goes_beside, odd_codec,
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
    };
    (options, proxy)
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
