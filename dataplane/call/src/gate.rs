//! The gate: who a request comes from, by trunk address or digest (RFC 3261 22, RFC 7616, RFC 8760).
//! Owns:  the decision `Gate`; nonces live at the desk.
//! Gives: the same challenge and the same refusal for known and unknown users.
//! Never: a password in a notice, a code that tells a user from no user.
//! Holds: an authenticated caller's From is its own user name.

use std::net::SocketAddr;

use shared::event::Severity;
use shared::limits;
use shared::metrics::Counter;
use shared::settings::DigestAlgorithm;
use shared::snapshot::{Secret, Trunk};
use sip::auth::{Algorithm, Credentials, NonceVerdict, verify, write_challenges};
use sip::wire::{HeaderName, Message};

use crate::desk::{Desk, Reply};
use crate::transactions::ServerKey;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// 407, Proxy-Authorization.
    Call,
    /// 401, Authorization.
    Registration,
}

impl Asked {
    const fn status(self) -> u16 {
        match self {
            Self::Call => 407,
            Self::Registration => 401,
        }
    }

    const fn challenge_header(self) -> &'static str {
        match self {
            Self::Call => "Proxy-Authenticate",
            Self::Registration => "WWW-Authenticate",
        }
    }

    const fn credentials_header(self) -> HeaderName {
        match self {
            Self::Call => HeaderName::ProxyAuthorization,
            Self::Registration => HeaderName::Authorization,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// The user's name.
    Passed(Box<str>),
    Challenge {
        stale: bool,
    },
    Refused(u16),
}

/// The trunk that a call comes from, by its source address, and by the users of From and To where
/// several trunks share one address.
pub(crate) fn trunk_of<'s>(
    desk: &'s Desk,
    peer: SocketAddr,
    from_user: &[u8],
    to_user: &[u8],
) -> Option<&'s Trunk> {
    let open = |trunk: &&Trunk| trunk.enabled && trunk.direction.gives_calls();
    let starts = |prefix: &Option<Box<str>>, user: &[u8]| {
        prefix.as_ref().is_none_or(|prefix| user.starts_with(prefix.as_bytes()))
    };
    desk.snapshot.trunks.iter().filter(open).find(|trunk| {
        comes_from(trunk, peer)
            && starts(&trunk.from_prefix, from_user)
            && starts(&trunk.to_prefix, to_user)
    })
}

fn comes_from(trunk: &Trunk, peer: SocketAddr) -> bool {
    let known = |known: &SocketAddr| {
        known.ip() == peer.ip() && (known.port() == 0 || known.port() == peer.port())
    };
    trunk.address == peer
        || trunk.inbound.iter().any(known)
        || trunk.inbound_networks.iter().any(|network| network.contains(peer.ip()))
}

/// Checks the digest of a request. Nothing is answered here.
pub(crate) fn authenticate(
    desk: &mut Desk,
    request: &Message<'_>,
    method: &[u8],
    asked: Asked,
) -> Gate {
    let realm = desk.settings.realm.clone();
    // A phone may carry credentials for several realms; only ours count, the first that we can read.
    let mine = request.all(asked.credentials_header()).find_map(|value| {
        let found = Credentials::parse(value).ok()?;
        (*found.realm_text() == *realm.as_bytes()).then_some(found)
    });
    let Some(credentials) = mine else { return Gate::Challenge { stale: false } };
    let username = credentials.username_text().unwrap_or_default().into_owned();
    let user = desk.snapshot.users.get(username.as_str());
    // The same work for a user that we do not know, so that time tells nothing.
    let nobody = Secret::Plain("an unknown user has no password".into());
    let digest_fits =
        verify(&credentials, method, &realm, user.map_or(&nobody, |user| &user.secret));
    let right = user.is_some() && digest_fits;
    if !right {
        desk.count(Counter::AuthFailed);
        desk.notice(Severity::Warning, "auth_failed", || {
            format!("digest of user {username:?} does not verify ({asked:?})")
        });
        return Gate::Refused(403);
    }
    // Only who knows the password moves the nonce count (RFC 7616 5.12: stale means all but the nonce fits).
    match desk.nonces.check(desk.now.mono, credentials.nonce, credentials.nc) {
        NonceVerdict::Fresh => {}
        NonceVerdict::Stale | NonceVerdict::Foreign => return Gate::Challenge { stale: true },
        NonceVerdict::Replayed => {
            desk.count(Counter::AuthReplayed);
            return Gate::Challenge { stale: true };
        }
    }
    match user_state(desk, &username) {
        Some(true) => Gate::Passed(username.into()),
        _ => Gate::Refused(403),
    }
}

fn user_state(desk: &Desk, username: &str) -> Option<bool> {
    desk.snapshot.users.get(username).map(|user| user.enabled)
}

/// Answers 401 or 407 with a fresh nonce.
pub(crate) fn challenge(desk: &mut Desk, key: ServerKey, asked: Asked, stale: bool) {
    desk.count(Counter::AuthChallenged);
    let random = desk.mint.random();
    let nonce = desk.nonces.mint(desk.now.mono, random);
    let offered = desk.settings.algorithms.iter();
    let algorithms: Vec<_> = offered.map(|algorithm| offer(*algorithm)).collect();
    desk.respond(key, Reply::new(asked.status()), |desk, _, mut out| {
        let realm = &desk.settings.realm;
        write_challenges(&mut out, asked.challenge_header(), realm, &nonce, stale, &algorithms);
        out.end();
    });
}

const fn offer(algorithm: DigestAlgorithm) -> Algorithm {
    match algorithm {
        DigestAlgorithm::Md5 => Algorithm::Md5,
        DigestAlgorithm::Sha256 => Algorithm::Sha256,
        DigestAlgorithm::Sha512_256 => Algorithm::Sha512_256,
    }
}

/// Whether the shard has room for one more call.
pub(crate) fn overloaded(desk: &Desk, calls: usize) -> bool {
    calls >= limits::CALLS_PER_SHARD_MAX
        || desk.transactions.len() + 32 >= limits::TRANSACTIONS_PER_SHARD_MAX
        || desk.out.counters.of(Counter::EventBacklog) >= limits::EVENT_BACKLOG_MAX as u64
        || desk.out.counters.of(Counter::JournalWaiting) >= limits::JOURNAL_WAITING_BYTES_MAX as u64
}

/// 503 with Retry-After (RFC 3261 21.5.4), spread so that the peers do not come back all at once.
pub(crate) fn refuse_overload(desk: &mut Desk, key: ServerKey) {
    desk.count(Counter::OverloadRefused);
    let wait = 2 + desk.mint.random() % 9;
    desk.respond(key, Reply::new(503), |_, _, mut out| {
        out.header_fmt("Retry-After", format_args!("{wait}"));
        out.end();
    });
}
