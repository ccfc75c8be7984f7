//! The file form: what the configuration says, key by key, before anything is believed.
//! Owns:  one serde struct per section; every key optional.
//! Gives: typed values for the checks of `sections`, `users`, `trunks`.
//! Never: a default, a check of meaning. Kinds and unknown keys are `rules`' work.
//! Holds: deserializing a tree that passed `rules` does not fail.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use super::deciders::HttpRouterFile;
use super::events::LocatorWebhookFile;
use super::tls::Paths;
use super::toll::TollFile;
use super::trunk_options::TrunkOptionsFile;
use super::webhooks::WebhooksFile;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ConfigFile {
    pub(super) http_addr: Option<String>,
    pub(super) external_ip: Option<String>,
    pub(super) rtp_start_port: Option<u16>,
    pub(super) rtp_end_port: Option<u16>,
    #[serde(rename = "data_dir")]
    pub(super) folder: Option<String>,
    pub(super) database_url: Option<SecretText>,
    pub(super) database_pool: PoolFile,
    pub(super) log_level: Option<String>,
    pub(super) log_file: Option<String>,
    pub(super) ssl_certificate: Option<String>,
    pub(super) ssl_private_key: Option<String>,
    pub(super) proxy: ProxyFile,
    pub(super) recording: RecordingFile,
    pub(super) callrecord: CallRecordFile,
    pub(super) ami: AmiFile,
    pub(super) console: ConsoleFile,
    pub(super) metrics: MetricsFile,
    pub(super) dataplane: DataplaneFile,
    pub(super) sipflow: SipFlowFile,
    pub(super) dns: DnsFile,
    pub(super) webhooks: WebhooksFile,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PoolFile {
    pub(super) max_connections: Option<u32>,
    pub(super) min_connections: Option<u32>,
    pub(super) acquire_timeout_secs: Option<u64>,
    pub(super) idle_timeout_secs: Option<u64>,
    pub(super) max_lifetime_secs: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ProxyFile {
    pub(super) addr: Option<String>,
    pub(super) udp_port: Option<u16>,
    pub(super) udp_ports: Option<toml::Value>,
    pub(super) tcp_port: Option<u16>,
    pub(super) tls_port: Option<u16>,
    pub(super) ssl_certificate: Option<String>,
    pub(super) ssl_private_key: Option<String>,
    pub(super) tls_ca_certificates: Option<Paths>,
    pub(super) tls_client_ca_certificates: Option<Paths>,
    pub(super) ws_port: Option<u16>,
    pub(super) wss_port: Option<u16>,
    pub(super) ws_handler: Option<String>,
    pub(super) realms: Option<Vec<String>>,
    pub(super) digest_algorithms: Option<Vec<String>>,
    pub(super) modules: Option<Vec<String>>,
    pub(super) useragent: Option<String>,
    pub(super) registrar_expires: Option<u32>,
    pub(super) max_registrar_expires: Option<u32>,
    pub(super) max_ring_time: Option<u64>,
    pub(super) rtp_timeout: Option<u64>,
    pub(super) t1_timer: Option<u64>,
    pub(super) session_timer: bool,
    pub(super) session_timer_always: bool,
    pub(super) session_expires: Option<u32>,
    pub(super) media_proxy: Option<String>,
    pub(super) enable_latching: Option<bool>,
    pub(super) latching_probation_max_packets: Option<u8>,
    pub(super) ami_path: Option<String>,
    pub(super) http_router: Option<HttpRouterFile>,
    pub(super) locator_webhook: Option<LocatorWebhookFile>,
    pub(super) user_backends: Option<Vec<BackendFile>>,
    pub(super) acl_rules: Option<Vec<String>>,
    pub(super) dos_enabled: bool,
    pub(super) dos_max_cps_per_ip: Option<u32>,
    pub(super) dos_max_concurrent_per_ip: Option<u32>,
    pub(super) dos_scan_probe_threshold: Option<u32>,
    pub(super) dos_scan_block_duration_secs: Option<u64>,
    pub(super) ua_black_list: Option<Vec<String>>,
    pub(super) ua_white_list: Option<Vec<String>>,
    pub(super) max_concurrency: Option<usize>,
    pub(super) uri_max_length: Option<usize>,
    pub(super) uri_reject_malformed: Option<bool>,
    pub(super) trunks: BTreeMap<String, TrunkFile>,
    pub(super) routes: Option<Vec<toml::Value>>,
    pub(super) emergency: EmergencyFile,
    pub(super) follow_redirects: Option<String>,
    pub(super) toll_fraud: Option<TollFile>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct BackendFile {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) users: Vec<UserFile>,
    pub(super) url: Option<SecretText>,
    pub(super) database_url: Option<SecretText>,
    pub(super) path: Option<String>,
    pub(super) method: Option<String>,
    pub(super) username_field: Option<String>,
    pub(super) realm_field: Option<String>,
    pub(super) request_uri_field: Option<String>,
    pub(super) headers: BTreeMap<String, SecretText>,
    pub(super) sip_headers: Vec<String>,
    pub(super) http_timeout_ms: Option<u64>,
    pub(super) http_retry_count: Option<u32>,
    pub(super) http_retry_delay_ms: Option<u64>,
    pub(super) ttl: Option<u64>,
    pub(super) cache_ttl_secs: Option<u64>,
    pub(super) negative_cache_ttl_secs: Option<u64>,
    pub(super) max_concurrent: Option<u16>,
    pub(super) table_name: Option<String>,
    pub(super) username_column: Option<String>,
    pub(super) password_column: Option<String>,
    pub(super) enabled_column: Option<String>,
    pub(super) realm_column: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct UserFile {
    pub(super) username: Option<String>,
    pub(super) password: Option<SecretText>,
    pub(super) ha1: Option<SecretText>,
    pub(super) ha1_sha256: Option<SecretText>,
    pub(super) ha1_sha512_256: Option<SecretText>,
    pub(super) realm: Option<String>,
    pub(super) display_name: Option<String>,
    pub(super) enabled: Option<bool>,
    pub(super) allow_guest_calls: Option<bool>,
    pub(super) call_forwarding_mode: Option<String>,
    pub(super) call_forwarding_destination: Option<String>,
    pub(super) call_forwarding_timeout: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TrunkFile {
    pub(super) dest: Option<String>,
    pub(super) backup_dest: Option<String>,
    pub(super) username: Option<String>,
    pub(super) password: Option<SecretText>,
    pub(super) auth_username: Option<String>,
    pub(super) realm: Option<String>,
    pub(super) register_enabled: Option<bool>,
    pub(super) register_expires: Option<u64>,
    pub(super) register_extra_headers: BTreeMap<String, SecretText>,
    pub(super) failover_codes: Option<Vec<String>>,
    pub(super) setup_timeout_ms: Option<u64>,
    pub(super) health_check_enabled: Option<bool>,
    pub(super) health_check_interval_secs: Option<u64>,
    pub(super) health_check_probe_count: Option<u32>,
    pub(super) health_check_recovery_count: Option<u32>,
    pub(super) health_check_timeout_ms: Option<u64>,
    pub(super) transport: Option<String>,
    pub(super) inbound_hosts: Vec<String>,
    pub(super) max_calls: Option<u32>,
    pub(super) max_cps: Option<u32>,
    pub(super) disabled: Option<bool>,
    pub(super) weight: Option<u32>,
    pub(super) direction: Option<String>,
    pub(super) incoming_from_user_prefix: Option<String>,
    pub(super) incoming_to_user_prefix: Option<String>,
    pub(super) rewrite_hostport: Option<bool>,
    pub(super) max_ring_time: Option<u64>,
    #[serde(flatten)]
    pub(super) options: TrunkOptionsFile,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct EmergencyFile {
    pub(super) enabled: Option<bool>,
    pub(super) numbers: Option<Vec<String>>,
    pub(super) emergency_trunk: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RecordingFile {
    pub(super) enabled: Option<bool>,
    pub(super) auto_start: Option<bool>,
    pub(super) path: Option<String>,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) url: Option<SecretText>,
    pub(super) headers: BTreeMap<String, SecretText>,
    pub(super) timeout_ms: Option<u64>,
    pub(super) keep_media_copy: Option<bool>,
    pub(super) keep_days: Option<u64>,
    pub(super) keep_bytes: Option<u64>,
    pub(super) disk_warn_percent: Option<u8>,
    pub(super) disk_high_percent: Option<u8>,
    pub(super) disk_full_percent: Option<u8>,
    pub(super) on_disk_full: Option<String>,
    #[serde(flatten)]
    pub(super) s3: S3File,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CallRecordFile {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) url: Option<SecretText>,
    pub(super) headers: BTreeMap<String, SecretText>,
    pub(super) with_media: Option<bool>,
    pub(super) timeout_ms: Option<u64>,
    #[serde(flatten)]
    pub(super) s3: S3File,
}

/// What `[recording]` and `[callrecord]` say about a bucket; `root` is a folder for type local.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct S3File {
    pub(super) bucket: Option<String>,
    pub(super) region: Option<String>,
    pub(super) endpoint: Option<String>,
    pub(super) access_key: Option<SecretText>,
    pub(super) secret_key: Option<SecretText>,
    pub(super) root: Option<String>,
    pub(super) path_style: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AmiFile {
    pub(super) allows: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ConsoleFile {
    pub(super) base_path: Option<String>,
    pub(super) api_prefix: Option<String>,
    pub(super) api_tokens: Vec<TokenFile>,
    pub(super) secure_cookie: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TokenFile {
    pub(super) token: Option<SecretText>,
    pub(super) scopes: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct MetricsFile {
    pub(super) token: Option<SecretText>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct DataplaneFile {
    pub(super) cores: Option<String>,
    pub(super) control_cores: Option<String>,
    pub(super) media_lock: Option<String>,
    pub(super) fast_path: Option<String>,
    pub(super) journal_segment_mb: Option<u16>,
    pub(super) journal_front: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct DnsFile {
    pub(super) servers: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SipFlowFile {
    pub(super) enabled: Option<bool>,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) root: Option<String>,
    pub(super) max_size_mb: Option<u64>,
    pub(super) ttl_secs: Option<u64>,
}

/// Text that `Debug` does not show.
#[derive(Clone, Default, Deserialize, PartialEq, Eq)]
#[serde(transparent)]
pub(super) struct SecretText(String);

impl SecretText {
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(...)")
    }
}
