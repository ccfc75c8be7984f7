//! Header names: recognised without regard to case, compact forms included (RFC 3261 7.3.3, 20).
//! Owns:  the table of names that the gateway treats by meaning.
//! Gives: `HeaderName::parse`, `as_str`.
//! Never: an allocation; length and letters decide.
//! Holds: `parse(as_str(n)) == n` for every name but `Other`.

use std::ops::RangeInclusive;

macro_rules! names {
    ($( $variant:ident $text:literal $($compact:literal)? ; )*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum HeaderName { $( $variant, )* Other }

        impl HeaderName {
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )* ];

            /// The canonical long form; `Other` has none of its own.
            #[inline]
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $text, )* Self::Other => "" }
            }

            const fn of_compact(letter: u8) -> Self {
                match letter.to_ascii_lowercase() {
                    $( $( $compact => Self::$variant, )? )*
                    _ => Self::Other,
                }
            }
        }
    };
}

names! {
    Accept "Accept";
    AlertInfo "Alert-Info";
    Allow "Allow";
    AllowEvents "Allow-Events" b'u';
    Authorization "Authorization";
    CallId "Call-ID" b'i';
    CallInfo "Call-Info";
    Contact "Contact" b'm';
    ContentDisposition "Content-Disposition";
    ContentEncoding "Content-Encoding" b'e';
    ContentLanguage "Content-Language";
    ContentLength "Content-Length" b'l';
    ContentType "Content-Type" b'c';
    CSeq "CSeq";
    Date "Date";
    Diversion "Diversion";
    ErrorInfo "Error-Info";
    Event "Event" b'o';
    Expires "Expires";
    From "From" b'f';
    HistoryInfo "History-Info";
    InReplyTo "In-Reply-To";
    MaxForwards "Max-Forwards";
    MinExpires "Min-Expires";
    MinSe "Min-SE";
    Organization "Organization";
    PAssertedIdentity "P-Asserted-Identity";
    PPreferredIdentity "P-Preferred-Identity";
    Path "Path";
    Priority "Priority";
    Privacy "Privacy";
    ProxyAuthenticate "Proxy-Authenticate";
    ProxyAuthorization "Proxy-Authorization";
    ProxyRequire "Proxy-Require";
    RAck "RAck";
    RSeq "RSeq";
    Reason "Reason";
    RecordRoute "Record-Route";
    ReferTo "Refer-To" b'r';
    ReferredBy "Referred-By" b'b';
    Replaces "Replaces";
    ReplyTo "Reply-To";
    Require "Require";
    RetryAfter "Retry-After";
    Route "Route";
    Server "Server";
    ServiceRoute "Service-Route";
    SessionExpires "Session-Expires" b'x';
    SipEtag "SIP-ETag";
    SipIfMatch "SIP-If-Match";
    Subject "Subject" b's';
    SubscriptionState "Subscription-State";
    Supported "Supported" b'k';
    Timestamp "Timestamp";
    To "To" b't';
    Unsupported "Unsupported";
    UserAgent "User-Agent";
    UserToUser "User-to-User";
    Via "Via" b'v';
    Warning "Warning";
    WwwAuthenticate "WWW-Authenticate";
}

const LENGTHS: RangeInclusive<usize> = 2..=20;

/// A name with its text beside it: to fetch that through `as_str` cost more than to compare it.
#[derive(Clone, Copy)]
struct Known {
    text: &'static [u8],
    name: HeaderName,
}

const COUNT: usize = HeaderName::ALL.len();
const NOBODY: u8 = u8::MAX;

static KNOWN: [Known; COUNT] = {
    let mut known = [Known { text: b"", name: HeaderName::Other }; COUNT];
    let mut number = 0;
    while number < COUNT {
        let name = HeaderName::ALL[number];
        known[number] = Known { text: name.as_str().as_bytes(), name };
        number += 1;
    }
    known
};

/// Three letters and the length are a key that no two names share: the factors were found by trying, and
/// a new name for which they fail does not compile.
const fn key(text: &[u8]) -> u8 {
    const fn letter(byte: u8, factor: u8) -> u8 {
        (byte | 0x20).wrapping_mul(factor)
    }
    let length = text.len();
    letter(text[0], 41)
        .wrapping_add(letter(text[length / 2], 29))
        .wrapping_add(letter(text[length - 1], 20))
        .wrapping_add((length as u8).wrapping_mul(49))
}

/// Places in `KNOWN` by `key`.
static BY_KEY: [u8; 256] = {
    let mut table = [NOBODY; 256];
    let mut number = 0;
    while number < COUNT {
        let key = key(HeaderName::ALL[number].as_str().as_bytes()) as usize;
        assert!(table[key] == NOBODY, "two names share a key");
        table[key] = number as u8;
        number += 1;
    }
    table
};

impl HeaderName {
    #[inline]
    pub fn parse(text: &[u8]) -> Self {
        if let [letter] = text {
            return Self::of_compact(*letter);
        }
        if !LENGTHS.contains(&text.len()) {
            return Self::Other;
        }
        let place = BY_KEY[usize::from(key(text))];
        let Some(known) = KNOWN.get(usize::from(place)) else { return Self::Other };
        let is_it = known.text.len() == text.len() && is_same(known.text, text);
        if is_it { known.name } else { Self::Other }
    }
}

/// Whether two texts of one length are the same without regard to case, a machine word at a time. `known`
/// consists of letters and hyphens.
#[inline]
fn is_same(known: &[u8], text: &[u8]) -> bool {
    let last = text.len();
    match last {
        17.. => {
            same::<8>(known, text, 0)
                && same::<8>(known, text, 8)
                && same::<8>(known, text, last - 8)
        }
        8..=16 => same::<8>(known, text, 0) && same::<8>(known, text, last - 8),
        4..=7 => same::<4>(known, text, 0) && same::<4>(known, text, last - 4),
        2..=3 => same::<2>(known, text, 0) && same::<2>(known, text, last - 2),
        _ => known == text,
    }
}

/// The same for `N` bytes from `at`, at most 8 of them.
#[inline]
fn same<const N: usize>(known: &[u8], text: &[u8], at: usize) -> bool {
    let word = |bytes: &[u8]| {
        let mut word = [0; 8];
        word[..N].copy_from_slice(&bytes[at..at + N]);
        u64::from_le_bytes(word)
    };
    const CASE: u64 = 0x2020_2020_2020_2020;
    let (known, text) = (word(known), word(text));
    let differs = known ^ text;
    // In the bit of the case alone, and only where there is a letter, which has the bit above it.
    differs & !CASE == 0 && (differs << 1) & !known == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back_in_any_case() {
        for &name in HeaderName::ALL {
            let text = name.as_str();
            for spelling in [text.to_owned(), text.to_uppercase(), text.to_lowercase()] {
                assert_eq!(HeaderName::parse(spelling.as_bytes()), name, "{spelling}");
            }
        }
    }

    #[test]
    fn compact_names_are_the_long_ones() {
        let pairs =
            [(b'i', HeaderName::CallId), (b'm', HeaderName::Contact), (b'V', HeaderName::Via)];
        for (letter, name) in pairs {
            assert_eq!(HeaderName::parse(&[letter]), name);
        }
        for unknown in [&b""[..], b"z", b"X-Thing", b"Vias", b"Call-IDs"] {
            assert_eq!(HeaderName::parse(unknown), HeaderName::Other);
        }
    }
}
