//! Of a stored trunk: trust, codecs, our address as it sees it, its media, its outbound proxy.
//! Owns:  the fields of these; what is wrong with one is what is wrong with it in a file.
//! Gives: `read` and `check` for a document, `options` for a configuration, `show_config` for a file's trunk.
//! Never: a name server, which is `resolve`'s.
//! Holds: what passed `check` makes a configuration.

use serde_json::{Map, Value, json};
use shared::config::TrunkConfig;
use shared::document::{Fields, FlawKind, Flaws};
use shared::net::Transport;
use shared::settings::ClientFiles;
use shared::trunk_options::{
    CODECS_PER_TRUNK_MAX, OutboundProxy, TrunkMedia, TrunkOptions, external_addresses, goes_beside,
    odd_codec,
};

use super::written;

const FLAGS: [&str; 2] = ["trusted", "remote_party_id"];
pub(super) const FIELDS: [&str; 5] =
    ["trusted", "remote_party_id", "codec", "external_ip", "media_mode"];

/// Files are for whoever has the machine, and so is whom a certificate makes a trunk of.
const OF_FILES: [&str; 3] = ["tls_certificate", "tls_private_key", "inbound_tls_names"];

/// What the document says of these, as columns. `outbound_proxy` is read with the other texts.
pub(super) fn read(fields: &mut Fields<'_>, flaws: &mut Flaws) -> Map<String, Value> {
    let mut columns = Map::new();
    for field in FLAGS {
        let flag = fields.flag(field, flaws);
        columns.extend(flag.map(|flag| (field.to_owned(), flag.into())));
    }
    let codecs = fields.texts("codec", flaws).filter(|codecs| !codecs.is_empty());
    columns.extend(codecs.map(|codecs| ("codec".to_owned(), json!(codecs))));
    let external = fields.word("external_ip", flaws);
    columns.extend(external.map(|text| ("external_ip".to_owned(), text.into())));
    let mode = fields.choice("media_mode", &TrunkMedia::WORDS, flaws);
    columns.extend(mode.map(|word| ("media_mode".to_owned(), word.into())));
    for field in OF_FILES {
        if fields.value(field).is_some_and(|value| *value != json!([])) {
            let text = "only a trunk of a configuration file can have it";
            flaws.push(fields.path(field), FlawKind::Invalid, text);
        }
    }
    columns
}

pub(super) fn check(columns: &Map<String, Value>, fields: &Fields<'_>, flaws: &mut Flaws) {
    match options(columns) {
        Err((field, reason)) => flaws.push(fields.path(field), FlawKind::Invalid, reason),
        Ok((options, _)) if !options.trusted && flag(columns, "remote_party_id") => {
            let text = "without trusted it is not used";
            flaws.push(fields.path("remote_party_id"), FlawKind::NotUsed, text);
        }
        Ok(_) => {}
    }
}

