//! Bounds on everything that a peer or a program can make grow.
//! Owns:  the numbers, each with its reason.
//! Gives: constants; what an operator may change is in `settings`.
//! Never: a limit without an answer: the code that meets one refuses, counts and says why.
//! Holds: the relations checked at compile time below.

use std::time::Duration;

/// Shard number fits six bits of a minted tag.
pub const SHARDS_MAX: usize = 64;
/// One UDP datagram; also the longest SIP message over a stream.
pub const SIP_MESSAGE_BYTES_MAX: usize = 65_535;
/// Header fields in one message; RFC 4475's longest sane message has fewer than 60.
pub const HEADERS_MAX: usize = 128;
/// One header line, unfolded or not.
pub const HEADER_LINE_BYTES_MAX: usize = 8_192;
/// SDP body and its media lines.
pub const SDP_BYTES_MAX: usize = 16_384;
pub const MEDIA_LINES_MAX: usize = 8;
/// Media lines that we relay; further ones are refused with port 0 (RFC 3264 6).
pub const RELAYS_PER_CALL_MAX: usize = 4;
/// One RTP or RTCP packet: more than an Ethernet frame is not real-time audio.
pub const RTP_PACKET_BYTES_MAX: usize = 2_048;
/// Sides of one shard that hear prompts, tones or keys of ours at a time: 50 packets a second each.
pub const SPEAKERS_MAX: usize = 1_000;
/// Contacts of one AOR.
pub const BINDINGS_PER_AOR_MAX: usize = 16;
/// AORs with bindings on one shard.
pub const AORS_PER_SHARD_MAX: usize = 200_000;
/// Standing calls of one shard, ringing ones included.
pub const CALLS_PER_SHARD_MAX: usize = 20_000;
/// Transactions of one shard: at 500 calls/s some 64 000 linger for 32 s.
pub const TRANSACTIONS_PER_SHARD_MAX: usize = 400_000;
/// B legs of one call at a time (parallel fork).
pub const BRANCHES_PER_CALL_MAX: usize = 16;
/// Actions of programs on one call that wait for their peers.
pub const ACTS_PER_CALL_MAX: usize = 8;
/// The longest that an action may take; the API's own deadline of 30 s lies behind it.
pub const ACT_WAIT_MAX: Duration = Duration::from_secs(25);
/// Targets that a program may name for one call.
pub const TARGETS_PER_CALL_MAX: usize = 16;
/// B legs of one call until it is answered, one target after the other.
pub const LEGS_PER_CALL_MAX: usize = 64;
/// Transfers of one call after that, so that its legs stay countable in a byte: each may fork.
pub const TRANSFERS_PER_CALL_MAX: u8 = 10;
/// Subscriptions of phones on one shard: at most some 2 KiB each.
pub const SUBSCRIPTIONS_PER_SHARD_MAX: usize = 20_000;
/// Those of one user there: a busy-lamp panel has a hundred keys, and a user may have two.
pub const SUBSCRIPTIONS_PER_USER_MAX: usize = 256;
/// Shorter subscriptions are answered 423, longer ones are cut.
pub const SUBSCRIPTION_EXPIRES_MIN_S: u32 = 60;
pub const SUBSCRIPTION_EXPIRES_DEFAULT_S: u32 = 3_600;
pub const SUBSCRIPTION_EXPIRES_MAX_S: u32 = 7_200;
/// Texts outside of dialogs that one shard waits for answers to.
pub const MESSAGES_PER_SHARD_MAX: usize = 4_096;
/// The body of such a text; over UDP RFC 3428 8 wants less.
pub const MESSAGE_BYTES_MAX: usize = 8_192;
pub const MESSAGE_DATAGRAM_BYTES_MAX: usize = 1_300;
/// Addresses under which one trunk is reached, over all of its names.
pub const ENTRANCES_PER_TRUNK_MAX: usize = 8;
/// Addresses that one name of `inbound_hosts` may have.
pub const SOURCES_PER_NAME_MAX: usize = 64;
/// Times that one call is forwarded, what its Diversion headers tell of before included.
pub const FORWARDS_PER_CALL_MAX: u8 = 5;
/// Destinations of trunks that one shard asks if they are there.
pub const TRUNK_WATCHES_MAX: usize = 4_096;
/// Trunks that one shard registers.
pub const ENROLMENTS_MAX: usize = 4_096;
/// The longest that a trunk rests for the Retry-After of its 503: a slip of theirs is no outage of ours.
pub const TRUNK_REST_MAX: Duration = Duration::from_secs(60);
/// Decisions that one shard waits for; beyond it the shard decides by itself at once.
pub const ASKS_PER_SHARD_MAX: usize = 4_096;
/// Events that wait for the control plane when asking it is no use any more.
pub const ASK_BACKLOG_MAX: u64 = 1_024;
/// Replayed Via headers of one request; more is a loop or an attack.
pub const VIAS_MAX: usize = 70;
/// Hops that a request of ours may still take.
pub const MAX_FORWARDS: u8 = 70;
/// TCP flows of one shard, and of one source address.
pub const FLOWS_PER_SHARD_MAX: usize = 20_000;
pub const FLOWS_PER_SOURCE_MAX: usize = 64;
/// The same of a source that is a trunk, is named by the acl, or is this host.
pub const FLOWS_PER_KNOWN_SOURCE_MAX: usize = 4_096;
/// Bytes waiting for a slow TCP reader before its flow is cut.
pub const FLOW_SEND_BYTES_MAX: usize = 262_144;
/// Events that wait in a shard for a slow control plane; beyond it new calls are refused.
pub const EVENT_BACKLOG_MAX: usize = 65_536;
/// News of calls gives way when so many events wait.
pub const NEWS_BACKLOG_MAX: usize = EVENT_BACKLOG_MAX / 16;
/// Journal records that a shard holds back while no segment can be written; beyond it new calls are
/// refused. It holds some 10 000 records.
pub const JOURNAL_WAITING_BYTES_MAX: usize = 8 * 1_024 * 1_024;
/// Segments of one shard that may wait for the control plane; with 16 MiB each that is 4 GiB.
pub const JOURNAL_SEGMENTS_MAX: u64 = 256;
/// Queues between the planes and between shards, in entries.
pub const COMMAND_QUEUE_LEN: usize = 1_024;
pub const EVENT_QUEUE_LEN: usize = 8_192;
pub const MESH_QUEUE_LEN: usize = 4_096;
/// Accounts that called over trunks today, with `[proxy.toll_fraud]`; beyond it new ones are refused.
pub const TOLL_ACCOUNTS_MAX: usize = 65_536;
/// Nonces whose count a shard remembers.
pub const NONCES_MAX: usize = 65_536;
/// Ports rest before they serve another call, so late packets of the old one die first.
pub const PORT_REST_MS: u64 = 30_000;

const _: () = assert!(HEADER_LINE_BYTES_MAX < SIP_MESSAGE_BYTES_MAX);
const _: () = assert!(BRANCHES_PER_CALL_MAX + BINDINGS_PER_AOR_MAX < LEGS_PER_CALL_MAX);
const _: () = assert!(RELAYS_PER_CALL_MAX <= MEDIA_LINES_MAX);
/// The legs of a hunt, its caller, and a fork for each transfer have numbers that fit in a byte.
const LEGS_MAX: usize = LEGS_PER_CALL_MAX + TRANSFERS_PER_CALL_MAX as usize * BRANCHES_PER_CALL_MAX;
const _: () = assert!(LEGS_MAX < 256);
const _: () = assert!(MESSAGE_BYTES_MAX < SIP_MESSAGE_BYTES_MAX);
const _: () = assert!(SUBSCRIPTION_EXPIRES_MIN_S < SUBSCRIPTION_EXPIRES_DEFAULT_S);
const _: () = assert!(SDP_BYTES_MAX < SIP_MESSAGE_BYTES_MAX);
const _: () = assert!(CALLS_PER_SHARD_MAX * 8 <= TRANSACTIONS_PER_SHARD_MAX);
