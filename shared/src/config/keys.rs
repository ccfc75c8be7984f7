//! Every key that a configuration may have, and what we do with it.
//! Owns:  the list of keys that we use; the vocabulary of `original` (keys accepted, not used yet).
//! Gives: `Key` by pattern; patterns have `*` for any name and `[]` for any list place.
//! Never: a check that needs two keys; those live with the section.
//! Holds: a key is in one of the two lists, once.

use self::Kind::{Bool, Int, Tables, Text, TextOrTexts, Texts, Word};
use self::Use::{Reload, Start};
use super::original;
use crate::forwarding::{MODES, Redirects};

/// What a value must look like before serde sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Anything, tables included: what is below is not looked at.
    Any,
    Bool,
    Int(i64, i64),
    /// A whole number or one with a fraction.
    Number,
    /// A list of tables.
    Tables,
    Text,
    /// One text or a list of them.
    TextOrTexts,
    Texts,
    /// One of these words.
    Word(&'static [&'static str]),
}

/// What becomes of a value, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Accepted, does nothing yet.
    NotYet,
    /// The same, and somebody may rely on it: it protects, limits, or decides.
    NotYetWatchOut,
    /// SIGHUP brings it live.
    Reload,
    /// Read at start.
    Start,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub(super) pattern: &'static str,
    pub(super) kind: Kind,
    pub(super) role: Use,
    /// As it would be written in the file; empty when there is none.
    pub(super) default: &'static str,
}

pub(super) const fn key(
    pattern: &'static str,
    kind: Kind,
    role: Use,
    default: &'static str,
) -> Key {
    Key { pattern, kind, role, default }
}

const PORT: Kind = Int(0, 65_535);
const CAP: Kind = Int(0, 10_000_000);