/// The field that is wrong, and how.
type Wrong = (&'static str, String);

pub(super) fn options(
    columns: &Map<String, Value>,
) -> Result<(TrunkOptions, Option<OutboundProxy>), Wrong> {
    let text = |name: &str| columns.get(name).and_then(Value::as_str);
    let named = text("sip_transport").map(|word| match word {
        "tls" => Transport::Tls,
        "tcp" => Transport::Tcp,
        _ => Transport::Udp,
    });
    let proxy = text("outbound_proxy").map(|text| OutboundProxy::parse(text, named)).transpose();
    let proxy = proxy.map_err(|reason| ("outbound_proxy", reason))?;
    if proxy.is_some() && text("backup_dest").is_some() {
        let reason = "does not go with backup_dest: the proxy finds the way";
        return Err(("outbound_proxy", reason.to_owned()));
    }
    let external = external_addresses(text("external_ip").unwrap_or_default());
    let trusted = flag(columns, "trusted");
    let options = TrunkOptions {
        trusted,
        remote_party_id: trusted && flag(columns, "remote_party_id"),
        codecs: codecs(columns)?,
        external_ip: external.map_err(|reason| ("external_ip", reason))?,
        media: text("media_mode").and_then(TrunkMedia::parse).unwrap_or_default(),
        route: proxy.as_ref().map(|proxy| proxy.route.clone()),
        client_files: None,
        tls_names: Vec::new(),
    };
    Ok((options, proxy))
}

fn flag(columns: &Map<String, Value>, name: &str) -> bool {
    columns.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn codecs(columns: &Map<String, Value>) -> Result<Vec<Box<str>>, Wrong> {
    let written = columns.get("codec").and_then(Value::as_array).into_iter().flatten();
    let names: Vec<&str> = written.filter_map(Value::as_str).collect();
    if names.len() > CODECS_PER_TRUNK_MAX {
        return Err(("codec", format!("has more than {CODECS_PER_TRUNK_MAX} codecs")));
    }
    match names.iter().find_map(|name| odd_codec(name)) {
        Some(reason) => Err(("codec", reason)),
        None => Ok(names.into_iter().filter(|name| !goes_beside(name)).map(Into::into).collect()),
    }
}

/// The same of a trunk that a file defines.
pub(super) fn show_config(trunk: &TrunkConfig) -> Map<String, Value> {
    let options = &trunk.options;
    let external: Vec<String> = options.external_ip.iter().map(ToString::to_string).collect();
    let external = (!external.is_empty()).then(|| external.join(", "));
    let proxy = trunk.outbound_proxy.as_ref();
    let mut map = written(json!({
        "trusted": options.trusted,
        "remote_party_id": options.remote_party_id,
        "codec": options.codecs,
        "external_ip": external,
        "media_mode": match options.media {
            TrunkMedia::Auto => "auto",
            TrunkMedia::PastUs => "bypass",
            TrunkMedia::ThroughUs => "all",
        },
        "outbound_proxy": proxy.map(|proxy| format!("sip:{}", proxy.host)),
    }));
    map.extend(show_tls(options.client_files.as_ref(), &options.tls_names));
    map
}

/// Of a private key not even the file's name is shown: who has its certificate knows where to look.
pub(super) fn show_tls(files: Option<&ClientFiles>, names: &[Box<str>]) -> [(String, Value); 2] {
    let certificate = files.map(|files| files.certificate.display().to_string());
    let [first, .., second] = OF_FILES;
    [(first.to_owned(), certificate.into()), (second.to_owned(), json!(names))]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(value: Value) -> Map<String, Value> {
        value.as_object().cloned().expect("an object")
    }

    #[test]
    fn a_stored_trunk_says_what_a_file_says() {
        let stored = columns(json!({
            "trusted": true, "remote_party_id": true, "codec": ["PCMA", "opus"],
            "external_ip": "192.0.2.1, 2001:db8::1", "media_mode": "none",
            "outbound_proxy": "sip:edge.example;lr", "sip_transport": "tcp",
        }));
        let (options, proxy) = options(&stored).expect("it is right");
        assert!(options.trusted && options.remote_party_id);
        assert_eq!((options.codecs.len(), options.external_ip.len()), (2, 2));
        assert_eq!(options.media, TrunkMedia::PastUs);
        assert_eq!(options.route.as_deref(), Some("<sip:edge.example;transport=tcp;lr>"));
        assert_eq!(proxy.and_then(|proxy| proxy.transport), Some(Transport::Tcp));
        let nothing = super::options(&Map::new()).expect("nothing is right");
        assert_eq!(nothing, (TrunkOptions::default(), None));
    }

    #[test]
    fn what_is_wrong_names_its_field() {
        for (wrong, field) in [
            (json!({ "codec": ["PCMA/8000"] }), "codec"),
            (json!({ "external_ip": "here" }), "external_ip"),
            (json!({ "external_ip": "192.0.2.1, 192.0.2.2" }), "external_ip"),
            (json!({ "outbound_proxy": "sip:me@edge" }), "outbound_proxy"),
            (json!({ "outbound_proxy": "edge", "backup_dest": "sip:b" }), "outbound_proxy"),
        ] {
            let refused = options(&columns(wrong.clone())).expect_err("wrong");
            assert_eq!(refused.0, field, "{wrong}");
        }
    }
}
