//! The client side of digest: which challenge is answered, how often, with which count (RFC 7616 3.4).
//! Owns:  `Tries` of one request, `NonceCounts` of everything that we answered lately.
//! Gives: the challenge to answer, or why there is none.
//! Never: a secret; `answer` takes it where it is used.
//! Holds: no request is asked more than `ANSWERS_MAX` times again, a stale nonce is forgiven once.

use std::collections::VecDeque;

use super::{Algorithm, Challenge, Credentials};
use crate::wire::{HeaderName, Message};

/// A proxy and the server behind it may both ask, and one of their nonces may be stale.
const ANSWERS_MAX: u8 = 3;
/// Nonces whose count is kept. A forgotten one begins anew, and its server says that it is stale.
const NONCES_KEPT: usize = 256;
/// Longer nonces are no reason to keep them.
const NONCE_BYTES_MAX: usize = 512;

/// How often a request was asked again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tries {
    answered: u8,
    forgiven: bool,
}

/// Why a challenge is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// Nothing of it can be read, or it asks for what we do not do.
    Unreadable,
    /// It is for a realm that our credentials are not for.
    OtherRealm,
    /// They had our credentials and ask again.
    Refused,
}

impl Unanswered {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "asks for credentials in a way that is not supported",
            Self::OtherRealm => "asks for credentials of another realm",
            Self::Refused => "does not take the credentials",
        }
    }
}

/// Where a challenge of this status stands, and where its answer goes (RFC 3261 22.2, 22.3).
pub const fn header_names(status: u16) -> Option<(HeaderName, HeaderName)> {
    match status {
        401 => Some((HeaderName::WwwAuthenticate, HeaderName::Authorization)),
        407 => Some((HeaderName::ProxyAuthenticate, HeaderName::ProxyAuthorization)),
        _ => None,
    }
}

impl Tries {
    /// The strongest challenge of `response` to answer, and the tries with it. `realm`: the only one
    /// that our credentials are for; without it the first that is named counts.
    ///
    /// # Errors
    /// Says why the request is not to be asked again.
    pub fn challenge<'a>(
        self,
        request: &Message<'_>,
        response: &Message<'a>,
        realm: Option<&str>,
    ) -> Result<(Challenge<'a>, Self), Unanswered> {
        let names = response.status().and_then(header_names);
        let (asks, answers) = names.ok_or(Unanswered::Unreadable)?;
        let challenge = strongest(response, asks, realm)?;
        let realm = challenge.realm_text();
        let was_answered = request
            .all(answers)
            .any(|value| Credentials::parse(value).is_ok_and(|sent| *sent.realm_text() == *realm));
        let forgives = was_answered && challenge.stale && !self.forgiven;
        if self.answered >= ANSWERS_MAX || (was_answered && !forgives) {
            return Err(Unanswered::Refused);
        }
        let tries = Self { answered: self.answered + 1, forgiven: self.forgiven || forgives };
        Ok((challenge, tries))
    }
}

fn strongest<'a>(
    response: &Message<'a>,
    asks: HeaderName,
    realm: Option<&str>,
) -> Result<Challenge<'a>, Unanswered> {
    let readable = || response.all(asks).filter_map(|value| Challenge::parse(value).ok());
    let first = readable().next().ok_or(Unanswered::Unreadable)?;
    let first = first.realm_text();
    let realm = realm.map_or(&*first, str::as_bytes);
    let strength = |challenge: &Challenge<'_>| {
        let place = Algorithm::STRONGEST_FIRST.iter().position(|one| *one == challenge.algorithm);
        place.unwrap_or(usize::MAX)
    };
    let fits = |challenge: &Challenge<'_>| *challenge.realm_text() == *realm;
    readable().filter(fits).min_by_key(strength).ok_or(Unanswered::OtherRealm)
}

/// How often each nonce was used: its count grows with every answer (RFC 7616 3.4).
#[derive(Clone, Debug, Default)]
pub struct NonceCounts {
    /// Oldest first.
    counts: VecDeque<(Box<[u8]>, u32)>,
}

impl NonceCounts {
    /// The count of one more answer with this nonce.
    pub fn next(&mut self, nonce: &[u8]) -> u32 {
        let place = self.counts.iter().rposition(|(known, _)| **known == *nonce);
        let (known, count) = match place.and_then(|place| self.counts.remove(place)) {
            Some((known, count)) => (known, count.saturating_add(1)),
            None if nonce.len() > NONCE_BYTES_MAX => return 1,
            None => (nonce.into(), 1),
        };
        if self.counts.len() >= NONCES_KEPT {
            self.counts.pop_front();
        }
        self.counts.push_back((known, count));
        count
    }

