//! Addresses that lead to one phone of a user, from anywhere (RFC 5627).
//! Owns:  how a public and a temporary one are written, and what a Request-URI of either kind means.
//! Gives: `Gruus`, `phone_of` a URI, `user_of` a temporary one.
//! Never: a table of those that were given out: a temporary one carries, sealed, whom it leads to.
//! Holds: nobody but us reads whose a temporary one is, or writes one; it leads nowhere once the
//!        registration that it was given for is over.

use std::fmt::Write as _;

use sip::auth::Signer;
use sip::wire::{HeaderName, Message, Uri};

use crate::desk::Desk;
use crate::io::Phone;

pub(crate) const OPTION: &[u8] = b"gruu";
/// What the user part of a temporary one begins with.
const START: &[u8] = b"tgruu.";
/// Longer names of users get no temporary one.
const NAME_BYTES_MAX: usize = 64;
const RANDOM_BYTES: usize = 8;
const REGISTRATION_BYTES: usize = 8;
const TAG_BYTES: usize = 8;

/// Seals and opens temporary ones: the same on every shard, another after a restart, when nobody is
/// registered any more.
#[derive(Debug)]
pub(crate) struct Gruus {
    signer: Signer,
}

impl Gruus {
    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self { signer: Signer::new(key) }
    }

    /// What a temporary one stands for: a phone of a user for as long as its registration goes on,
    /// which is as long as its Call-ID stays (RFC 5627 3.1).
    pub(crate) fn registration(&self, aor: &str, instance: &[u8], call_id: &[u8]) -> u64 {
        let length = |part: &[u8]| (part.len() as u64).to_be_bytes();
        let parts = [
            &b"gruu registration"[..],
            &length(aor.as_bytes()),
            aor.as_bytes(),
            &length(instance),
            instance,
            call_id,
        ];
        let whole = self.signer.sign(&parts.concat());
        let (head, _) = whole.split_first_chunk().expect("a signature has 16 bytes");
        u64::from_be_bytes(*head)
    }

    /// The user part of a new temporary one.
    pub(crate) fn seal(&self, aor: &str, registration: u64, random: u64) -> Option<String> {
        if aor.len() > NAME_BYTES_MAX {
            return None;
        }
        let random = random.to_be_bytes();
        let mut hidden = [&registration.to_be_bytes(), aor.as_bytes()].concat();
        self.mask(&random, &mut hidden);
        let tag = self.tag(&random, &hidden);
        let mut text = String::from_utf8_lossy(START).into_owned();
        for byte in random.iter().chain(&hidden).chain(&tag) {
            write!(text, "{byte:02x}").expect("a string takes it");
        }
        Some(text)
    }

    /// Whom the user part of a URI leads to, if it is one of ours.
    fn open(&self, user: &[u8]) -> Option<(String, u64)> {
        let digits = user.strip_prefix(START)?;
        let most = 2 * (RANDOM_BYTES + REGISTRATION_BYTES + NAME_BYTES_MAX + TAG_BYTES);
        if digits.len() > most || digits.len() % 2 == 1 {
            return None;
        }
        let byte = |pair: &[u8]| {
            let text = std::str::from_utf8(pair).ok()?;
            u8::from_str_radix(text, 16).ok().filter(|_| pair[0] != b'+')
        };
        let bytes: Vec<u8> = digits.chunks_exact(2).map(byte).collect::<Option<_>>()?;
        let (random, rest) = bytes.split_first_chunk::<RANDOM_BYTES>()?;
        let (hidden, tag) = rest.split_last_chunk::<TAG_BYTES>()?;
        if self.tag(random, hidden) != *tag {
            return None;
        }
        let mut hidden = hidden.to_vec();
        self.mask(random, &mut hidden);
        let (registration, name) = hidden.split_first_chunk::<REGISTRATION_BYTES>()?;
        let name = String::from_utf8(name.to_vec()).ok()?;
        Some((name, u64::from_be_bytes(*registration)))
    }

    /// What a random number makes of the key covers the text, and uncovers it.
    fn mask(&self, random: &[u8; RANDOM_BYTES], text: &mut [u8]) {
        for (number, part) in (0_u8..).zip(text.chunks_mut(16)) {
            let cover = self.signer.sign(&[&b"gruu cover"[..], random, &[number]].concat());
            part.iter_mut().zip(cover).for_each(|(byte, cover)| *byte ^= cover);
        }
    }

    fn tag(&self, random: &[u8; RANDOM_BYTES], hidden: &[u8]) -> [u8; TAG_BYTES] {
        let whole = self.signer.sign(&[&b"gruu tag"[..], random, hidden].concat());
        let (tag, _) = whole.split_first_chunk().expect("a signature has 16 bytes");
        *tag
    }
}

/// Whether a REGISTER asks for them.
pub(crate) fn is_asked(request: &Message<'_>) -> bool {
    let tags = request.values(HeaderName::Supported).chain(request.values(HeaderName::Require));
    tags.into_iter().any(|tag| tag.eq_ignore_ascii_case(OPTION))
}

/// What the answer to a REGISTER says of the phones of its user.
pub(crate) struct Answer {
    aor: Box<str>,
    /// As the REGISTER writes the user, and where it is one.
    user: Vec<u8>,
    place: String,
}

