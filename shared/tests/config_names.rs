//! `[dns]`, TLS files and how trunks say that they are reached over TLS: what an operator reads.

use shared::config::{Loaded, Sources, load};

fn check(text: &str) -> Loaded {
    let read_secret = &|_: shared::config::SecretRef<'_>| Err("there is none".to_owned());
    load(&Sources {
        file: Some(("ringgate.toml", text)),
        env: Vec::new(),
        read_secret,
        strict: true,
    })
}

#[test]
fn name_servers_are_numbers_with_or_without_a_port() {
    let text = "[dns]\nservers = [\"192.0.2.53\", \"[2001:db8::53]:5353\"]\n";
    let config = check(text).config.expect("nothing is wrong");
    let servers: Vec<String> = config.dns_servers().iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["192.0.2.53:53", "[2001:db8::53]:5353"]);
    let loaded = check("[dns]\nservers = [\"192.0.2.53:0\", \"dns.example\"]\n");
    let lines: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
    let wrong = |place: u8, text: &str| {
        format!(
            "ringgate.toml:2: error: dns.servers[{place}]: \"{text}\" is no address of a name server; \
             write \"192.0.2.53\" or \"192.0.2.53:5353\""
        )
    };
    assert_eq!(lines, [wrong(0, "192.0.2.53:0"), wrong(1, "dns.example")]);
}

#[test]
fn the_files_of_tls_are_those_of_sip_or_else_the_common_ones() {
    let text = "ssl_certificate = \"web.pem\"\nssl_private_key = \"web.key\"\n[proxy]\n\
                tls_port = 5061\nssl_certificate = \"sip.pem\"\n\
                tls_ca_certificates = \"ca.pem\"\n";
    let config = check(text).config.expect("nothing is wrong");
    let tls = config.tls().expect("it is on");
    let name = |path: &std::path::Path| path.display().to_string();
    let files = [&tls.files.certificate, &tls.files.private_key, &tls.files.authorities[0]];
    assert_eq!(files.map(|path| name(path)), ["sip.pem", "web.key", "ca.pem"]);
    assert_eq!(tls.port, 5061);
    let off = check("ssl_certificate = \"web.pem\"\n").config.expect("right");
    assert!(off.tls().is_none());
}

#[test]
fn a_trunk_is_reached_over_tls_when_its_scheme_or_a_word_says_so() {
    let text = "[proxy.trunks.one]\ndest = \"sips:carrier.example\"\n[proxy.trunks.two]\n\
                dest = \"sip:carrier.example;transport=tls\"\n[proxy.trunks.three]\n\
                dest = \"sip:carrier.example:5070\"\ntransport = \"tls\"\n";
    let config = check(text).config.expect("nothing is wrong");
    assert_eq!(config.trunks().len(), 3);
    for trunk in config.trunks() {
        assert_eq!(trunk.transport, Some(shared::net::Transport::Tls), "{}", trunk.name);
    }
}
