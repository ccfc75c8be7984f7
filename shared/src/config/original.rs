//! Keys of the original's configuration, and ours of later issues, that are accepted and not used yet.
//! Owns:  `NOT_YET`, so that nothing which somebody wrote is silently ignored.
//! Gives: keys with the kind they must have; `NotYetWatchOut` where somebody may rely on the effect.
//! Never: a key that does something; it moves to `keys::USED` with the code that uses it.
//! Holds: a key that no program ever read is listed too: a file of the original has it.

use super::keys::Kind::{Any, Bool, Int, Number, Text, Texts};
use super::keys::Use::{NotYet, NotYetWatchOut};
use super::keys::{Key, Kind, key};

const COUNT: Kind = Int(0, i64::MAX);
const PORT: Kind = Int(0, 65_535);

const fn later(pattern: &'static str, kind: Kind) -> Key {
    key(pattern, kind, NotYet, "")
}

const fn watch_out(pattern: &'static str, kind: Kind) -> Key {
    key(pattern, kind, NotYetWatchOut, "")
}

pub(super) const NOT_YET: &[Key] = &[
    // Top level.
    later("http_gzip", Bool),
    watch_out("https_addr", Text),
    later("log_rotation", Text),
    later("stats_log", Any),
    later("stats_interval", COUNT),
    later("http_access_skip_paths", Texts),
    watch_out("auto_external_ip", Any),
    later("webrtc_port_start", PORT),
    later("webrtc_port_end", PORT),
    later("ice_servers", Any),
    later("demo_mode", Bool),
    later("max_audio_download_bytes", COUNT),
    later("media.comfort_noise", Bool),
    later("media.comfort_noise_level_db", Number),
    // Whole sections.
    later("cluster", Any),
    later("outbound", Any),
    later("rwi", Any),
    watch_out("rwi_webhook", Any),
    later("storage", Any),
    later("licenses", Any),
    watch_out("archive", Any),
    later("sipflow.subdirs", Text),
    later("sipflow.flush_count", COUNT),
    later("sipflow.flush_interval_secs", COUNT),
    later("sipflow.id_cache_size", COUNT),
    later("sipflow.engine", Text),
    later("sipflow.compress", Any),
    later("sipflow.compress_level", COUNT),
    later("sipflow.flowdb_*", Any),
    later("sipflow.blocking_backpressure", Bool),
    watch_out("sipflow.upload", Any),
    watch_out("sipflow.nodes", Any),
    later("sipflow.timeout_secs", COUNT),
    later("sipflow.channel_capacity", COUNT),
    later("sipflow.dns_ttl_secs", COUNT),
    later("sipflow.mtu", COUNT),
    later("sipflow.report_interval_secs", COUNT),
    watch_out("sipflow.delegate_upload", Any),
    later("callrecord.vendor", Text),
    later("callrecord.database_url", Text),
    later("callrecord.table_name", Text),
    later("callrecord.skip_create_table", Bool),
    later("callrecord.rotate", Text),
    later("callrecord.max_concurrent", COUNT),
    later("callrecord.keep_media_copy", Bool),
    // Monitoring.
    later("metrics.enabled", Bool),
    later("metrics.path", Text),
    later("metrics.healthz_path", Text),
    // Console.
    later("console.session_secret", Text),
    later("console.allow_registration", Bool),
    later("console.alpine_js", Text),
    later("console.tailwind_js", Text),
    later("console.chart_js", Text),
    later("console.jssip_js", Text),
    later("console.locale_default", Text),
    later("console.locales", Any),
    later("console.static_path", Text),
    // SIP listeners and limits.
    later("proxy.callid_suffix", Text),
    later("proxy.t1x64_timer", COUNT),
    watch_out("proxy.trusted_proxies", Texts),
    later("proxy.sip_worker_threads", COUNT),
    later("proxy.media_worker_threads", COUNT),
    later("proxy.session_*_channel_capacity", COUNT),
    later("proxy.media_cmd_channel_capacity", COUNT),
    later("proxy.media_event_channel_capacity", COUNT),
    later("proxy.rwi_path", Text),
    later("proxy.ice_servers_path", Text),
    // Registrar and users.
    later("proxy.ensure_user", Bool),
    later("proxy.locator", Any),
    watch_out("proxy.jwt_auth", Any),
    later("proxy.dialog_auth_cache", Any),
    later("proxy.contact_username", Text),
    // Calls and routing.
    watch_out("proxy.queues", Any),
    watch_out("proxy.queues_files", Texts),
    later("proxy.queue_dir", Text),
    later("proxy.ivr_dir", Text),
    watch_out("proxy.ivr_files", Texts),
    later("proxy.ivr_fallback", Any),
    watch_out("proxy.frequency_limiter", Any),
    later("proxy.passthrough_failure", Bool),
    later("proxy.parallel_fork", Bool),
    later("proxy.blind_transfer_use_refer", Bool),
    later("proxy.route_originated_calls", Bool),
    later("proxy.generated_dir", Text),
    later("proxy.generated_db", Any),
    later("proxy.addons", Any),
    watch_out("proxy.rwi_webhook", Any),
    // Media.
    later("proxy.nat_fix", Bool),
    later("proxy.audio_profile", Any),
    later("proxy.audio_codecs", Any),
    later("proxy.video_codecs", Any),
    later("proxy.codecs", Any),
    later("proxy.codec_strategy", Any),
    later("proxy.sip_flow_max_items", COUNT),
    later("proxy.media_cache_path", Text),
    later("media_cache_path", Text),
    later("proxy.transcript", Any),
    later("proxy.rtc_cname", Text),
    later("proxy.hold_music", Any),
    // User backends.
    later("proxy.user_backends[].token_header", Text),
    later("proxy.user_backends[].token_cache_ttl_secs", COUNT),
    later("proxy.user_backends[].token_cache_size", COUNT),
    later("proxy.user_backends[].id_column", Text),
    later("proxy.user_backends[].users[].id", Any),
    later("proxy.user_backends[].users[].departments", Any),
    later("proxy.user_backends[].users[].email", Text),
    later("proxy.user_backends[].users[].phone", Text),
    later("proxy.user_backends[].users[].note", Text),
    later("proxy.user_backends[].users[].voicemail_disabled", Bool),
    later("proxy.user_backends[].users[].is_support_webrtc", Bool),
    // Trunks.
    later("proxy.trunks.*.id", Any),
    watch_out("proxy.trunks.*.recording", Any),
    later("proxy.trunks.*.country", Text),
    watch_out("proxy.trunks.*.policy", Any),
    later("proxy.trunks.*.call_id_mode", Text),
    later("proxy.trunks.*.health_check_per_ip", Bool),
    watch_out("proxy.trunks.*.health_check_fallback_trunk", Text),
    watch_out("proxy.trunks.*.cac_policy", Text),
    later("proxy.trunks.*.overflow_threshold", Number),
    watch_out("proxy.trunks.*.header_rules", Any),
    watch_out("proxy.trunks.*.header_passthrough", Any),
    watch_out("proxy.trunks.*.media_lock", Text),
    later("proxy.trunks.*.video_policy", Text),
    watch_out("proxy.trunks.*.bind_ip", Text),
    later("proxy.trunks.*.did_numbers", Any),
    later("proxy.trunks.*.ringback", Any),
    // Recording.
    watch_out("recording.directions", Texts),
    watch_out("recording.caller_allow", Texts),
    watch_out("recording.caller_deny", Texts),
    watch_out("recording.callee_allow", Texts),
    watch_out("recording.callee_deny", Texts),
    later("recording.auto_start_at", Text),
    later("recording.filename_pattern", Text),
    later("recording.samplerate", COUNT),
    later("recording.ptime", COUNT),
    later("recording.vendor", Text),
    later("recording.stereo_swap", Bool),
    later("recording.subdir", Any),
    later("recording.force_file", Bool),
    later("recording.signaling", Any),
];