    /// What another shard has used counts here as well: of each nonce the higher count.
    pub fn learn(&mut self, others: &Self) {
        for (nonce, count) in &others.counts {
            match self.counts.iter_mut().find(|(known, _)| known == nonce) {
                Some((_, known)) => *known = (*known).max(*count),
                None => self.counts.push_back((nonce.clone(), *count)),
            }
        }
        while self.counts.len() > NONCES_KEPT {
            self.counts.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::scan;

    const COMMON: &str = "Via: SIP/2.0/UDP h;branch=z9hG4bKx\r\nFrom: <sip:a@h>;tag=1\r\n\
        To: <sip:b@h>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n";

    fn request(headers: &str) -> String {
        format!("INVITE sip:b@h SIP/2.0\r\n{COMMON}{headers}Content-Length: 0\r\n\r\n")
    }

    fn response(status: u16, headers: &str) -> String {
        format!("SIP/2.0 {status} No\r\n{COMMON}{headers}Content-Length: 0\r\n\r\n")
    }

    fn asks(realm: &str, algorithm: &str, rest: &str) -> String {
        format!(
            "WWW-Authenticate: Digest realm=\"{realm}\", nonce=\"n-{algorithm}\", \
             algorithm={algorithm}, qop=\"auth\"{rest}\r\n"
        )
    }

    fn picks(headers: &str, realm: Option<&str>) -> Result<(String, Algorithm), Unanswered> {
        let (request, response) = (request(""), response(401, headers));
        let request = scan(request.as_bytes()).expect("a request");
        let response = scan(response.as_bytes()).expect("a response");
        let (challenge, _) = Tries::default().challenge(&request, &response, realm)?;
        let realm = String::from_utf8(challenge.realm_text().into_owned()).expect("text");
        Ok((realm, challenge.algorithm))
    }

    /// RFC 8760 2.4: the strongest that both sides know, of the realm that the credentials are for.
    #[test]
    fn the_strongest_challenge_of_the_realm_is_answered() {
        let both = asks("r", "MD5", "") + &asks("r", "SHA-512-256", "") + &asks("r", "SHA-256", "");
        assert_eq!(picks(&both, None), Ok(("r".to_owned(), Algorithm::Sha512_256)));
        let two = asks("evil", "SHA-512-256", "") + &asks("r", "MD5", "");
        assert_eq!(picks(&two, Some("r")), Ok(("r".to_owned(), Algorithm::Md5)));
        assert_eq!(picks(&two, None), Ok(("evil".to_owned(), Algorithm::Sha512_256)));
        assert_eq!(picks(&two, Some("other")), Err(Unanswered::OtherRealm));
        assert_eq!(picks("", Some("r")), Err(Unanswered::Unreadable));
        let basic = "WWW-Authenticate: Basic realm=\"r\"\r\n";
        assert_eq!(picks(basic, Some("r")), Err(Unanswered::Unreadable));
        let unknown = asks("r", "MD5-sess", "") + &asks("r", "MD5", "");
        assert_eq!(picks(&unknown, Some("r")), Ok(("r".to_owned(), Algorithm::Md5)));
    }

    /// RFC 7616 3.3: stale says that only the nonce was wrong. Anything else is a no.
    #[test]
    fn a_second_challenge_is_a_refusal_unless_stale_and_that_once() {
        let sent = request(
            "Authorization: Digest username=\"u\", realm=\"r\", nonce=\"n\", uri=\"sip:b@h\", \
             response=\"0\"\r\n",
        );
        let sent = scan(sent.as_bytes()).expect("a request");
        let verdict = |tries: Tries, rest: &str| {
            let response = response(401, &asks("r", "MD5", rest));
            let response = scan(response.as_bytes()).expect("a response");
            tries.challenge(&sent, &response, Some("r")).map(|(_, tries)| tries)
        };
        let once = Tries { answered: 1, forgiven: false };
        assert_eq!(verdict(once, ""), Err(Unanswered::Refused));
        let twice = verdict(once, ", stale=true").expect("it is forgiven once");
        assert_eq!(twice, Tries { answered: 2, forgiven: true });
        assert_eq!(verdict(twice, ", stale=true"), Err(Unanswered::Refused));
    }

    /// RFC 3261 22.3: a proxy may ask, then the server behind it; each gets its own.
    #[test]
    fn a_proxy_and_a_server_may_both_ask_but_nobody_for_ever() {
        let sent = request(
            "Proxy-Authorization: Digest username=\"u\", realm=\"r\", nonce=\"n\", \
             uri=\"sip:b@h\", response=\"0\"\r\n",
        );
        let sent = scan(sent.as_bytes()).expect("a request");
        let response = response(401, &asks("r", "MD5", ""));
        let response = scan(response.as_bytes()).expect("a response");
        let mut tries = Tries { answered: 1, forgiven: false };
        for _ in 1..ANSWERS_MAX {
            tries = tries.challenge(&sent, &response, None).expect("another kind").1;
        }
        assert_eq!(tries.challenge(&sent, &response, None).err(), Some(Unanswered::Refused));
    }

    #[test]
    fn counts_grow_for_each_nonce_and_are_bounded() {
        let mut counts = NonceCounts::default();
        assert_eq!([counts.next(b"a"), counts.next(b"b"), counts.next(b"a")], [1, 1, 2]);
        for number in 0..2 * NONCES_KEPT {
            counts.next(format!("n{number}").as_bytes());
        }
        assert_eq!(counts.counts.len(), NONCES_KEPT);
        assert_eq!(counts.next(b"a"), 1, "the oldest is forgotten");
        let long = [b'x'; NONCE_BYTES_MAX + 1];
        assert_eq!([counts.next(&long), counts.next(&long)], [1, 1]);
    }
}