/// The keys that do something, in the order in which `--effective` prints them.
pub(super) const USED: &[Key] = &[
    key("http_addr", Text, Start, "\"127.0.0.1:8080\""),
    key("external_ip", Text, Start, ""),
    key("rtp_start_port", Int(1_024, 65_535), Start, "12000"),
    key("rtp_end_port", Int(1_024, 65_535), Start, "42000"),
    key("data_dir", Text, Start, "\"./data\""),
    key("database_url", Text, Start, "\"sqlite://./data/ringgate.sqlite3\""),
    key("database_pool.max_connections", Int(2, 1_000), Start, "16"),
    key("database_pool.min_connections", Int(0, 1_000), Start, "0"),
    key("database_pool.acquire_timeout_secs", Int(1, 300), Start, "10"),
    key("database_pool.idle_timeout_secs", Int(1, 86_400), Start, "600"),
    key("database_pool.max_lifetime_secs", Int(1, 604_800), Start, "1800"),
    key("log_level", Text, Start, "\"info\""),
    key("log_file", Text, Start, ""),
    key("ssl_certificate", Text, Reload, ""),
    key("ssl_private_key", Text, Reload, ""),
    key("proxy.addr", Text, Start, ""),
    key("proxy.udp_port", PORT, Start, "5060"),
    key("proxy.udp_ports", Kind::Any, Start, "[]"),
    key("proxy.tcp_port", PORT, Start, "5060"),
    key("proxy.tls_port", PORT, Start, "0"),
    key("proxy.ssl_certificate", Text, Reload, ""),
    key("proxy.ssl_private_key", Text, Reload, ""),
    key("proxy.tls_ca_certificates", TextOrTexts, Reload, ""),
    key("proxy.tls_client_ca_certificates", TextOrTexts, Reload, ""),
    key("proxy.ws_port", PORT, Start, "0"),
    key("proxy.wss_port", PORT, Start, "0"),
    key("proxy.ws_handler", Text, Start, "\"/ws\""),
    key("proxy.realms", Texts, Start, "[]"),
    key("proxy.digest_algorithms", Texts, Start, "[\"MD5\", \"SHA-256\"]"),
    key("proxy.modules", Texts, Start, "[\"auth\", \"registrar\", \"call\"]"),
    key("proxy.useragent", Text, Start, ""),
    key("proxy.registrar_expires", Int(1, 86_400), Start, "3600"),
    key("proxy.max_registrar_expires", Int(1, 604_800), Start, "7200"),
    key("proxy.max_ring_time", Int(0, 3_600), Start, "60"),
    key("proxy.rtp_timeout", Int(0, 86_400), Start, "60"),
    key("proxy.t1_timer", Int(100, 10_000), Start, "500"),
    key("proxy.session_timer", Bool, Start, "false"),
    key("proxy.session_timer_always", Bool, Start, "false"),
    key("proxy.session_expires", Int(0, 86_400), Start, "600"),
    key("proxy.media_proxy", Word(&["auto", "all", "none", "nat", "bypass"]), Start, "\"auto\""),
    key("proxy.enable_latching", Bool, Start, "true"),
    key("proxy.latching_probation_max_packets", Int(1, 100), Start, "6"),
    key("proxy.ami_path", Text, Start, "\"/ami/v1\""),
    key("proxy.http_router.url", Text, Reload, ""),
    key("proxy.http_router.timeout_ms", Int(50, 60_000), Reload, ""),
    key("proxy.http_router.fallback_to_static", Bool, Reload, ""),
    key("proxy.http_router.headers.*", Text, Reload, ""),
    key("proxy.locator_webhook.url", Text, Reload, ""),
    key("proxy.locator_webhook.events", Texts, Reload, ""),
    key("proxy.locator_webhook.headers.*", Text, Reload, ""),
    key("proxy.locator_webhook.timeout_ms", Int(1_000, 60_000), Reload, ""),
    key("proxy.user_backends", Tables, Reload, "[{ type = \"extension\" }]"),
    key(
        "proxy.user_backends[].type",
        Word(&["memory", "database", "extension", "http", "plain"]),
        Reload,
        "",
    ),
    key("proxy.user_backends[].url", Text, Reload, ""),
    key("proxy.user_backends[].database_url", Text, Reload, ""),
    key("proxy.user_backends[].path", Text, Reload, ""),
    key("proxy.user_backends[].method", Text, Reload, "\"GET\""),
    key("proxy.user_backends[].username_field", Text, Reload, "\"username\""),
    key("proxy.user_backends[].realm_field", Text, Reload, "\"realm\""),
    key("proxy.user_backends[].request_uri_field", Text, Reload, ""),
    key("proxy.user_backends[].headers.*", Text, Reload, ""),
    key("proxy.user_backends[].sip_headers", Texts, Reload, "[]"),
    key("proxy.user_backends[].http_timeout_ms", Int(50, 60_000), Reload, "5000"),
    key("proxy.user_backends[].http_retry_count", Int(0, 10), Reload, "1"),
    key("proxy.user_backends[].http_retry_delay_ms", Int(0, 10_000), Reload, "500"),
    key("proxy.user_backends[].ttl", Int(0, 86_400), Reload, "5"),
    key("proxy.user_backends[].cache_ttl_secs", Int(0, 86_400), Reload, "5"),
    key("proxy.user_backends[].negative_cache_ttl_secs", Int(0, 86_400), Reload, "5"),
    key("proxy.user_backends[].max_concurrent", Int(1, 1_000), Reload, "64"),
    key("proxy.user_backends[].table_name", Text, Reload, "\"users\""),
    key("proxy.user_backends[].username_column", Text, Reload, "\"username\""),
    key("proxy.user_backends[].password_column", Text, Reload, "\"password\""),
    key("proxy.user_backends[].enabled_column", Text, Reload, ""),
    key("proxy.user_backends[].realm_column", Text, Reload, ""),
    key("proxy.user_backends[].users", Tables, Reload, ""),
    key("proxy.user_backends[].users[].username", Text, Reload, ""),
    key("proxy.user_backends[].users[].password", Text, Reload, ""),
    key("proxy.user_backends[].users[].ha1", Text, Reload, ""),
    key("proxy.user_backends[].users[].ha1_sha256", Text, Reload, ""),
    key("proxy.user_backends[].users[].ha1_sha512_256", Text, Reload, ""),
    key("proxy.user_backends[].users[].realm", Text, Reload, ""),
    key("proxy.user_backends[].users[].display_name", Text, Reload, ""),
    key("proxy.user_backends[].users[].enabled", Bool, Reload, "true"),
    key("proxy.user_backends[].users[].allow_guest_calls", Bool, Reload, "false"),
    key("proxy.user_backends[].users[].call_forwarding_mode", Word(&MODES), Reload, "\"none\""),
    key("proxy.user_backends[].users[].call_forwarding_destination", Text, Reload, ""),
    key("proxy.user_backends[].users[].call_forwarding_timeout", Int(5, 120), Reload, "30"),
    key("proxy.trunks.*.dest", Text, Reload, ""),
    key("proxy.trunks.*.backup_dest", Text, Reload, ""),
    key("proxy.trunks.*.username", Text, Reload, ""),
    key("proxy.trunks.*.password", Text, Reload, ""),
    key("proxy.trunks.*.auth_username", Text, Reload, ""),
    key("proxy.trunks.*.realm", Text, Reload, ""),
    key("proxy.trunks.*.register_enabled", Bool, Reload, "false"),
    key("proxy.trunks.*.register_expires", Int(10, 604_800), Reload, "3600"),
    key("proxy.trunks.*.register_extra_headers.*", Text, Reload, ""),
    key("proxy.trunks.*.failover_codes", Texts, Reload, ""),
    key("proxy.trunks.*.setup_timeout_ms", Int(500, 32_000), Reload, "5000"),
    key("proxy.trunks.*.health_check_enabled", Bool, Reload, "false"),
    key("proxy.trunks.*.health_check_interval_secs", Int(1, 3_600), Reload, "30"),
    key("proxy.trunks.*.health_check_probe_count", Int(1, 100), Reload, "3"),
    key("proxy.trunks.*.health_check_recovery_count", Int(1, 100), Reload, "2"),
    key("proxy.trunks.*.health_check_timeout_ms", Int(500, 32_000), Reload, "3000"),
    key("proxy.trunks.*.transport", Word(&["udp", "tcp", "tls"]), Reload, "\"udp\""),
    key("proxy.trunks.*.inbound_hosts", Texts, Reload, "[]"),
    key("proxy.trunks.*.max_calls", Int(1, 1_000_000), Reload, ""),
    key("proxy.trunks.*.max_cps", Int(0, 100_000), Reload, ""),
    key("proxy.trunks.*.disabled", Bool, Reload, "false"),
    key("proxy.trunks.*.weight", Int(0, 1_000_000), Reload, "100"),
    key(
        "proxy.trunks.*.direction",
        Word(&["inbound", "outbound", "bidirectional"]),
        Reload,
        "\"bidirectional\"",
    ),
    key("proxy.trunks.*.incoming_from_user_prefix", Text, Reload, ""),
    key("proxy.trunks.*.incoming_to_user_prefix", Text, Reload, ""),
    key("proxy.trunks.*.rewrite_hostport", Bool, Reload, "true"),
    key("proxy.trunks.*.max_ring_time", Int(0, 3_600), Reload, ""),
    key("proxy.trunks.*.trusted", Bool, Reload, "false"),
    key("proxy.trunks.*.remote_party_id", Bool, Reload, "false"),
    key("proxy.trunks.*.codec", TextOrTexts, Reload, "[]"),
    key("proxy.trunks.*.external_ip", Text, Reload, ""),
    key("proxy.trunks.*.media_mode", Text, Reload, "\"auto\""),
    key("proxy.trunks.*.outbound_proxy", Text, Reload, ""),
    key("proxy.trunks.*.tls_certificate", Text, Reload, ""),
    key("proxy.trunks.*.tls_private_key", Text, Reload, ""),
    key("proxy.trunks.*.inbound_tls_names", Texts, Reload, "[]"),
    key("proxy.acl_rules", Texts, Reload, "[]"),
    key("proxy.acl_files", Texts, Reload, "[]"),
    key("proxy.dos_enabled", Bool, Reload, "false"),
    key("proxy.dos_max_cps_per_ip", Int(1, 1_000_000), Reload, "100"),
    key("proxy.dos_max_concurrent_per_ip", Int(1, 1_000_000), Reload, "500"),
    key("proxy.dos_scan_probe_threshold", Int(0, 1_000_000), Reload, "50"),
    key("proxy.dos_scan_block_duration_secs", Int(0, 604_800), Reload, "600"),
    key("proxy.ua_black_list", Texts, Reload, "[]"),
    key("proxy.ua_white_list", Texts, Reload, "[]"),
    key("proxy.max_concurrency", Int(1, 1_000_000), Reload, ""),
    key("proxy.uri_max_length", Int(64, 8_192), Reload, ""),
    key("proxy.uri_reject_malformed", Bool, Reload, "true"),
    key("proxy.trunks_files", Texts, Reload, "[]"),
    key("proxy.routes", Tables, Reload, "[]"),
    key("proxy.routes_files", Texts, Reload, "[]"),
    key("proxy.follow_redirects", Word(&Redirects::WORDS), Reload, "\"none\""),
    key("proxy.emergency.enabled", Bool, Reload, "false"),
    key("proxy.emergency.numbers", Texts, Reload, "[]"),
    key("proxy.emergency.emergency_trunk", Text, Reload, ""),
    key("proxy.toll_fraud.enabled", Bool, Reload, "false"),
    key("proxy.toll_fraud.country", Text, Reload, ""),
    key("proxy.toll_fraud.international_prefixes", Texts, Reload, "[\"+\", \"00\"]"),
    key("proxy.toll_fraud.allowed_destination_countries", Texts, Reload, "[]"),
    key("proxy.toll_fraud.premium_prefixes", Texts, Reload, ""),
    key("proxy.toll_fraud.extension.max_calls", CAP, Reload, "0"),
    key("proxy.toll_fraud.extension.max_international", CAP, Reload, "2"),
    key("proxy.toll_fraud.extension.calls_per_minute", Int(0, 10_000), Reload, "5"),
    key("proxy.toll_fraud.extension.daily_limit", CAP, Reload, "0"),
    key("proxy.toll_fraud.extension.daily_minutes", CAP, Reload, "0"),
    key("proxy.toll_fraud.trunk.max_international", CAP, Reload, "0"),
    key("proxy.toll_fraud.trunk.calls_per_minute", Int(0, 10_000), Reload, "0"),
    key("proxy.toll_fraud.trunk.daily_limit", CAP, Reload, "0"),
    key("proxy.toll_fraud.trunk.daily_minutes", CAP, Reload, "0"),
    key("recording.enabled", Bool, Start, "false"),
    key("recording.auto_start", Bool, Start, "true"),
    key("recording.path", Text, Start, "\"./data/recordings\""),
    key("recording.type", Word(&["local", "http", "s3", "sipflow"]), Start, "\"local\""),
    key("recording.url", Text, Start, ""),
    key("recording.headers.*", Text, Start, ""),
    key("recording.timeout_ms", Int(1_000, 3_600_000), Start, "60000"),
    key("recording.bucket", Text, Start, ""),
    key("recording.region", Text, Start, "\"us-east-1\""),
    key("recording.endpoint", Text, Start, ""),
    key("recording.access_key", Text, Start, ""),
    key("recording.secret_key", Text, Start, ""),
    key("recording.root", Text, Start, ""),
    key("recording.path_style", Bool, Start, ""),
    key("recording.keep_media_copy", Bool, Start, "false"),
    key("recording.keep_days", Int(0, 36_500), Start, "0"),
    key("recording.keep_bytes", Int(0, i64::MAX), Start, "0"),
    key("recording.disk_warn_percent", Int(1, 100), Start, "80"),
    key("recording.disk_high_percent", Int(1, 100), Start, "90"),
    key("recording.disk_full_percent", Int(1, 100), Start, "95"),
    key("recording.on_disk_full", Word(&["continue", "reject"]), Start, "\"continue\""),
    key("callrecord.type", Word(&["local", "http", "s3", "database"]), Start, ""),
    key("callrecord.bucket", Text, Start, ""),
    key("callrecord.region", Text, Start, "\"us-east-1\""),
    key("callrecord.endpoint", Text, Start, ""),
    key("callrecord.access_key", Text, Start, ""),
    key("callrecord.secret_key", Text, Start, ""),
    key("callrecord.root", Text, Start, ""),
    key("callrecord.path_style", Bool, Start, ""),
    key("callrecord.url", Text, Reload, ""),
    key("callrecord.headers.*", Text, Reload, ""),
    key("callrecord.with_media", Bool, Reload, "false"),
    key("callrecord.timeout_ms", Int(1_000, 120_000), Reload, ""),
    key("dns.servers", Texts, Start, ""),
    key("sipflow.enabled", Bool, Start, "true"),
    key("sipflow.type", Word(&["local", "remote"]), Start, "\"local\""),
    key("sipflow.root", Text, Start, "\"./data/sipflow\""),
    key("sipflow.max_size_mb", Int(64, 1_048_576), Start, "1024"),
    key("sipflow.ttl_secs", Int(3_600, 315_360_000), Start, "604800"),
    key("ami.allows", Texts, Reload, "[\"127.0.0.1\", \"::1\"]"),
    key("console.base_path", Text, Start, "\"/console\""),
    key("console.api_prefix", Text, Start, "\"/api\""),
    key("console.api_tokens", Tables, Reload, "[]"),
    key("console.api_tokens[].token", Text, Reload, ""),
    key("console.api_tokens[].scopes", Texts, Reload, "[]"),
    key("console.secure_cookie", Bool, Start, "false"),
    key("metrics.token", Text, Start, ""),
    key("dataplane.cores", Text, Start, "\"auto\""),
    key("dataplane.control_cores", Text, Start, "\"rest\""),
    key("dataplane.media_lock", Word(&["strict", "relearn", "off"]), Start, "\"strict\""),
    key("dataplane.journal_segment_mb", Int(1, 1_024), Start, "16"),
    key("dataplane.journal_front", Text, Start, "\"auto\""),
    key("dataplane.fast_path", Word(&["auto", "ring", "off", "ebpf"]), Start, "\"auto\""),
    key("webhooks.secret", TextOrTexts, Reload, ""),
];

