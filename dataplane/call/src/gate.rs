//! The gate: who a request comes from, by trunk address or digest (RFC 3261 22, RFC 7616, RFC 8760).
//! Owns:  the decision `Gate`; nonces live at the desk.
//! Gives: the same challenge and the same refusal for known and unknown users.
//! Never: a password in a notice, a code that tells a user from no user.
//! Holds: an authenticated caller's From is its own user name, or nobody's.

use std::net::SocketAddr;
use std::rc::Rc;

use shared::event::Severity;
use shared::limits;
use shared::metrics::Counter;
use shared::net::Source;
use shared::settings::DigestAlgorithm;
use shared::snapshot::{Secret, Trunk, User};
use sip::auth::{Algorithm, Credentials, NonceVerdict, verify, write_challenges};
use sip::wire::{HeaderName, Message};

use crate::b2bua::identity::names_nobody;
use crate::core::Core;
use crate::desk::{Desk, Reply};
use crate::transactions::ServerKey;

/// Longer names are nobody's; nobody is asked about them.
const USERNAME_BYTES_MAX: usize = 128;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// 407, Proxy-Authorization.
    Call,
    /// The same for a text outside a dialog.
    Message,
    /// The same for a REFER outside a dialog.
    Referral,
    /// 401, Authorization.
    Registration,
    /// The same: it is with us that somebody subscribes.
    Subscription,
}

impl Asked {
    const fn status(self) -> u16 {
        match self {
            Self::Call | Self::Message | Self::Referral => 407,
            Self::Registration | Self::Subscription => 401,
        }
    }

    const fn challenge_header(self) -> &'static str {
        match self {
            Self::Call | Self::Message | Self::Referral => "Proxy-Authenticate",
            Self::Registration | Self::Subscription => "WWW-Authenticate",
        }
    }

    /// Of the request that carries the credentials.
    pub(crate) const fn method(self) -> &'static str {
        match self {
            Self::Call => "INVITE",
            Self::Referral => "REFER",
            Self::Message => "MESSAGE",
            Self::Registration => "REGISTER",
            Self::Subscription => "SUBSCRIBE",
        }
    }

    const fn credentials_header(self) -> HeaderName {
        match self {
            Self::Call | Self::Message | Self::Referral => HeaderName::ProxyAuthorization,
            Self::Registration | Self::Subscription => HeaderName::Authorization,
        }
    }
}

/// Whose call it is that begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    /// Without an account, at somebody who takes such calls.
    Guest,
    Trunk(Box<str>),
    /// Calls need no password here.
    Unasked,
    /// Whose password was right.
    User(Box<str>),
}

impl Sender {
    pub(crate) fn user(&self) -> Option<&str> {
        if let Self::User(name) = self { Some(name) } else { None }
    }

    pub(crate) fn trunk_name(&self) -> Option<&str> {
        if let Self::Trunk(name) = self { Some(name) } else { None }
    }

    pub(crate) fn trunk(self) -> Option<Box<str>> {
        if let Self::Trunk(name) = self { Some(name) } else { None }
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

/// Credentials that the user backends have to be asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unsettled {
    pub name: Box<str>,
    /// Place in the chain of the backend that knows the name here.
    pub known_at: Option<u8>,
}

/// The trunk that a call comes from, by its source address, and by the users of From and To where
/// several trunks share one address.
pub(crate) fn trunk_of<'s>(
    desk: &'s Desk,
    peer: SocketAddr,
    from_user: &[u8],
    to_user: &[u8],
) -> Option<&'s Trunk> {
    // One that has a certificate is known by nothing else: an address can be forged.
    let open = |trunk: &&Trunk| {
        trunk.enabled && trunk.direction.gives_calls() && trunk.options.tls_names.is_empty()
    };
    let starts = |prefix: &Option<Box<str>>, user: &[u8]| {
        prefix.as_ref().is_none_or(|prefix| user.starts_with(prefix.as_bytes()))
    };
    desk.snapshot.trunks.iter().filter(open).find(|trunk| {
        comes_from(trunk, peer)
            && starts(&trunk.from_prefix, from_user)
            && starts(&trunk.to_prefix, to_user)
    })
}

