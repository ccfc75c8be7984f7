//! Ids: who is meant, without a pointer and without a lock.
//! Owns:  shard, call, flow and relay ids, each a type of its own.
//! Gives: slot ids carry a generation, so a stale id never reaches a newer tenant of the slot.
//! Never: mints an id; the owner of the table does.
//! Holds: `CallId` sorts by start time and is unique across restarts.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroU32;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One data-plane thread; `0..limits::SHARDS_MAX`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct ShardId(pub u8);

impl ShardId {
    /// The shard that keeps what is named so: the bindings of a user, the call of a Call-ID.
    /// FNV-1a: the same on every shard and every start; nothing secret hangs on it.
    pub fn of_name(name: &[u8], shards: u8) -> Self {
        let hash = name.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        // The low bits of FNV are weak for short keys: fold the high half in.
        let spread = (hash ^ (hash >> 32)) % u64::from(shards.max(1));
        Self(u8::try_from(spread).expect("less than 256 shards"))
    }
}

/// Which certificate of ours a trunk is shown: made of the names of its files, so that it is the same in
/// every snapshot of a process and for whatever stands in those files. It is small, since every message's
/// destination has room for it; a configuration in which two fall together is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CertificateId(NonZeroU32);

impl CertificateId {
    pub fn of_files(certificate: &Path, private_key: &Path) -> Self {
        let mut hasher = DefaultHasher::new();
        (certificate, private_key).hash(&mut hasher);
        let low = hasher.finish() as u32; // the low half is as good as the whole
        Self(NonZeroU32::new(low).unwrap_or(NonZeroU32::MIN))
    }
}

/// A B2BUA call: 48 bits of wall time in ms, 8 of shard, 24 of its slot there, 48 random; in text 32
/// hex digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u128);

impl CallId {
    /// The shard that minted it.
    pub const fn shard(self) -> ShardId {
        ShardId(self.0.to_be_bytes()[6])
    }

    /// Its place there, for as long as it stands.
    pub const fn slot(self) -> u32 {
        let [.., high, middle, low, _, _, _, _, _, _] = self.0.to_be_bytes();
        u32::from_be_bytes([0, high, middle, low])
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for CallId {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(Self)
    }
}

impl Serialize for CallId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CallId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A connection-oriented transport flow (RFC 5626): the TCP connection that a message came over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    pub shard: ShardId,
    pub slot: u32,
    pub generation: u32,
}

/// One media line of one call: two sides, each with an RTP and an RTCP port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelayKey {
    pub slot: u32,
    pub generation: u32,
}

/// The two legs of a call. The A leg is the one that called us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    Caller,
    Callee,
}

impl Side {
    pub const BOTH: [Self; 2] = [Self::Caller, Self::Callee];

    pub const fn other(self) -> Self {
        match self {
            Self::Caller => Self::Callee,
            Self::Callee => Self::Caller,
        }
    }

    /// 0 for the caller, 1 for the callee.
    pub const fn index(self) -> usize {
        match self {
            Self::Caller => 0,
            Self::Callee => 1,
        }
    }
}
