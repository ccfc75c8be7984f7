//! What events say: the bodies that integrators read (surface.md 4, guide 1.3 and 1.4).
//! Owns:  the JSON shapes of locator events, of call records and of test events.
//! Gives: text, ready to be stored and sent as it is.
//! Never: a secret; a field under another name than the contract's.
//! Holds: times are whole seconds where the contract says `timestamp`.

use serde_json::{Value, json};
use shared::cdr::Cdr;
use shared::event::{Registration, RegistrationChange};
use shared::time::WallMs;

/// `calllog.json`.
pub(super) fn of_cdr(cdr: &Cdr) -> String {
    serde_json::to_string(cdr).expect("a call record is numbers and text")
}

pub(super) fn of_registration(change: &Registration, home_proxy: Option<&str>) -> String {
    let location = json!({
        "aor": change.aor,
        "destination": change.destination.to_string(),
        "transport": change.transport.via_word(),
        "user_agent": change.user_agent,
        "expires": change.expires_s,
        "contact": change.contact,
        "home_proxy": home_proxy,
        // Registrations over WebSocket are not built yet.
        "supports_webrtc": false,
    });
    let mut event = json!({
        "event": change.change.as_str(),
        "timestamp": seconds(change.at),
        "location": location,
    });
    if change.change == RegistrationChange::Offline {
        event["locations"] = Value::Array(vec![location]);
    }
    event.to_string()
}

/// An event that an operator asked for, so that a receiver can be tried without a call.
pub(super) fn of_test(at: WallMs) -> String {
    json!({ "event": "test", "timestamp": seconds(at) }).to_string()
}

const fn seconds(at: WallMs) -> i64 {
    at.0.div_euclid(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::net::Transport;

    fn change(change: RegistrationChange) -> Value {
        let change = Registration {
            change,
            at: WallMs(1_708_201_234_567),
            aor: "sip:1001@pbx.com".to_owned(),
            contact: "<sip:1001@10.0.0.9:5060>".to_owned(),
            destination: "1.2.3.4:12345".parse().expect("an address"),
            transport: Transport::Tls,
            user_agent: Some("MicroSIP/3.21.3".to_owned()),
            expires_s: 3_600,
        };
        serde_json::from_str(&of_registration(&change, Some("203.0.113.10:5060"))).expect("JSON")
    }

    /// The guide's sample, with the fields that the original sends besides.
    #[test]
    fn a_registration_says_what_the_guide_says() {
        let location = json!({
            "aor": "sip:1001@pbx.com",
            "destination": "1.2.3.4:12345",
            "transport": "TLS",
            "user_agent": "MicroSIP/3.21.3",
            "expires": 3600,
            "contact": "<sip:1001@10.0.0.9:5060>",
            "home_proxy": "203.0.113.10:5060",
            "supports_webrtc": false,
        });
        assert_eq!(
            change(RegistrationChange::Registered),
            json!({ "event": "registered", "timestamp": 1_708_201_234, "location": location }),
        );
        assert_eq!(
            change(RegistrationChange::Offline),
            json!({
                "event": "offline", "timestamp": 1_708_201_234,
                "location": location, "locations": [location],
            }),
        );
    }
}