/// Whether any enabled trunk has this address.
pub(crate) fn is_of_trunk(desk: &Desk, peer: SocketAddr) -> bool {
    desk.snapshot.trunks.iter().any(|trunk| trunk.enabled && comes_from(trunk, peer))
}

fn comes_from(trunk: &Trunk, peer: SocketAddr) -> bool {
    trunk.entrances.iter().any(|entrance| entrance.address == peer)
        || trunk.inbound.iter().any(|host| host.has(peer))
        || trunk.inbound_networks.iter().any(|network| network.contains(peer.ip()))
}

/// Checks the digest of a request, or says who has to be asked first. Nothing is answered here.
pub(crate) fn authenticate(
    desk: &mut Desk,
    request: &Message<'_>,
    asked: Asked,
) -> Result<Gate, Unsettled> {
    let Some(credentials) = credentials(desk, request, asked) else {
        return Ok(Gate::Challenge { stale: false });
    };
    let name = credentials.username_text().unwrap_or_default();
    let known_at = desk.snapshot.users.get(&name).map(|user| user.backend);
    let remote = desk.snapshot.remote_users.as_ref();
    let asks = remote.is_some_and(|remote| known_at.is_none_or(|known| known > remote.first));
    let askable = (1..=USERNAME_BYTES_MAX).contains(&name.len());
    if !asks || !askable || credentials.refusal().is_some() {
        return Ok(settle(desk, request, asked, None));
    }
    // Nobody makes us ask with a nonce that could not pass anyway: the phone repeats with a fresh one.
    if !desk.nonces.is_current(desk.now.mono, credentials.nonce) {
        return Ok(Gate::Challenge { stale: true });
    }
    Err(Unsettled { name: name.into(), known_at })
}

/// The credentials for our realm. A phone may carry those of several; the first that we can read
/// counts.
fn credentials<'m>(desk: &Desk, request: &Message<'m>, asked: Asked) -> Option<Credentials<'m>> {
    request.all(asked.credentials_header()).find_map(|value| {
        let found = Credentials::parse(value).ok()?;
        (*found.realm_text() == *desk.settings.realm.as_bytes()).then_some(found)
    })
}

/// Whether the snapshot itself knows the user of the credentials.
pub(crate) fn knows(desk: &Desk, request: &Message<'_>, asked: Asked) -> bool {
    name(desk, request, asked).is_some_and(|name| desk.snapshot.users.contains_key(name.as_str()))
}

/// The user of the credentials.
pub(crate) fn name(desk: &Desk, request: &Message<'_>, asked: Asked) -> Option<String> {
    credentials(desk, request, asked)?.username_text().map(Into::into)
}