pub(super) fn all() -> impl Iterator<Item = &'static Key> {
    USED.iter().chain(original::NOT_YET)
}

/// Whether a value under this key may be a secret: it is masked wherever it is shown.
pub(super) fn is_secret(key: &str) -> bool {
    const WORDS: [&str; 7] =
        ["access_key", "api_key", "credential", "ha1", "password", "secret", "token"];
    let last = key.rsplit('.').next().unwrap_or(key);
    WORDS.iter().any(|word| last.contains(word)) || key.contains("headers.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_key_is_listed_twice() {
        let mut seen = HashSet::new();
        for key in all() {
            assert!(seen.insert(key.pattern), "{} is listed twice", key.pattern);
        }
    }

    #[test]
    fn secrets_are_known_by_their_name() {
        for key in [
            "proxy.user_backends[0].users[1].password",
            "proxy.user_backends[0].users[1].ha1_sha256",
            "console.api_tokens[0].token",
            "console.session_secret",
            "callrecord.secret_key",
            "proxy.http_router.headers.X-API-Key",
            "proxy.trunks.carrier.password",
            "proxy.trunks.carrier.register_extra_headers.X-Key",
        ] {
            assert!(is_secret(key), "{key}");
        }
        assert!(!is_secret("proxy.trunks.carrier.dest"));
        assert!(!is_secret("console.api_tokens[0].scopes"));
    }
}
