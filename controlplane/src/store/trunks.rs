//! Trunks in SQL: the columns of `sip_trunks`, named as in the original.
//! Owns:  the list of columns.
//! Gives: `TRUNKS` for `Rows`.
//! Never: what a column means.
//! Holds: the list is that of migrations 0040, 0045 and 0047.

use super::rows::Shape::{Flag, Int, Json, Text};
use super::rows::{Table, column};

pub static TRUNKS: Table = Table {
    name: "sip_trunks",
    columns: &[
        column("name", Text),
        column("display_name", Text),
        column("carrier", Text),
        column("description", Text),
        column("status", Text),
        column("direction", Text),
        column("sip_server", Text),
        column("sip_transport", Text),
        column("outbound_proxy", Text),
        column("auth_username", Text),
        column("auth_password", Text),
        column("default_route_label", Text),
        column("max_cps", Int),
        column("max_concurrent", Int),
        column("max_call_duration", Int),
        column("utilisation_percent", Int),
        column("warning_threshold_percent", Int),
        column("allowed_ips", Json),
        column("did_numbers", Json),
        column("billing_snapshot", Json),
        column("analytics", Json),
        column("tags", Json),
        column("incoming_from_user_prefix", Text),
        column("incoming_to_user_prefix", Text),
        column("is_active", Flag),
        column("register_enabled", Flag),
        column("register_expires", Int),
        column("register_extra_headers", Json),
        column("rewrite_hostport", Flag),
        column("weight", Int),
        column("max_ring_time", Int),
        column("metadata", Json),
        column("backup_dest", Text),
        column("failover_codes", Json),
        column("setup_timeout_ms", Int),
        column("realm", Text),
        column("health_check_enabled", Flag),
        column("health_check_interval_secs", Int),
        column("health_check_timeout_ms", Int),
        column("health_check_probe_count", Int),
        column("health_check_recovery_count", Int),
        column("trusted", Flag),
        column("remote_party_id", Flag),
        column("codec", Json),
        column("external_ip", Text),
        column("media_mode", Text),
    ],
};