/// The digest against what a backend answered, else against what the snapshot knows.
pub(crate) fn settle(
    desk: &mut Desk,
    request: &Message<'_>,
    asked: Asked,
    found: Option<User>,
) -> Gate {
    let Some(credentials) = credentials(desk, request, asked) else {
        return Gate::Challenge { stale: false };
    };
    let realm = &desk.settings.realm;
    let username = credentials.username_text().unwrap_or_default().into_owned();
    let known = || desk.snapshot.users.get(username.as_str()).map(AsRef::as_ref);
    let user = found.as_ref().or_else(known);
    // The same work for a user that we do not know, so that time tells nothing.
    let nobody = Secret::Plain("an unknown user has no password".into());
    let secret = user.map_or(&nobody, |user| &user.secret);
    let digest_fits = verify(&credentials, asked.method().as_bytes(), realm, secret);
    let right = user.is_some() && digest_fits;
    let enabled = user.is_some_and(|user| user.enabled);
    if !right {
        desk.count(Counter::AuthFailed);
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
    if enabled { Gate::Passed(username.into()) } else { Gate::Refused(403) }
}

/// Answers 401 or 407 with a fresh nonce.
pub(crate) fn challenge(
    desk: &mut Desk,
    key: ServerKey,
    asked: Asked,
    stale: bool,
) -> Option<Rc<Vec<u8>>> {
    desk.count(Counter::AuthChallenged);
    let random = desk.mint.random();
    let nonce = desk.nonces.mint(desk.now.mono, random);
    let offered = desk.settings.algorithms.iter();
    let algorithms: Vec<_> = offered.map(|algorithm| offer(*algorithm)).collect();
    desk.respond(key, Reply::new(asked.status()), |desk, _, mut out| {
        let realm = &desk.settings.realm;
        write_challenges(&mut out, asked.challenge_header(), realm, &nonce, stale, &algorithms);
        out.end();
    })
}

const fn offer(algorithm: DigestAlgorithm) -> Algorithm {
    match algorithm {
        DigestAlgorithm::Md5 => Algorithm::Md5,
        DigestAlgorithm::Sha256 => Algorithm::Sha256,
        DigestAlgorithm::Sha512_256 => Algorithm::Sha512_256,
    }
}

/// Whether the shard has no room for one more call, or was told to take none.
pub(crate) fn overloaded(desk: &Desk, calls: usize) -> bool {
    !desk.intake.calls
        || calls >= limits::CALLS_PER_SHARD_MAX
        || desk.transactions.len() + 32 >= limits::TRANSACTIONS_PER_SHARD_MAX
        || desk.out.counters.of(Counter::EventBacklog) >= limits::EVENT_BACKLOG_MAX as u64
        || desk.out.counters.of(Counter::JournalWaiting) >= limits::JOURNAL_WAITING_BYTES_MAX as u64
}

/// 503 for credentials that nobody can check now: never 403, which would make a phone give up.
pub(crate) fn refuse_unavailable(desk: &mut Desk, key: ServerKey) {
    desk.notice(Severity::Warning, "users_unavailable", || {
        "no user backend can tell about credentials: the request is answered 503".to_owned()
    });
    refuse_later(desk, key);
}

impl Core {
    /// The user whose password the request shows and whose name its From bears. `None`: it has been
    /// challenged or refused.
    pub(crate) fn proven_sender(
        &mut self,
        server: ServerKey,
        from: &Source,
        request: &Message<'_>,
        asked: Asked,
        gate: Gate,
    ) -> Option<Box<str>> {
        self.weigh(from, request, asked, &gate);
        let user = match gate {
            Gate::Challenge { stale } => {
                challenge(&mut self.desk, server, asked, stale);
                return None;
            }
            Gate::Refused(status) => {
                self.desk.refuse(server, status);
                return None;
            }
            Gate::Passed(user) => user,
        };
        if may_send_as(request, &user) {
            return Some(user);
        }
        self.desk.count(Counter::AuthFailed);
        self.other_identity(from, &user);
        self.desk.refuse(server, 403); // another one's identity
        None
    }
}

/// Whether From names the user whose password was right, or nobody: then the password alone says who
/// it is (RFC 3323 4.1.1.3).
fn may_send_as(request: &Message<'_>, user: &str) -> bool {
    let sender = request.from().ok().and_then(|from| from.parsed_uri().ok());
    sender.is_some_and(|uri| *uri.user_unescaped() == *user.as_bytes() || names_nobody(&uri))
}

/// 503 with Retry-After (RFC 3261 21.5.4), spread so that the peers do not come back all at once.
pub(crate) fn refuse_overload(desk: &mut Desk, key: ServerKey) {
    desk.count(Counter::OverloadRefused);
    refuse_later(desk, key);
}

/// The same for a source that holds as many calls as one may.
pub(crate) fn refuse_source(desk: &mut Desk, key: ServerKey) {
    desk.count(Counter::SourceCallsRefused);
    refuse_later(desk, key);
}

/// Seconds for Retry-After, so that not all come back at once.
pub(crate) fn spread_wait(desk: &mut Desk) -> u64 {
    2 + desk.mint.random() % 9
}

fn refuse_later(desk: &mut Desk, key: ServerKey) {
    let wait = spread_wait(desk);
    desk.respond(key, Reply::new(503), |_, _, mut out| {
        out.header_fmt("Retry-After", format_args!("{wait}"));
        out.end();
    });
}
