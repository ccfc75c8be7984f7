//! Which targets an outbound call may have, so that nobody makes us call into our own network (SSRF).
//! Owns:  the targets that the configuration names; the kinds of addresses that are not open internet.
//! Gives: `decide` for a URL, `check_addresses` for what its name resolved to. No look-up, no clock.
//! Never: trusts a name: what counts is the address that is connected to.
//! Holds: a target that the configuration does not name is reached on the open internet or not at all.

use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// The targets that the configuration names, by host and port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    named: HashSet<(String, u16)>,
}

/// Where a call may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The configuration names the target: whoever wrote it knows what it resolves to.
    Anywhere,
    /// Every address has to pass `check_addresses`.
    OpenInternet,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    Address {
        address: IpAddr,
        kind: AddressKind,
    },
    /// `user:password@` before the host: a place to hide what the host is.
    Credentials,
    Host,
    Port,
    Scheme(String),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address { address, kind } => write!(
                f,
                "{address} is {kind}, and the configuration file does not name this target"
            ),
            Self::Credentials => f.write_str("the URL has a user or password before its host"),
            Self::Host => f.write_str("the URL has no host"),
            Self::Port => f.write_str("the URL has port 0"),
            Self::Scheme(scheme) => write!(f, "{scheme}: is neither http nor https"),
        }
    }
}

impl std::error::Error for Refused {}

impl Guard {
    /// Every URL here opens its host and port, whatever address the host has.
    pub fn new<'u>(named: impl IntoIterator<Item = &'u Url>) -> Self {
        Self { named: named.into_iter().filter_map(place_of).collect() }
    }

    /// Asked before every attempt. An address in the URL itself is checked here; a name is resolved
    /// by the client, which asks `check_addresses` and connects to exactly what passed.
    pub fn decide(&self, url: &Url) -> Result<Reach, Refused> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Refused::Scheme(url.scheme().to_owned()));
        }
        let host = url.host().ok_or(Refused::Host)?;
        let place = place_of(url).ok_or(Refused::Port)?;
        if self.named.contains(&place) {
            return Ok(Reach::Anywhere);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refused::Credentials);
        }
        match host {
            Host::Domain("") => return Err(Refused::Host),
            Host::Domain(_) => {}
            Host::Ipv4(ip) => check_addresses(&[ip.into()])?,
            Host::Ipv6(ip) => check_addresses(&[ip.into()])?,
        }
        Ok(Reach::OpenInternet)
    }
}

/// Host without the root's dot, and port. None for port 0.
fn place_of(url: &Url) -> Option<(String, u16)> {
    let port = url.port_or_known_default().filter(|port| *port > 0)?;
    let host = url.host_str()?.trim_end_matches('.').to_ascii_lowercase();
    Some((host, port))
}

/// One address that is not open internet refuses them all: a name that mixes them is a trick.
pub fn check_addresses(addresses: &[IpAddr]) -> Result<(), Refused> {
    let refused = addresses.iter().find_map(|address| Some((*address, kind_of(*address)?)));
    match refused {
        Some((address, kind)) => Err(Refused::Address { address, kind }),
        None => Ok(()),
    }
}

/// What an address is when it is not open internet (IANA special-purpose address registries).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressKind {
    CarrierNat,
    Documentation,
    /// An IPv4 address inside an IPv6 one: mapped, compatible, translated or tunnelled.
    Embedded,
    LinkLocal,
    Loopback,
    /// The address at which clouds hand out credentials.
    Metadata,
    Multicast,
    Private,
    Reserved,
    ThisNetwork,
}

impl fmt::Display for AddressKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CarrierNat => "a carrier's inner address",
            Self::Documentation => "an address for examples",
            Self::Embedded => "an IPv4 address in an IPv6 one",
            Self::LinkLocal => "a link-local address",
            Self::Loopback => "a loopback address",
            Self::Metadata => "a cloud's metadata address",
            Self::Multicast => "a multicast address",
            Self::Private => "a private address",
            Self::Reserved => "a reserved address",
            Self::ThisNetwork => "no address of a host",
        })
    }
}

/// `None` for the open internet.
pub fn kind_of(address: IpAddr) -> Option<AddressKind> {
    match address {
        IpAddr::V4(ip) => kind_of_v4(ip),
        IpAddr::V6(ip) => kind_of_v6(ip),
    }
}

/// Metadata services: AWS and most others, ECS, Azure, Alibaba, Oracle.
const METADATA_V4: [[u8; 4]; 5] = [
    [169, 254, 169, 254],
    [169, 254, 170, 2],
    [168, 63, 129, 16],
    [100, 100, 100, 200],
    [192, 0, 0, 192],
];

