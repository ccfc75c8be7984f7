//! `[proxy.trunks.NAME]`: trust, codecs, our address, media, the outbound proxy.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;

use shared::config::{Loaded, SecretRef, Sources, load};
use shared::ids::CertificateId;
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
            ..TrunkOptions::default()
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

#[test]
fn certificates_of_trunks_are_read_with_those_of_the_gateway() {
    let text = r#"[proxy]
tls_port = 5061
ssl_certificate = "own.pem"
ssl_private_key = "own.key"
tls_client_ca_certificates = "clients.pem"
[proxy.trunks.a]
dest = "sips:a.example"
tls_certificate = "a.pem"
tls_private_key = "a.key"
inbound_tls_names = ["SBC.a.example"]
"#;
    assert_eq!(lines(text), [""; 0]);
    let config = check(text).config.expect("it is valid");
    let files = config.tls_files().expect("there is a listener");
    assert_eq!(files.client_authorities, [std::path::PathBuf::from("clients.pem")]);
    let options = &config.trunks()[0].options;
    assert_eq!(files.clients, [options.client_files.clone().expect("it has files")]);
    assert_eq!(options.tls_names, ["sbc.a.example".into()]);
}

#[test]
fn halves_of_a_certificate_and_names_that_nobody_asks_for_are_said() {
    let text = r#"[proxy.trunks.a]
dest = "sip:a.example"
tls_certificate = "a.pem"
inbound_tls_names = ["*.a.example"]
[proxy.trunks.b]
dest = "sip:b.example"
tls_certificate = "b.pem"
tls_private_key = "b.key"
inbound_tls_names = ["b.example"]
"#;
    let lines = lines(text);
    let start = |number: usize, kind: &str, key: &str| {
        format!("ringgate.toml:{number}: {kind}: proxy.trunks.{key}")
    };
    assert_eq!(
        lines,
        [
            start(3, "error", "a.tls_certificate: has no key; write tls_private_key = \"FILE\""),
            start(4, "error", "a.inbound_tls_names[0]: \"*.a.example\" is not a DNS name"),
            start(
                7,
                "warning",
                "b.tls_certificate: is not used without TLS; write proxy.tls_port = 5061"
            ),
            start(
                9,
                "error",
                "b.inbound_tls_names: no call can come from it: no client is asked for a \
                 certificate; write proxy.tls_client_ca_certificates = \"FILE\""
            ),
        ]
    );
}

#[test]
fn a_certificate_for_a_trunk_that_is_never_reached_over_tls_is_said() {
    let text = r#"[proxy]
tls_port = 5061
ssl_certificate = "own.pem"
ssl_private_key = "own.key"
[proxy.trunks.a]
dest = "sip:a.example"
transport = "tcp"
tls_certificate = "a.pem"
tls_private_key = "a.key"
[proxy.trunks.b]
dest = "sip:b.example;transport=tcp"
backup_dest = "sips:c.example"
tls_certificate = "b.pem"
tls_private_key = "b.key"
"#;
    let line = "ringgate.toml:8: warning: proxy.trunks.a.tls_certificate: is not used: the trunk is \
                not reached over TLS; write transport = \"tls\"";
    assert_eq!(lines(text), [line]);
}

/// What tells connections apart is 32 bits of the files' names: some hundred thousand names hold two that
/// fall together.
#[test]
fn files_whose_names_fall_together_are_refused() {
    let mut seen = HashMap::new();
    let pair = (0_u32..).find_map(|number| {
        let path = |number| (format!("{number}.pem"), format!("{number}.key"));
        let (certificate, key) = path(number);
        let id = CertificateId::of_files(Path::new(&certificate), Path::new(&key));
        seen.insert(id, number).map(|other| [path(other), path(number)])
    });
    let [one, two] = pair.expect("the names never end");
    let trunk = |name: &str, (certificate, key): &(String, String)| {
        format!(
            "[proxy.trunks.{name}]\ndest = \"sips:{name}.example\"\n\
             tls_certificate = \"{certificate}\"\ntls_private_key = \"{key}\"\n"
        )
    };
    let own =
        "[proxy]\ntls_port = 5061\nssl_certificate = \"own.pem\"\nssl_private_key = \"own.key\"\n";
    let text = format!("{own}{}{}{}", trunk("a", &one), trunk("b", &one), trunk("c", &two));
    let line = format!(
        "ringgate.toml:15: error: proxy.trunks.c.tls_certificate: cannot be told from {}; give the \
         file another name",
        one.0
    );
    assert_eq!(lines(&text), [line]);
}
