//! What a peer did wrong with the form of a message.
//! Owns:  `Malformed` and the status that it deserves.
//! Gives: one line for the operator, one status for the peer.
//! Never: a reason that needs the bytes to be understood.
//! Holds: `status()` is `None` exactly where an answer would only feed a scanner or a loop.

use std::fmt;

/// Why received bytes are not a SIP message that we act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The value of this header does not read.
    BadHeader(&'static str),
    /// A header line without a colon, or a name with bytes that no name has.
    BadHeaderLine,
    BadRequestUri,
    BadStartLine,
    /// The status line of a response; responses are never answered.
    BadStatusLine,
    /// CSeq names another method than the start line.
    CSeqMethod,
    /// Content-Length beyond the datagram.
    LengthBeyondDatagram {
        declared: u32,
        received: u32,
    },
    /// A stream message without Content-Length: nobody knows where it ends.
    LengthMissing,
    /// Content-Length that is not a number, or two that differ.
    LengthUnreadable,
    HeaderMissing(&'static str),
    /// A header that may stand once stands twice.
    HeaderRepeated(&'static str),
    LineTooLong,
    MessageTooLong,
    NotSip,
    /// The empty line that ends the headers is missing.
    NoEnd,
    TooManyHeaders,
    TooManyVias,
    Version,
}

impl Malformed {
    /// The response to send; `None` where no answer is due.
    pub const fn status(self) -> Option<u16> {
        match self {
            Self::BadHeader(_)
            | Self::BadHeaderLine
            | Self::BadRequestUri
            | Self::BadStartLine
            | Self::CSeqMethod
            | Self::HeaderMissing(_)
            | Self::HeaderRepeated(_)
            | Self::LengthBeyondDatagram { .. }
            | Self::LengthMissing
            | Self::LengthUnreadable
            | Self::NoEnd => Some(400),
            Self::LineTooLong | Self::MessageTooLong | Self::TooManyHeaders => Some(513),
            Self::TooManyVias => Some(483),
            Self::Version => Some(505),
            Self::BadStatusLine | Self::NotSip => None,
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadHeader(name) => write!(f, "the value of {name} does not read"),
            Self::BadHeaderLine => write!(f, "a header line is not `name: value`"),
            Self::BadRequestUri => write!(f, "the Request-URI does not read"),
            Self::BadStartLine => write!(f, "the start line does not read"),
            Self::BadStatusLine => write!(f, "the status line does not read"),
            Self::CSeqMethod => write!(f, "CSeq names another method than the start line"),
            Self::HeaderMissing(name) => write!(f, "{name} is missing"),
            Self::HeaderRepeated(name) => write!(f, "{name} stands more than once"),
            Self::LengthBeyondDatagram { declared, received } => {
                write!(f, "Content-Length is {declared}, the datagram holds {received}")
            }
            Self::LengthMissing => write!(f, "Content-Length is missing on a stream"),
            Self::LengthUnreadable => write!(f, "Content-Length is not one number"),
            Self::LineTooLong => write!(f, "a header line is too long"),
            Self::MessageTooLong => write!(f, "the message is too long"),
            Self::NoEnd => write!(f, "the empty line after the headers is missing"),
            Self::NotSip => write!(f, "not SIP"),
            Self::TooManyHeaders => write!(f, "too many headers"),
            Self::TooManyVias => write!(f, "too many Via hops"),
            Self::Version => write!(f, "a SIP version that we do not speak"),
        }
    }
}
