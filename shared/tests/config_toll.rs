//! `[proxy.toll_fraud]`: what it becomes, and what an operator reads about it.

use shared::config::{Loaded, Sources, load};
use shared::toll::{Caps, TollRules};

fn read(text: &str) -> Loaded {
    let text = format!("[proxy.toll_fraud]\n{text}");
    let read_secret = &|_: shared::config::SecretRef<'_>| Err("there is none".to_owned());
    load(&Sources { file: Some(("r.toml", &text)), env: Vec::new(), read_secret, strict: true })
}

fn lines(loaded: &Loaded) -> Vec<String> {
    loaded.problems.iter().map(ToString::to_string).collect()
}

#[test]
fn enabled_alone_closes_all_countries_and_holds_extensions_to_the_defaults() {
    let loaded = read("enabled = true\n");
    assert_eq!(lines(&loaded), [""; 0]);
    let config = loaded.config.expect("it is valid");
    let rules = config.toll().expect("it is enabled");
    assert_eq!(**rules, TollRules::default());
    assert_eq!(rules.countries, Some(Vec::new()));
    let caps = rules.extension;
    assert_eq!((caps.calls_per_minute, caps.international_max), (Some(5), Some(2)));
}

#[test]
fn every_key_has_its_place_and_zero_is_no_limit() {
    let loaded = read(
        "enabled = true\ncountry = \"+49\"\ninternational_prefixes = [\"+\", \"000\", \"\"]\n\
         allowed_destination_countries = [\"43\", \"+4420\"]\npremium_prefixes = [\"0900\", \
         \"+49137\"]\n\
         [proxy.toll_fraud.extension]\nmax_calls = 4\nmax_international = 0\n\
         calls_per_minute = 6\ndaily_limit = 100\ndaily_minutes = 300\n\
         [proxy.toll_fraud.trunk]\nmax_international = 20\ncalls_per_minute = 60\n\
         daily_limit = 1000\ndaily_minutes = 3000\n",
    );
    assert_eq!(lines(&loaded), [""; 0]);
    let boxed = |words: &[&str]| words.iter().map(|&word| word.into()).collect::<Vec<Box<str>>>();
    let expected = TollRules {
        country: Some("49".into()),
        international_prefixes: boxed(&["+", "000", ""]),
        countries: Some(boxed(&["43", "4420"])),
        // With the empty prefix every number has its country code.
        premium: boxed(&["+900", "+49137"]),
        extension: Caps {
            calls_max: Some(4),
            international_max: None,
            calls_per_minute: Some(6),
            calls_per_day: Some(100),
            minutes_per_day: Some(300),
        },
        trunk: Caps {
            calls_max: None,
            international_max: Some(20),
            calls_per_minute: Some(60),
            calls_per_day: Some(1_000),
            minutes_per_day: Some(3_000),
        },
    };
    assert_eq!(loaded.config.expect("it is valid").toll().map(|rules| &**rules), Some(&expected));
    let all = read("enabled = true\nallowed_destination_countries = [\"*\"]\n");
    assert_eq!(all.config.expect("it is valid").toll().expect("on").countries, None);
}

#[test]
fn what_cannot_be_is_said_and_a_section_that_is_not_enabled_too() {
    let loaded = read(
        "enabled = true\ncountry = \"Germany\"\ninternational_prefixes = [\"x\"]\n\
         allowed_destination_countries = [\"0043\"]\npremium_prefixes = [\"+\"]\n",
    );
    assert_eq!(
        lines(&loaded),
        [
            "r.toml:3: error: proxy.toll_fraud.country: \"Germany\" is no country code; write one \
             like \"49\"",
            "r.toml:4: error: proxy.toll_fraud.international_prefixes[0]: \"x\" is nothing that \
             stands in front of a country code",
            "r.toml:5: error: proxy.toll_fraud.allowed_destination_countries[0]: \"0043\" is no \
             country code; write one like \"49\"",
            "r.toml:6: error: proxy.toll_fraud.premium_prefixes[0]: \"+\" has no digit: it would \
             fit every number",
        ]
    );
    let loaded = read("country = \"49\"\n");
    assert_eq!(
        lines(&loaded),
        [
            "r.toml:1: warning: proxy.toll_fraud: the section is not enabled: no call is refused for \
          it; write enabled = true"
        ]
    );
    assert!(loaded.config.expect("it is valid").toll().is_none());
    assert!(read("enabled = false\n").problems.is_empty());
}