impl Answer {
    /// `None` where nobody asked.
    pub(crate) fn of(request: &Message<'_>, aor: &str) -> Option<Self> {
        let to = request.to().ok().filter(|_| is_asked(request))?;
        let uri = to.parsed_uri().ok()?;
        let port = uri.port.map(|port| format!(":{port}")).unwrap_or_default();
        let place = format!("{}{port}", uri.host);
        Some(Self { aor: aor.into(), user: uri.user?.to_vec(), place })
    }

    /// The parameters of one contact. Each answer has a temporary one of its own, and they all go on
    /// (RFC 5627 5.3).
    pub(crate) fn params(
        &self,
        desk: &mut Desk,
        written: Option<&[u8]>,
        registration: Option<u64>,
    ) -> Vec<u8> {
        let Some(instance) = written.and_then(instance) else { return Vec::new() };
        let place = self.place.as_bytes();
        let mut params =
            [b";pub-gruu=\"sip:", &self.user[..], b"@", place, b";gr=", instance, b"\""].concat();
        let random = desk.mint.random();
        let sealed = registration.and_then(|one| desk.gruus.seal(&self.aor, one, random));
        if let Some(user) = sealed {
            let parts = [b";temp-gruu=\"sip:", user.as_bytes(), b"@", place, b";gr\""];
            params.extend(parts.concat());
        }
        params
    }
}

/// The instance of a Contact as it stands in `gr`: without quotes, brackets and flow. `None`: it cannot be
/// written there.
pub(crate) fn instance(written: &[u8]) -> Option<&[u8]> {
    let end = written.iter().rposition(|&byte| byte == b'>')?;
    let bare = written[..end].strip_prefix(b"\"<")?;
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.!~*'()[]/:&+$".contains(byte);
    (!bare.is_empty() && bare.len() <= 128 && bare.iter().all(fits)).then_some(bare)
}

/// The phone that a Request-URI means; `None` where it means whoever is registered.
pub(crate) fn phone_of(desk: &Desk, uri: &[u8]) -> Option<Phone> {
    if !uri.contains(&b';') {
        return None; // most have no parameter
    }
    let uri = Uri::parse(uri).ok()?;
    match uri.param("gr")? {
        Some(instance) => Some(Phone::Instance(instance.into())),
        None => Some(Phone::Temporary(desk.gruus.open(&uri.user_unescaped())?.1)),
    }
}

/// The user behind a temporary one.
pub(crate) fn user_of(desk: &Desk, uri: &Uri<'_>) -> Option<String> {
    if uri.params.is_empty() || uri.param("gr")?.is_some() {
        return None;
    }
    Some(desk.gruus.open(&uri.user_unescaped())?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_one_opens_where_the_key_is_known_and_tells_nobody_else_anything() {
        let (ours, theirs) = (Gruus::new([1; 32]), Gruus::new([2; 32]));
        let registration = ours.registration("1001", b"urn:uuid:1", b"call");
        let [one, two] =
            [1, 2].map(|random| ours.seal("1001", registration, random).expect("short"));
        assert_eq!(ours.open(one.as_bytes()), Some(("1001".to_owned(), registration)));
        assert_eq!(ours.open(two.as_bytes()), Some(("1001".to_owned(), registration)));
        assert_eq!(theirs.open(one.as_bytes()), None);
        // Nothing in common but the beginning, however alike what is behind them.
        let same = one.bytes().zip(two.bytes()).skip(START.len()).filter(|(a, b)| a == b).count();
        assert!(same < one.len() / 3, "{one} {two}");
        assert_eq!(ours.seal(&"x".repeat(65), registration, 1), None);
    }

    #[test]
    fn a_changed_one_leads_nowhere() {
        let gruus = Gruus::new([1; 32]);
        let text = gruus.seal("1001", 7, 9).expect("short");
        for place in START.len()..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[place] = if changed[place] == b'0' { b'1' } else { b'0' };
            assert_eq!(gruus.open(&changed), None, "{place}");
        }
        for odd in ["", "tgruu.", "tgruu.0", "tgruu.zz", "tgruu.+1", &text[..text.len() - 2]] {
            assert_eq!(gruus.open(odd.as_bytes()), None, "{odd}");
        }
    }

    #[test]
    fn registrations_differ_by_user_phone_and_call() {
        let gruus = Gruus::new([1; 32]);
        let one = gruus.registration("1001", b"urn:uuid:1", b"call");
        assert_eq!(one, gruus.registration("1001", b"urn:uuid:1", b"call"));
        for (aor, instance, call) in [
            ("1002", "urn:uuid:1", "call"),
            ("1001", "urn:uuid:2", "call"),
            ("1001", "urn:uuid:1", "c"),
        ] {
            let other = gruus.registration(aor, instance.as_bytes(), call.as_bytes());
            assert_ne!(one, other, "{aor} {instance} {call}");
        }
    }

    #[test]
    fn an_instance_is_read_without_its_flow_and_only_if_it_can_be_written() {
        let own = br#""<urn:uuid:0-1>""#;
        assert_eq!(instance(own), Some(&b"urn:uuid:0-1"[..]));
        assert_eq!(instance(br#""<urn:uuid:0-1>";reg-id=1"#), Some(&b"urn:uuid:0-1"[..]));
        for odd in [&b"urn:uuid:0-1"[..], b"\"<>\"", b"\"<a b>\"", b"\"<a;b>\"", b""] {
            assert_eq!(instance(odd), None);
        }
    }
}
