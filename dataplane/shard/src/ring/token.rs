//! What a completion is about: 64 bits that travel through the kernel and come back unchanged.
//! Owns:  `Token` and `Seat`, and how they are packed.
//! Gives: a seat with a generation, so that a late completion never reaches a newer tenant.
//! Never: a pointer; a token that nobody minted is `None`, not undefined behaviour.
//! Holds: `Token::unpack(token.pack()) == Some(token)` while the seat index fits 24 bits.

/// A place in a table, and which tenant of it is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Seat {
    /// Below `Seat::INDEX_MAX`.
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl Seat {
    /// The index has 24 bits in a token: 16 million flows or relays of one shard.
    pub(crate) const INDEX_MAX: u32 = (1 << 24) - 1;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Token {
    /// A listener took a connection.
    Accept {
        listener: u8,
    },
    /// A cancel request itself; what it ended reports under its own token.
    Cancel,
    Connect(Seat),
    /// A datagram for a SIP listener.
    Datagram {
        listener: u8,
    },
    /// A datagram that we sent could not be sent; the seat is its place among the recent ones.
    DatagramSend(Seat),
    FlowReceive(Seat),
    FlowSend(Seat),
    /// A datagram for one of the four sockets of a relay.
    Media {
        relay: Seat,
        leg: u8,
    },
    /// A media packet that we sent could not be sent.
    MediaSend,
}

impl Token {
    pub(crate) const fn pack(self) -> u64 {
        match self {
            Self::Accept { listener } => word(1, listener, 0, 0),
            Self::Cancel => word(2, 0, 0, 0),
            Self::Connect(seat) => word(3, 0, seat.index, seat.generation),
            Self::Datagram { listener } => word(4, listener, 0, 0),
            Self::DatagramSend(seat) => word(5, 0, seat.index, seat.generation),
            Self::FlowReceive(seat) => word(6, 0, seat.index, seat.generation),
            Self::FlowSend(seat) => word(7, 0, seat.index, seat.generation),
            // The leg has two bits and shares the kind's byte: the hottest token stays one word.
            Self::Media { relay, leg } => {
                word(8 | ((leg & 3) << 4), 0, relay.index, relay.generation)
            }
            Self::MediaSend => word(9, 0, 0, 0),
        }
    }

    pub(crate) const fn unpack(word: u64) -> Option<Self> {
        let kind = (word >> 56) as u8;
        let index = ((word >> 32) & Seat::INDEX_MAX as u64) as u32;
        let seat = Seat { index, generation: word as u32 };
        Some(match kind & 0x0f {
            1 => Self::Accept { listener: index as u8 },
            2 => Self::Cancel,
            3 => Self::Connect(seat),
            4 => Self::Datagram { listener: index as u8 },
            5 => Self::DatagramSend(seat),
            6 => Self::FlowReceive(seat),
            7 => Self::FlowSend(seat),
            8 => Self::Media { relay: seat, leg: (kind >> 4) & 3 },
            9 => Self::MediaSend,
            _ => return None,
        })
    }
}

/// Kind in the top byte, then 24 bits of index (or a listener's number), then the generation.
const fn word(kind: u8, listener: u8, index: u32, generation: u32) -> u64 {
    let index = (index & Seat::INDEX_MAX) | listener as u32;
    ((kind as u64) << 56) | ((index as u64) << 32) | generation as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_comes_back_as_it_went() {
        let seat = Seat { index: Seat::INDEX_MAX, generation: u32::MAX };
        let low = Seat { index: 0, generation: 0 };
        let mut tokens = vec![
            Token::Accept { listener: 255 },
            Token::Cancel,
            Token::Datagram { listener: 7 },
            Token::MediaSend,
        ];
        for seat in [seat, low] {
            tokens.extend([
                Token::Connect(seat),
                Token::DatagramSend(seat),
                Token::FlowReceive(seat),
                Token::FlowSend(seat),
            ]);
            tokens.extend((0..4).map(|leg| Token::Media { relay: seat, leg }));
        }
        for token in tokens {
            assert_eq!(Token::unpack(token.pack()), Some(token));
        }
    }

    #[test]
    fn a_word_that_nobody_minted_is_no_token() {
        assert_eq!(Token::unpack(0), None);
        assert_eq!(Token::unpack(0x0f << 56), None);
    }

    #[test]
    fn two_tenants_of_a_seat_have_different_words() {
        let first = Token::Media { relay: Seat { index: 9, generation: 1 }, leg: 0 };
        let second = Token::Media { relay: Seat { index: 9, generation: 2 }, leg: 0 };
        assert_ne!(first.pack(), second.pack());
    }
}
