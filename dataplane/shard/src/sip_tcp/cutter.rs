//! Cutting a stream into messages (RFC 3261 18.3): what came before plus what came now.
//! Owns:  the bytes of a started message while its flow's new piece is worked on.
//! Gives: whole messages and keep-alives in order; what is left over for the next piece.
//! Never: copies a message that lies whole in one piece.
//! Holds: however a stream is segmented, the same messages come out.

use sip::wire::Malformed;
use sip::wire::frame::{Frame, next_frame};

/// What a stream has next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Cut<'c> {
    /// `ping`: CRLFCRLF, which wants CRLF as its answer (RFC 5626 4.4.1).
    KeepAlive {
        ping: bool,
    },
    /// Nobody can tell where the next message starts. With the bytes that could not be cut.
    Malformed(Malformed, &'c [u8]),
    Message(&'c [u8]),
}

#[derive(Debug)]
pub(crate) struct Cutter<'p> {
    /// The started message with the new piece behind it; empty when nothing was started.
    partial: Vec<u8>,
    piece: &'p [u8],
    used: usize,
}

impl<'p> Cutter<'p> {
    pub(crate) fn new(mut partial: Vec<u8>, piece: &'p [u8]) -> Self {
        if !partial.is_empty() {
            partial.extend_from_slice(piece);
        }
        Self { partial, piece, used: 0 }
    }

    pub(crate) fn next_cut(&mut self) -> Option<Cut<'_>> {
        let start = self.used;
        let bytes = if self.partial.is_empty() { self.piece } else { &self.partial };
        let left = &bytes[start..];
        if left.is_empty() {
            return None;
        }
        match next_frame(left) {
            Frame::NeedMore => None,
            Frame::KeepAlive { length, ping } => {
                self.used += length;
                Some(Cut::KeepAlive { ping })
            }
            Frame::Message { length } => {
                self.used += length;
                Some(Cut::Message(&left[..length]))
            }
            Frame::Malformed(reason) => Some(Cut::Malformed(reason, left)),
        }
    }

    /// What is left over, and whether anything was cut off before it.
    pub(crate) fn into_rest(self) -> (Vec<u8>, bool) {
        let Self { mut partial, piece, used } = self;
        let rest = if partial.is_empty() {
            piece[used..].to_vec()
        } else {
            partial.drain(..used);
            partial
        };
        (rest, used > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: &[u8] = b"OPTIONS sip:a@127.0.0.1 SIP/2.0\r\n\
        Via: SIP/2.0/TCP 127.0.0.1:5999;branch=z9hG4bK1\r\n\
        From: <sip:b@127.0.0.1>;tag=1\r\nTo: <sip:a@127.0.0.1>\r\nCall-ID: c1\r\n\
        CSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 4\r\n\r\nbody";

    /// Everything that comes out of `pieces`, as text.
    fn cut<'p>(pieces: impl Iterator<Item = &'p [u8]>) -> Vec<String> {
        let mut seen = Vec::new();
        let mut partial = Vec::new();
        for piece in pieces {
            let mut cutter = Cutter::new(partial, piece);
            while let Some(cut) = cutter.next_cut() {
                match cut {
                    Cut::KeepAlive { ping } => seen.push(format!("keep-alive {ping}")),
                    Cut::Message(bytes) => {
                        seen.push(String::from_utf8(bytes.to_vec()).expect("text"));
                    }
                    Cut::Malformed(reason, _) => panic!("{reason}"),
                }
            }
            partial = cutter.into_rest().0;
        }
        assert!(partial.is_empty(), "{partial:?}");
        seen
    }

    #[test]
    fn a_stream_gives_the_same_messages_however_it_is_segmented() {
        let stream = [OPTIONS, b"\r\n\r\n", OPTIONS, OPTIONS].concat();
        let whole = cut(std::iter::once(&stream[..]));
        assert_eq!(whole.len(), 4);
        assert_eq!(whole[1], "keep-alive true");
        assert_eq!(whole[0].as_bytes(), OPTIONS);
        for size in 1..stream.len() {
            let mut pieces = cut(stream.chunks(size));
            // A keep-alive may fall apart, a message must not.
            pieces.retain(|cut| !cut.starts_with("keep-alive"));
            assert_eq!(pieces, [whole[0].as_str(); 3], "pieces of {size}");
        }
    }

    #[test]
    fn the_start_of_a_message_is_left_over_and_progress_is_told() {
        let (first, second) = OPTIONS.split_at(40);
        let mut cutter = Cutter::new(Vec::new(), first);
        assert_eq!(cutter.next_cut(), None);
        let (rest, progress) = cutter.into_rest();
        assert_eq!((&rest[..], progress), (first, false));
        let piece = [second, b"OPT"].concat();
        let mut cutter = Cutter::new(rest, &piece);
        assert_eq!(cutter.next_cut(), Some(Cut::Message(OPTIONS)));
        assert_eq!(cutter.next_cut(), None);
        let (rest, progress) = cutter.into_rest();
        assert_eq!((&rest[..], progress), (&b"OPT"[..], true));
    }

    #[test]
    fn a_message_without_a_length_ends_the_stream() {
        let text = String::from_utf8(OPTIONS.to_vec()).expect("text");
        let broken = text.replace("Content-Length: 4\r\n", "");
        let mut cutter = Cutter::new(Vec::new(), broken.as_bytes());
        let Some(Cut::Malformed(_, left)) = cutter.next_cut() else { panic!("it was cut") };
        assert_eq!(left, broken.as_bytes());
    }
}
