//! Trunks as documents: the original's form, field by field.
//! Owns:  the fields of a trunk and what each becomes.
//! Gives: columns from a document, a document from columns, a `TrunkConfig` from columns.
//! Never: a password or the value of a REGISTER header in a document that goes out; a name server, which
//!        is `resolve`'s.
//! Holds: a trunk of the database means what the same trunk in a file means.

use std::time::Duration;

use serde_json::{Map, Value, json};
use shared::config::{HostPort, Origin, TrunkConfig, TrunkSource, is_trunk_name, parse_dest};
use shared::document::{Fields, FlawKind, Flaws, Path};
use shared::net::Transport;
use shared::snapshot::{TrunkDirection, WEIGHT_DEFAULT};

use super::{trunk_headers, trunk_options, trunk_terms, written};
use crate::store::Row;

const TRANSPORTS: [&str; 3] = ["udp", "tcp", "tls"];
const DIRECTIONS: [&str; 3] = ["inbound", "outbound", "bidirectional"];
const STATES: [&str; 4] = ["healthy", "warning", "standby", "offline"];
/// Text for people, kept as it comes.
const TEXTS: [&str; 4] = ["display_name", "carrier", "description", "default_route_label"];
/// JSON for other programs, kept as it comes.
const KEPT: [&str; 4] = ["billing_snapshot", "analytics", "tags", "metadata"];
/// Kept, and without effect so far.
const NOT_USED: [&str; 2] = ["max_call_duration", "did_numbers"];
const READ_ONLY: [&str; 10] = [
    "created_at",
    "defined_at",
    "dependencies",
    "has_password",
    "id",
    "last_health_check_at",
    "source",
    "state",
    "updated_at",
    "warnings",
];

pub(super) fn read(
    document: &Value,
    before: Option<&Row>,
    flaws: &mut Flaws,
) -> Option<Map<String, Value>> {
    let mut fields = Fields::of(document, Path::default(), flaws)?;
    fields.ignore(&READ_ONLY);
    let mut columns = Map::new();
    let mut set = |name: &str, value: Option<Value>| {
        columns.extend(value.map(|value| (name.to_owned(), value)));
    };
    let name = required(&mut fields, "name", "a trunk needs a name", flaws);
    if let Some(name) = name.filter(|name| !is_trunk_name(name)) {
        let text = format!("\"{name}\" must have 1 to 64 letters, digits, - and _");
        flaws.push(fields.path("name"), FlawKind::Invalid, text);
    }
    set("name", name.map(Into::into));
    let server = required(&mut fields, "sip_server", "a trunk needs a server", flaws);
    set("sip_server", server.map(Into::into));
    for field in TEXTS.into_iter().chain([
        "outbound_proxy",
        "auth_username",
        "incoming_from_user_prefix",
        "incoming_to_user_prefix",
    ]) {
        set(field, fields.word(field, flaws).map(Into::into));
    }
    for (field, words) in
        [("sip_transport", &TRANSPORTS[..]), ("direction", &DIRECTIONS), ("status", &STATES)]
    {
        set(field, fields.choice(field, words, flaws).map(Into::into));
    }
    for (field, most) in [
        ("max_cps", 100_000),
        ("max_concurrent", 1_000_000),
        ("max_call_duration", 31_536_000),
        ("utilisation_percent", 1_000),
        ("warning_threshold_percent", 1_000),
        ("register_expires", 604_800),
        ("weight", 1_000_000),
        ("max_ring_time", 3_600),
    ] {
        set(field, fields.int(field, 0..=most, flaws).map(Into::into));
    }
    for field in ["is_active", "register_enabled", "rewrite_hostport"] {
        set(field, fields.flag(field, flaws).map(Into::into));
    }
    for field in ["allowed_ips", "did_numbers"] {
        set(field, fields.texts(field, flaws).map(|texts| json!(texts)));
    }
    for field in KEPT {
        set(field, fields.json(field));
    }
    let headers = fields.json("register_extra_headers");
    set("register_extra_headers", headers.map(|headers| trunk_headers::kept(headers, before)));
    let password = fields.text("auth_password", flaws).filter(|text| !text.is_empty());
    let password = password.or_else(|| before.and_then(|row| row.text("auth_password")));
    set("auth_password", password.map(Into::into));
    columns.extend(trunk_terms::read(&mut fields, flaws));
    columns.extend(trunk_options::read(&mut fields, flaws));
    tenant(&mut fields, flaws);
    fields.not_used(&NOT_USED, flaws);
    if let Some(server) = server {
        check_way(server, &columns, &fields, flaws);
        trunk_terms::check(&columns, &fields, flaws);
        trunk_options::check(&columns, &fields, flaws);
    }
    fields.finish(flaws);
    (!flaws.refuse()).then_some(columns)
}

