//! `[proxy]` keys of the edge: what they become, and what an operator reads about them.

use std::time::Duration;

use shared::config::{Loaded, Sources, load};
use shared::edge::{EdgeRules, FloodRules};

fn read(text: &str) -> Loaded {
    let text = format!("[proxy]\n{text}");
    let read_secret = &|_: shared::config::SecretRef<'_>| Err("there is none".to_owned());
    load(&Sources { file: Some(("r.toml", &text)), env: Vec::new(), read_secret, strict: true })
}

#[test]
fn nothing_written_counts_no_rates_and_bans_for_ten_minutes() {
    let config = read("").config.expect("it is valid");
    assert_eq!(**config.edge(), EdgeRules::default());
    assert_eq!(config.edge().ban, Duration::from_secs(600));
    assert_eq!(config.edge().flood, None);
}

#[test]
fn every_key_of_the_original_has_its_place() {
    let loaded = read(
        "dos_enabled = true\ndos_max_cps_per_ip = 20\ndos_max_concurrent_per_ip = 30\n\
         dos_scan_probe_threshold = 40\ndos_scan_block_duration_secs = 60\n\
         ua_black_list = [\" Evil \"]\nua_white_list = [\"Phone\"]\nmax_concurrency = 1000\n\
         uri_max_length = 256\nuri_reject_malformed = true\n",
    );
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    let expected = EdgeRules {
        flood: Some(FloodRules { requests_per_second: 20, calls_max: 30 }),
        probes_max: 40,
        ban: Duration::from_secs(60),
        agents_refused: vec!["evil".into()],
        agents_admitted: vec!["phone".into()],
        calls_max: Some(1_000),
        uri_bytes_max: Some(256),
    };
    assert_eq!(**loaded.config.expect("it is valid").edge(), expected);
}

#[test]
fn what_cannot_be_is_said() {
    let loaded =
        read("dos_max_cps_per_ip = 20\nua_black_list = [\"\"]\nuri_reject_malformed = false\n");
    let lines: Vec<_> = loaded.problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "r.toml:3: error: proxy.ua_black_list[0]: is empty: it would fit every User-Agent",
            "r.toml:4: warning: proxy.uri_reject_malformed: malformed URIs are refused in any case",
        ]
    );
}