fn kind_of_v4(ip: Ipv4Addr) -> Option<AddressKind> {
    use AddressKind::{
        CarrierNat, Documentation, LinkLocal, Loopback, Metadata, Multicast, Private, Reserved,
        ThisNetwork,
    };
    let octets = ip.octets();
    if METADATA_V4.contains(&octets) {
        return Some(Metadata);
    }
    Some(match octets {
        [0, ..] => ThisNetwork,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Private,
        [100, 64..=127, ..] => CarrierNat,
        [127, ..] => Loopback,
        [169, 254, ..] => LinkLocal,
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Documentation,
        // IETF protocols, the old 6to4 relays, benchmarks, and everything from 240 on.
        [192, 0, 0, _] | [192, 88, 99, _] | [198, 18..=19, ..] | [240..=255, ..] => Reserved,
        [224..=239, ..] => Multicast,
        _ => return None,
    })
}

fn kind_of_v6(ip: Ipv6Addr) -> Option<AddressKind> {
    use AddressKind::{
        Documentation, Embedded, LinkLocal, Loopback, Metadata, Multicast, Private, Reserved,
        ThisNetwork,
    };
    Some(match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => ThisNetwork,
        [0, 0, 0, 0, 0, 0, 0, 1] => Loopback,
        // AWS.
        [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254] => Metadata,
        // Compatible (RFC 4291 2.5.5.1), mapped (2.5.5.2), translated (RFC 2765, RFC 6052, RFC 8215),
        // 6to4 (RFC 3056), Teredo (RFC 4380).
        [0, 0, 0, 0, 0, 0 | 0xffff, _, _]
        | [0, 0, 0, 0, 0xffff, 0, _, _]
        | [0x0064, 0xff9b, ..]
        | [0x2002, ..]
        | [0x2001, 0, ..] => Embedded,
        [0xfe80..=0xfebf, ..] => LinkLocal,
        // Unique local, and the site-local ones before them.
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Private,
        [0xff00..=0xffff, ..] => Multicast,
        [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => Documentation,
        // The rest of 2001::/23, and all that was never given out: only 2000::/3 is in use.
        [0x2001, 0x0001..=0x01ff, ..] => Reserved,
        [first, ..] if first >> 13 != 1 => Reserved,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(guard: &Guard, text: &str) -> Result<Reach, String> {
        let url = Url::parse(text).map_err(|error| format!("no URL: {error}"))?;
        guard.decide(&url).map_err(|refused| format!("{refused:?}"))
    }

    /// Spellings of addresses of our own network. Each is refused before any look-up.
    const TRICKS: &[&str] = &[
        "http://127.0.0.1/",
        "http://127.1/",
        "http://127.0.1/",
        "http://2130706433/",
        "http://017700000001/",
        "http://0177.0.0.1/",
        "http://0x7f.0.0.1/",
        "http://0x7f000001/",
        "http://0x7f.1/",
        "http://127.0.0.1./",
        "http://127.0.0.1:80/",
        "http://127.0.0.1:443/",
        "https://127.255.255.254/",
        "http://①②⑦.⓪.⓪.①/",
        "http://127。0。0。1/",
        "http://127%2e0%2e0%2e1/",
        "http:\\\\127.0.0.1\\",
        "http:/127.0.0.1/",
        "http:127.0.0.1/",
        "  http://127.0.0.1/",
        "http://127.0.\t0.1/",
        "http://127.0.0.1#@example.com/",
        "http://127.0.0.1?@example.com/",
        "http://127.0.0.1\\@example.com/",
        "http://0/",
        "http://0.0.0.0/",
        "http://0.1.2.3/",
        "http://10.0.0.1/",
        "http://0xa000001/",
        "http://012.0.0.1/",
        "http://10.1/",
        "http://172.16.0.1/",
        "http://172.31.255.255/",
        "http://192.168.1.1/",
        "http://3232235777/",
        "http://0xc0a80101/",
        "http://169.254.1.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://2852039166/",
        "http://0251.0376.0251.0376/",
        "http://0xa9fea9fe/",
        "http://169.254.170.2/",
        "http://168.63.129.16/",
        "http://100.100.100.200/",
        "http://192.0.0.192/",
        "http://100.64.0.1/",
        "http://100.127.255.255/",
        "http://198.18.0.1/",
        "http://224.0.0.1/",
        "http://239.255.255.255/",
        "http://255.255.255.255/",
        "http://4294967295/",
        "http://240.0.0.1/",
        "http://[::1]/",
        "http://[::]/",
        "http://[0:0:0:0:0:0:0:1]/",
        "http://[0000::0001]:8080/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://[::ffff:8.8.8.8]/",
        "http://[::127.0.0.1]/",
        "http://[::ffff:0:127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[64:ff9b::8.8.8.8]/",
        "http://[64:ff9b:1::a00:1]/",
        "http://[2002:7f00:1::]/",
        "http://[2001::7f00:1]/",
        "http://[fe80::1]/",
        "http://[febf::1]/",
        "http://[fec0::1]/",
        "http://[fc00::1]/",
        "http://[fd12:3456:789a::1]/",
        "http://[fd00:ec2::254]/",
        "http://[ff02::1]/",
        "http://[2001:db8::1]/",
        "http://[100::1]/",
        "http://[5f00::1]/",
    ];

    #[test]
    fn no_spelling_of_an_inner_address_gets_through() {
        let guard = Guard::default();
        for trick in TRICKS {
            let refused = decide(&guard, trick).expect_err(trick);
            assert!(refused.starts_with("Address"), "{trick}: {refused}");
        }
    }

    #[test]
    fn urls_of_another_form_are_refused() {
        let guard = Guard::default();
        for (url, reason) in [
            ("http://example.com:0/", "Port"),
            ("https://user@example.com/", "Credentials"),
            ("https://user:password@example.com/", "Credentials"),
            ("https://:password@example.com/", "Credentials"),
            ("https://127.0.0.1@example.com/", "Credentials"),
            ("https://example.com:443@example.net/", "Credentials"),
            ("ftp://example.com/", "Scheme"),
            ("file:///etc/passwd", "Scheme"),
            ("gopher://127.0.0.1:25/", "Scheme"),
            ("data:text/plain,x", "Scheme"),
            ("unix:///run/docker.sock", "Scheme"),
            ("http://", "no URL"),
            ("http://[::1%25eth0]/", "no URL"),
            ("http://256.256.256.256/", "no URL"),
            ("http://0x100000000/", "no URL"),
            ("http://1.2.3.4.5/", "no URL"),
            ("http://exa mple.com/", "no URL"),
            ("//127.0.0.1/", "no URL"),
        ] {
            let refused = decide(&guard, url).expect_err(url);
            assert!(refused.starts_with(reason), "{url}: {refused}");
        }
    }

    /// A name passes here and is judged by what it resolves to.
    #[test]
    fn names_are_judged_by_their_addresses() {
        let guard = Guard::default();
        for name in [
            "http://localhost/",
            "http://LOCALHOST./",
            "http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/",
            "http://127.0.0.1.example.com/",
            "http://metadata.google.internal/",
            "http://xn--e1afmkfd.example/",
        ] {
            assert_eq!(decide(&guard, name), Ok(Reach::OpenInternet), "{name}");
        }
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let open =
            [address("8.8.8.8"), address("2606:4700::1111"), address("2001:4860:4860::8888")];
        assert_eq!(check_addresses(&open), Ok(()));
        let mixed = [address("8.8.8.8"), address("10.0.0.1")];
        assert_eq!(
            check_addresses(&mixed),
            Err(Refused::Address { address: mixed[1], kind: AddressKind::Private })
        );
    }

    #[test]
    fn neighbours_of_the_special_ranges_are_open() {
        for open in [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "168.63.129.15",
            "2000::1",
            "2001:200::1",
            "2001:db7::1",
            "2001:db9::1",
            "2003::1",
            "2400:cb00::1",
            "3ffe::1",
        ] {
            let address = open.parse::<IpAddr>().expect("an address");
            assert_eq!(kind_of(address), None, "{open}");
        }
    }

    #[test]
    fn the_configuration_opens_exactly_the_targets_that_it_names() {
        let named = [
            "http://10.0.0.5:8080/hook",
            "https://hooks.internal./cdr",
            "http://user:secret@billing.internal/",
            "http://[fd00::5]:81/",
        ];
        let named = named.map(|text| Url::parse(text).expect("a URL"));
        let guard = Guard::new(&named);
        for open in [
            "http://10.0.0.5:8080/another",
            "http://0xa000005:8080/",
            "https://HOOKS.internal/",
            "https://hooks.internal:443/x",
            "http://user:secret@billing.internal/",
            "http://[fd00:0::5]:81/",
        ] {
            assert_eq!(decide(&guard, open), Ok(Reach::Anywhere), "{open}");
        }
        for shut in ["http://10.0.0.5/", "http://10.0.0.5:8081/", "http://10.0.0.6:8080/"] {
            assert!(decide(&guard, shut).is_err(), "{shut}");
        }
        // The name on another port is nobody's naming.
        assert_eq!(decide(&guard, "http://hooks.internal/"), Ok(Reach::OpenInternet));
        assert_eq!(decide(&guard, "http://sub.hooks.internal/"), Ok(Reach::OpenInternet));
        assert!(decide(&guard, "http://10.0.0.5:8080@10.0.0.7/").is_err());
    }
}
