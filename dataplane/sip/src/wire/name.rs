//! Header names: recognised without regard to case, compact forms included (RFC 3261 7.3.3, 20).
//! Owns:  the table of names that the gateway treats by meaning.
//! Gives: `HeaderName::parse`, `as_str`.
//! Never: an allocation or a hash; length and letters decide.
//! Holds: `parse(as_str(n)) == n` for every name but `Other`.

macro_rules! names {
    ($( $variant:ident $text:literal $($compact:literal)? ; )*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum HeaderName { $( $variant, )* Other }

        impl HeaderName {
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )* ];

            /// The canonical long form; `Other` has none of its own.
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

const LENGTH_MAX: usize = 20;

/// Names by length: at most a handful are compared letter by letter.
const BY_LENGTH: [&[HeaderName]; LENGTH_MAX + 1] = {
    use HeaderName as N;
    let mut table: [&[HeaderName]; LENGTH_MAX + 1] = [&[]; LENGTH_MAX + 1];
    table[2] = &[N::To];
    table[3] = &[N::Via];
    table[4] = &[N::From, N::CSeq, N::Date, N::Path, N::RAck, N::RSeq];
    table[5] = &[N::Allow, N::Event, N::Route];
    table[6] = &[N::Accept, N::MinSe, N::Reason, N::Server];
    table[7] = &[N::CallId, N::Contact, N::Expires, N::Privacy, N::Require, N::Subject, N::Warning];
    table[8] = &[N::Priority, N::Replaces, N::ReplyTo, N::ReferTo, N::SipEtag];
    table[9] = &[N::CallInfo, N::Diversion, N::Supported, N::Timestamp];
    table[10] = &[N::UserAgent, N::AlertInfo, N::ErrorInfo];
    table[11] = &[N::InReplyTo, N::MinExpires, N::ReferredBy, N::RetryAfter, N::Unsupported];
    table[12] = &[
        N::ContentType,
        N::MaxForwards,
        N::RecordRoute,
        N::AllowEvents,
        N::HistoryInfo,
        N::Organization,
        N::SipIfMatch,
        N::UserToUser,
    ];
    table[13] = &[N::Authorization, N::ProxyRequire, N::ServiceRoute];
    table[14] = &[N::ContentLength];
    table[15] = &[N::SessionExpires];
    table[16] = &[N::ContentEncoding, N::ContentLanguage, N::WwwAuthenticate];
    table[18] = &[N::ProxyAuthenticate, N::SubscriptionState];
    table[19] = &[N::ContentDisposition, N::ProxyAuthorization, N::PAssertedIdentity];
    table[20] = &[N::PPreferredIdentity];
    table
};

impl HeaderName {
    pub fn parse(text: &[u8]) -> Self {
        if let [letter] = text {
            return Self::of_compact(*letter);
        }
        let Some(candidates) = BY_LENGTH.get(text.len()) else { return Self::Other };
        let [first, .., last] = text else { return Self::Other };
        let same = |mine: u8, theirs: u8| (mine ^ theirs) & !0x20 == 0;
        candidates
            .iter()
            .copied()
            .find(|name| {
                let known = name.as_str().as_bytes();
                // First and last letter tell nearly all names of one length apart.
                same(known[0], *first)
                    && same(known[known.len() - 1], *last)
                    && (known == text || known.eq_ignore_ascii_case(text))
            })
            .unwrap_or(Self::Other)
    }
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