fn required<'v>(
    fields: &mut Fields<'v>,
    field: &'static str,
    text: &str,
    flaws: &mut Flaws,
) -> Option<&'v str> {
    let before = flaws.0.len();
    let found = fields.word(field, flaws);
    if found.is_none() && flaws.0.len() == before {
        flaws.push(fields.path(field), FlawKind::Required, text);
    }
    found
}

/// There is one tenant; a program that sends none of it along is right.
fn tenant(fields: &mut Fields<'_>, flaws: &mut Flaws) {
    fields.ignore(&["clear_tenant"]);
    if fields.value("tenant_id").is_some() {
        let text = "tenants are not built: leave it out";
        flaws.push(fields.path("tenant_id"), FlawKind::Invalid, text);
    }
}

fn check_way(server: &str, columns: &Map<String, Value>, fields: &Fields<'_>, flaws: &mut Flaws) {
    let transport = columns.get("sip_transport").and_then(Value::as_str);
    if let Err(reason) = way(server, transport) {
        let path = fields.path("sip_server");
        flaws.push_try(path, FlawKind::Invalid, reason, "write \"sip:HOST:PORT\"");
    }
    let sources = columns.get("allowed_ips").and_then(Value::as_array);
    for (place, source) in sources.into_iter().flatten().enumerate() {
        if let Err(reason) = TrunkSource::parse(source.as_str().unwrap_or_default()) {
            flaws.push(fields.path("allowed_ips").place(place), FlawKind::Invalid, reason);
        }
    }
}

pub(super) fn way(
    server: &str,
    transport: Option<&str>,
) -> Result<(HostPort, Option<Transport>), String> {
    let (host, named) = parse_dest(server)?;
    let transport = match transport {
        Some("tls") => Some(Transport::Tls),
        Some("tcp") => Some(Transport::Tcp),
        Some(_) => Some(Transport::Udp),
        None => named,
    };
    Ok((host, transport))
}

pub(super) fn show(row: &Row) -> Map<String, Value> {
    let mut shown = row.fields.clone();
    let has_password = shown.remove("auth_password").is_some();
    if let Some(headers) = shown.get_mut("register_extra_headers") {
        trunk_headers::mask(headers);
    }
    let others = ["outbound_proxy", "auth_username", "max_concurrent"];
    let terms = trunk_terms::FIELDS.into_iter().chain(trunk_options::FIELDS);
    for field in TEXTS.into_iter().chain(others).chain(terms) {
        shown.entry(field).or_insert(Value::Null);
    }
    for field in ["allowed_ips", "did_numbers", "tags"] {
        shown.entry(field).or_insert_with(|| json!([]));
    }
    shown.extend(trunk_options::show_tls(None, &[]));
    shown.entry("direction").or_insert_with(|| "bidirectional".into());
    shown.entry("is_active").or_insert(Value::Bool(true));
    shown.insert("has_password".to_owned(), has_password.into());
    shown
}

