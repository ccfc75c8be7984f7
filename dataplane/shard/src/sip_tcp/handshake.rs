//! Why a TLS handshake failed, in words that an operator can act on.
//! Owns:  the kinds of failure and which error is which kind.
//! Gives: `SipTcp::handshake_failed`: one count in all, one of its kind, news for the log.
//! Never: a connection that closed before it said anything: that is how ports are probed for health.
//! Holds: the counts of the kinds add up to `TlsHandshakesFailed`.

use rustls::{AlertDescription, Error};

use super::{Counter, Counters, News, Seat, SipTcp};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// One side does not take the other one's certificate.
    Certificate,
    /// The peer went in the middle of it.
    Closed,
    /// No version, cipher or curve in common.
    Incompatible,
    /// What came is no TLS.
    NotTls,
    Other,
    TimedOut,
}

/// Longer texts of an error are cut.
const DETAIL_CHARS_MAX: usize = 160;

impl Why {
    pub(super) fn of(error: &Error) -> Self {
        use AlertDescription as Alert;
        match error {
            Error::InvalidMessage(_) => Self::NotTls,
            Error::PeerIncompatible(_) | Error::NoApplicationProtocol => Self::Incompatible,
            Error::InvalidCertificate(_) | Error::NoCertificatesPresented => Self::Certificate,
            Error::AlertReceived(alert) => match alert {
                Alert::BadCertificate
                | Alert::CertificateExpired
                | Alert::CertificateRequired
                | Alert::CertificateRevoked
                | Alert::CertificateUnknown
                // A signature of the chain does not fit (RFC 8446 6.2).
                | Alert::DecryptError
                | Alert::UnknownCA
                | Alert::UnrecognisedName
                | Alert::UnsupportedCertificate => Self::Certificate,
                Alert::HandshakeFailure | Alert::InsufficientSecurity | Alert::ProtocolVersion => {
                    Self::Incompatible
                }
                Alert::CloseNotify | Alert::UserCanceled => Self::Closed,
                _ => Self::Other,
            },
            _ => Self::Other,
        }
    }

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Closed => "closed",
            Self::Incompatible => "incompatible",
            Self::NotTls => "not_tls",
            Self::Other => "other",
            Self::TimedOut => "timed_out",
        }
    }

    const fn counter(self) -> Counter {
        match self {
            Self::Certificate => Counter::TlsFailedCertificate,
            Self::Closed => Counter::TlsFailedClosed,
            Self::Incompatible => Counter::TlsFailedIncompatible,
            Self::NotTls => Counter::TlsFailedNotTls,
            Self::Other => Counter::TlsFailedOther,
            Self::TimedOut => Counter::TlsFailedTimedOut,
        }
    }
}

/// A failure with its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flaw {
    pub(super) why: Why,
    pub(super) detail: String,
}

impl Flaw {
    pub(super) fn of(error: &Error) -> Self {
        let detail = error.to_string().chars().take(DETAIL_CHARS_MAX).collect();
        Self { why: Why::of(error), detail }
    }

    pub(super) fn new(why: Why, detail: &str) -> Self {
        Self { why, detail: detail.to_owned() }
    }
}

impl SipTcp {
    /// The handshake of this flow has failed; the flow is still there.
    pub(super) fn handshake_failed(&mut self, seat: Seat, flaw: Flaw, counters: &mut Counters) {
        let Some(flow) = self.flow(seat) else { return };
        counters.bump(Counter::TlsHandshakesFailed);
        counters.bump(flaw.why.counter());
        let with = shared::net::Source {
            transport: flow.transport,
            local: flow.local,
            peer: flow.peer,
            flow: None,
        };
        let (is_ours, why) = (!flow.counted, flaw.why.word());
        let failure = call::io::HandshakeFailure { with, is_ours, why, detail: flaw.detail };
        self.news.push_back(News::HandshakeFailed(Box::new(failure)));
    }
}

#[cfg(test)]
mod tests {
    use rustls::{CertificateError, InvalidMessage, PeerIncompatible};

    use super::*;

    #[test]
    fn errors_have_their_kinds() {
        let kinds = [
            (Error::InvalidMessage(InvalidMessage::InvalidContentType), Why::NotTls),
            (Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon), Why::Incompatible),
            (Error::AlertReceived(AlertDescription::ProtocolVersion), Why::Incompatible),
            (Error::AlertReceived(AlertDescription::UnknownCA), Why::Certificate),
            (Error::InvalidCertificate(CertificateError::Expired), Why::Certificate),
            (Error::AlertReceived(AlertDescription::InternalError), Why::Other),
            (Error::DecryptError, Why::Other),
        ];
        for (error, why) in kinds {
            assert_eq!(Why::of(&error), why, "{error}");
        }
        let long = Flaw::of(&Error::General("x".repeat(1_000)));
        assert!(long.detail.len() <= DETAIL_CHARS_MAX);
    }
}
