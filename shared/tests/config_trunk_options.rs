//! `[proxy.trunks.NAME]`: trust, codecs, our address, media, the outbound proxy.

use std::net::IpAddr;

use shared::config::{Loaded, SecretRef, Sources, load};
use shared::net::Transport;
use shared::trunk_options::{TrunkMedia, TrunkOptions};

fn check(text: &str) -> Loaded {
    let read_secret = |_: SecretRef<'_>| Err("No such file or directory".to_owned());
    load(&Sources {
        file: Some(("ringgate.toml", text)),
        env: Vec::new(),
        read_secret: &read_secret,
        strict: true,
    })
}

fn lines(text: &str) -> Vec<String> {
    check(text).problems.iter().map(ToString::to_string).collect()
}

#[test]
fn a_trunk_says_what_it_wants() {
    let text = r#"[proxy.trunks.plain]
dest = "sip:plain.example"
[proxy.trunks.rich]
dest = "sip:rich.example"
transport = "tcp"
outbound_proxy = "sip:edge.example:5070;lr"
trusted = true
remote_party_id = true
codec = ["PCMA", "G722"]
external_ip = "192.0.2.1, 2001:db8::1"
media_mode = "bypass"
[proxy.trunks.words]
dest = "sip:words.example"
codec = "PCMU, PCMA, telephone-event"
media_mode = "all"
"#;
    assert_eq!(lines(text), [""; 0]);
    let config = check(text).config.expect("it is valid");
    let of = |name: &str| {
        let trunk = config.trunks().iter().find(|trunk| trunk.name == name);
        trunk.expect("it is there").clone()
    };
    assert_eq!(of("plain").options, TrunkOptions::default());
    assert_eq!(of("plain").outbound_proxy, None);
    let rich = of("rich");
    let ips: Vec<IpAddr> =
        ["192.0.2.1", "2001:db8::1"].iter().map(|ip| ip.parse().expect("one")).collect();
    assert_eq!(
        rich.options,
        TrunkOptions {
            trusted: true,
            remote_party_id: true,
            codecs: vec!["PCMA".into(), "G722".into()],
            external_ip: ips,
            media: TrunkMedia::PastUs,
            route: Some("<sip:edge.example:5070;transport=tcp;lr>".into()),
        }
    );
    let proxy = rich.outbound_proxy.expect("it has one");
    assert_eq!(
        (proxy.host.to_string(), proxy.transport),
        ("edge.example:5070".into(), Some(Transport::Tcp))
    );
    let words = of("words").options;
    assert_eq!((words.codecs.len(), words.media), (2, TrunkMedia::ThroughUs));
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let text = r#"[proxy.trunks.a]
dest = "sip:a.example"
codec = ["PCMA", "PCMA/8000"]
external_ip = "192.0.2.1, 192.0.2.2"
media_mode = "force_transcode"
[proxy.trunks.b]
dest = "sip:b.example"
backup_dest = "sip:c.example"
outbound_proxy = "edge.example"
remote_party_id = true
media_mode = "sometimes"
"#;
    let start = |number: usize, kind: &str, key: &str| {
        format!("ringgate.toml:{number}: {kind}: proxy.trunks.{key}: ")
    };
    assert_eq!(
        lines(text),
        [
            start(3, "error", "a.codec")
                + "\"PCMA/8000\" is not the name of a codec; write codec = [\"PCMA\", \"PCMU\"]",
            start(4, "error", "a.external_ip") + "has two addresses of one family",
            start(5, "warning", "a.media_mode")
                + "transcoding is not built; write one of auto, all, always, bypass, none",
            start(9, "error", "b.outbound_proxy")
                + "does not go with backup_dest: the proxy finds the way; give the proxy's name \
                   several addresses",
            start(10, "warning", "b.remote_party_id")
                + "is not used without trust; write trusted = true",
            start(11, "error", "b.media_mode")
                + "\"sometimes\" is none of auto, all, always, bypass, none",
        ]
    );
}