/// A trunk that a file defines, in the same shape.
pub(super) fn show_config(trunk: &TrunkConfig) -> Map<String, Value> {
    let sources = trunk.inbound.iter().map(|source| match source {
        TrunkSource::Host(host) => host.to_string(),
        TrunkSource::Network(network) => network.to_string(),
    });
    let mut shown = written(json!({
        "name": trunk.name,
        "display_name": null,
        "sip_server": format!("sip:{}", trunk.dest),
        "sip_transport": trunk.transport.unwrap_or(Transport::Udp).uri_word(),
        "direction": match trunk.direction {
            TrunkDirection::Both => "bidirectional",
            TrunkDirection::Inbound => "inbound",
            TrunkDirection::Outbound => "outbound",
        },
        "allowed_ips": sources.collect::<Vec<_>>(),
        "max_concurrent": trunk.max_calls,
        "max_cps": trunk.max_cps,
        "incoming_from_user_prefix": trunk.from_prefix,
        "incoming_to_user_prefix": trunk.to_prefix,
        "is_active": trunk.enabled,
        "rewrite_hostport": trunk.rewrite_host,
        "weight": trunk.weight,
        "max_ring_time": trunk.max_ring.map(|time| time.as_secs()),
    }));
    shown.extend(trunk_terms::show_config(trunk));
    shown.extend(trunk_options::show_config(trunk));
    shown
}

/// The same that a file would say. The error says what cannot be read any more.
pub(super) fn config(columns: &Map<String, Value>) -> Result<TrunkConfig, String> {
    let text = |name: &str| columns.get(name).and_then(Value::as_str);
    let flag = |name: &str| columns.get(name).and_then(Value::as_bool);
    let name = text("name").ok_or("has no name")?.to_owned();
    let server = text("sip_server").ok_or("has no sip_server")?;
    let (dest, transport) = way(server, text("sip_transport"))?;
    let sources = columns.get("allowed_ips").and_then(Value::as_array);
    let sources = sources.into_iter().flatten().filter_map(Value::as_str);
    let inbound = sources.map(TrunkSource::parse).collect::<Result<_, _>>()?;
    let small = |field: &str| {
        columns.get(field).and_then(Value::as_i64).and_then(|number| u32::try_from(number).ok())
    };
    let prefix = |field: &str| text(field).map(str::to_owned);
    let (options, outbound_proxy) =
        trunk_options::options(columns).unwrap_or_else(|(field, reason)| {
            // Rows of before these were built may say anything there; new ones are checked.
            tracing::warn!(trunk = text("name"), field, reason, "its options are not used");
            Default::default()
        });
    Ok(TrunkConfig {
        name,
        dest,
        transport,
        backup: trunk_terms::backup(columns)?,
        inbound,
        max_calls: small("max_concurrent").filter(|most| *most > 0),
        max_cps: small("max_cps").filter(|most| *most > 0),
        enabled: flag("is_active").unwrap_or(true),
        direction: match text("direction") {
            Some("inbound") => TrunkDirection::Inbound,
            Some("outbound") => TrunkDirection::Outbound,
            _ => TrunkDirection::Both,
        },
        from_prefix: prefix("incoming_from_user_prefix"),
        to_prefix: prefix("incoming_to_user_prefix"),
        weight: small("weight").unwrap_or(WEIGHT_DEFAULT),
        rewrite_host: flag("rewrite_hostport").unwrap_or(true),
        max_ring: small("max_ring_time")
            .filter(|seconds| *seconds > 0)
            .map(|seconds| Duration::from_secs(seconds.into())),
        failover: trunk_terms::failover(columns)?,
        health: trunk_terms::health(columns),
        account: trunk_terms::account(columns).unwrap_or_else(|(field, reason)| {
            // Rows of before registration was built may say anything there; new ones are checked.
            tracing::warn!(trunk = text("name"), field, reason, "its account is not used");
            None
        }),
        options,
        outbound_proxy,
        origin: Origin::Default,
    })
}
