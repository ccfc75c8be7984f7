//! Who may do what: logins, sessions, tokens, and the rights that they carry.
//! Owns:  `Access`: it turns what a request brings along into a `Caller`, and passwords into sessions.
//! Gives: the same answers to every front; HTTP's part is in `api/gate.rs`.
//! Never: a header, a cookie or a status.
//! Holds: what is switched off, revoked or expired lets nobody in from the next question on.

mod attempts;
mod audit;
mod caller;
mod passwords;
mod rights;
mod tokens;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use shared::config::{ApiToken, Network};
use tokio::sync::Semaphore;
use tokio::time::Instant;

pub use attempts::Attempts;
pub use audit::{Deed, Outcome};
pub use caller::{Caller, Principal, SessionKey};
pub use passwords::{
    Busy, PASSWORD_BYTES_MAX, PASSWORD_CHARS_MIN, Passwords, hash_now, random_password,
};
pub use rights::{Right, Rights, Scope, of_permission};
pub(crate) use tokens::hex;
pub use tokens::{NewToken, TOKEN_CHARS_MAX, TOKEN_PREFIX, same_text};

use crate::store::{Bounds, Session, Store, StoreError, Token, User};
use tokens::Configured;

/// A session ends so long after its login, whatever happens.
pub const SESSION_LASTS_MS: i64 = 12 * 3_600_000;
/// And so long after it was seen last.
pub const SESSION_IDLE_MS: i64 = 3_600_000;
/// Of one user; the oldest end first.
const SESSIONS_MAX: i64 = 50;
/// How exact the marks of last use are.
const MARK_EVERY_MS: i64 = 60_000;
/// Marks that are being written.
const MARKS_MAX: usize = 4;
const USER_AGENT_CHARS_MAX: usize = 200;
const IDENTIFIER_BYTES_MAX: usize = 254;

/// Milliseconds since 1970. A test has its own.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

pub struct Access {
    store: Arc<dyn Store>,
    clock: Clock,
    configured: ArcSwap<Vec<Configured>>,
    ami_allows: ArcSwap<Vec<Network>>,
    attempts: Mutex<Attempts>,
    started: Instant,
    passwords: Passwords,
    marks: Arc<Semaphore>,
    /// Tells this run of the program from others.
    run: String,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").finish_non_exhaustive()
    }
}

/// Why somebody is not let in.
#[derive(Debug)]
pub enum Refusal {
    /// Too many passwords are being compared.
    Busy,
    /// A token that may come from other networks only.
    ForeignSource,
    Store(StoreError),
    /// Tried too often.
    TooMany {
        wait_ms: u64,
    },
    /// No such session or token, or not any more.
    Unknown(&'static str),
    /// Of a user that exists, or of none.
    WrongPassword {
        known: Option<String>,
    },
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Busy> for Refusal {
    fn from(_: Busy) -> Self {
        Self::Busy
    }
}

/// What a login gives.
#[derive(Clone)]
pub struct LoggedIn {
    pub user: User,
    pub rights: Rights,
    /// For the cookie; kept nowhere.
    pub secret: String,
    pub csrf_token: String,
    pub ends_at: i64,
}

impl std::fmt::Debug for LoggedIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoggedIn").field("user", &self.user).finish_non_exhaustive()
    }
}

/// A caller with a session, and what the session has besides.
#[derive(Clone, Debug)]
pub struct Visitor {
    pub caller: Caller,
    pub csrf_token: String,
}

impl Access {
    pub fn new(store: Arc<dyn Store>, configured: &[ApiToken]) -> Self {
        Self::with_clock(store, configured, Arc::new(crate::store::now_ms))
    }

    pub fn with_clock(store: Arc<dyn Store>, configured: &[ApiToken], clock: Clock) -> Self {
        Self {
            store,
            clock,
            configured: ArcSwap::from_pointee(Configured::all(configured)),
            ami_allows: ArcSwap::from_pointee(Network::LOOPBACK.to_vec()),
            attempts: Mutex::default(),
            started: Instant::now(),
            passwords: Passwords::default(),
            marks: Arc::new(Semaphore::new(MARKS_MAX)),
            run: random_hex(),
        }
    }

    /// Addresses that may use AMI without credentials; loopback until somebody says otherwise.
    pub fn ami_allows(&self) -> Arc<Vec<Network>> {
        self.ami_allows.load_full()
    }

    pub fn set_ami_allows(&self, networks: &[Network]) {
        self.ami_allows.store(Arc::new(networks.to_vec()));
    }

    /// The tokens of the configuration file, read again.
    pub fn set_configured(&self, tokens: &[ApiToken]) {
        self.configured.store(Arc::new(Configured::all(tokens)));
    }

    pub const fn passwords(&self) -> &Passwords {
        &self.passwords
    }

    pub fn run(&self) -> &str {
        &self.run
    }

    pub fn now_ms(&self) -> i64 {
        (self.clock)()
    }

    /// A token of the file, one of ours, or the secret of a session.
    pub async fn by_bearer(&self, text: &str, source: Option<IpAddr>) -> Result<Caller, Refusal> {
        if text.is_empty() || text.len() > TOKEN_CHARS_MAX {
            return Err(Refusal::Unknown("this is no token"));
        }
        if let Some((place, rights)) = Configured::find(&self.configured.load(), text) {
            let principal = Principal::ConfiguredToken(place);
            return Ok(Caller { principal, rights, source });
        }
        match tokens::public_id(text) {
            Some(public_id) => self.by_token(public_id, text, source).await,
            None => self.by_session(text, source).await.map(|visitor| visitor.caller),
        }
    }

    async fn by_token(
        &self,
        public_id: &str,
        text: &str,
        source: Option<IpAddr>,
    ) -> Result<Caller, Refusal> {
        const UNKNOWN: Refusal = Refusal::Unknown("this token is not known");
        let token = self.store.token(public_id).await?.ok_or(UNKNOWN)?;
        let hash = hex(&tokens::sha256(text));
        if !tokens::same(hash.as_bytes(), token.token_hash.as_bytes()) {
            return Err(UNKNOWN);
        }
        let now = self.now_ms();
        if token.revoked_at.is_some() {
            return Err(Refusal::Unknown("this token was revoked"));
        }
        if token.expires_at.is_some_and(|at| at <= now) {
            return Err(Refusal::Unknown("this token has expired"));
        }
        let mut networks = token.networks.split_whitespace().peekable();
        let inside = |text: &str| {
            let network = Network::parse(text);
            network.zip(source).is_some_and(|(network, source)| network.contains(source))
        };
        if networks.peek().is_some() && !networks.any(inside) {
            return Err(Refusal::ForeignSource);
        }
        let caller = Caller {
            principal: Principal::Token {
                public_id: token.public_id.clone(),
                name: token.name.clone(),
            },
            rights: rights_of_scopes(&token.scopes),
            source,
        };
        if token.last_used_at.is_none_or(|at| now - at >= MARK_EVERY_MS) {
            self.mark_token(&token, now, caller.shown_source());
        }
        Ok(caller)
    }

    pub async fn by_session(
        &self,
        secret: &str,
        source: Option<IpAddr>,
    ) -> Result<Visitor, Refusal> {
        let key = hex(&tokens::sha256(secret));
        let found = self.store.session(&key).await?;
        let (session, user) = found.ok_or(Refusal::Unknown("this session is over"))?;
        let now = self.now_ms();
        if now - session.created_at >= SESSION_LASTS_MS || now - session.seen_at >= SESSION_IDLE_MS
        {
            return Err(Refusal::Unknown("this session is over"));
        }
        if now - session.seen_at >= MARK_EVERY_MS {
            self.mark_session(&session, now);
        }
        let rights = self.rights_of(&user).await?;
        let principal =
            Principal::User { id: user.id, name: user.username, session: SessionKey(key) };
        let caller = Caller { principal, rights, source };
        Ok(Visitor { caller, csrf_token: session.csrf_token })
    }

    /// Compares the password and begins a session.
    pub async fn login(
        &self,
        identifier: &str,
        password: &str,
        source: Option<IpAddr>,
        user_agent: &str,
    ) -> Result<LoggedIn, Refusal> {
        if identifier.len() > IDENTIFIER_BYTES_MAX || password.len() > PASSWORD_BYTES_MAX {
            return Err(Refusal::WrongPassword { known: None });
        }
        self.may_try(identifier, source)?;
        let found = self.store.login(identifier).await?.filter(|found| found.user.is_active);
        let hash = found.as_ref().map(|found| found.password_hash.as_str());
        let matches = self.passwords.matches(password, hash).await?;
        let user = match found.map(|found| found.user) {
            Some(user) if matches => user,
            other => {
                return Err(Refusal::WrongPassword { known: other.map(|user| user.username) });
            }
        };
        let rights = self.rights_of(&user).await?;
        let (secret, csrf_token) = (random_hex(), random_hex());
        let now = self.now_ms();
        let shown = source.map_or_else(|| "unknown".to_owned(), |source| source.to_string());
        let session = Session {
            id_hash: hex(&tokens::sha256(&secret)),
            user: user.id,
            csrf_token: csrf_token.clone(),
            source: shown.clone(),
            user_agent: user_agent.chars().take(USER_AGENT_CHARS_MAX).collect(),
            created_at: now,
            seen_at: now,
        };
        let oldest = Bounds { created_at: now - SESSION_LASTS_MS, seen_at: now - SESSION_IDLE_MS };
        self.store.add_session(&session, SESSIONS_MAX, oldest).await?;
        self.store.logged_in(user.id, now, &shown).await?;
        self.tries().succeeded(identifier, source);
        Ok(LoggedIn { user, rights, secret, csrf_token, ends_at: now + SESSION_LASTS_MS })
    }

    /// Whether it is this user's password; tries count like logins.
    pub async fn check_password(
        &self,
        user: &User,
        password: &str,
        source: Option<IpAddr>,
    ) -> Result<(), Refusal> {
        self.may_try(&user.username, source)?;
        let found = self.store.login(&user.username).await?;
        let hash = found.as_ref().map(|found| found.password_hash.as_str());
        if !self.passwords.matches(password, hash).await? {
            return Err(Refusal::WrongPassword { known: Some(user.username.clone()) });
        }
        self.tries().succeeded(&user.username, source);
        Ok(())
    }

    pub async fn logout(&self, session: &SessionKey) -> Result<(), StoreError> {
        self.store.end_session(&session.0).await
    }

    /// Ends the session of a secret, if there is one: a login never goes on with an older session.
    pub async fn forget(&self, secret: &str) -> Result<(), StoreError> {
        self.store.end_session(&hex(&tokens::sha256(secret))).await
    }

    pub async fn rights_of(&self, user: &User) -> Result<Rights, StoreError> {
        if user.is_superuser {
            return Ok(Rights::ALL);
        }
        let permissions = self.store.permissions(user.id).await?;
        let given =
            permissions.iter().filter_map(|(resource, action)| of_permission(resource, action));
        Ok(given.fold(Rights::NONE, Rights::and))
    }

    fn may_try(&self, identifier: &str, source: Option<IpAddr>) -> Result<(), Refusal> {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let leave = self.tries().begin(now, identifier, source);
        leave.map_err(|wait_ms| Refusal::TooMany { wait_ms })
    }

    fn tries(&self) -> std::sync::MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Beside the request: a database that is locked must not hold up a question.
    fn mark_session(&self, session: &Session, now: i64) {
        let (store, key) = (Arc::clone(&self.store), session.id_hash.clone());
        self.mark(async move { store.seen(&key, now).await });
    }

    fn mark_token(&self, token: &Token, now: i64, source: String) {
        let (store, id) = (Arc::clone(&self.store), token.id);
        self.mark(async move { store.token_used(id, now, &source).await });
    }

    /// One that finds no room is left to the next request.
    fn mark(&self, write: impl Future<Output = Result<(), StoreError>> + Send + 'static) {
        let Ok(room) = Arc::clone(&self.marks).try_acquire_owned() else { return };
        tokio::spawn(async move {
            if let Err(error) = write.await {
                tracing::warn!(%error, "a mark of last use is not written");
            }
            drop(room);
        });
    }
}

/// The rights of words with blanks between; words of a newer version give nothing.
fn rights_of_scopes(words: &str) -> Rights {
    let scopes = words.split_whitespace().filter_map(Scope::parse);
    scopes.fold(Rights::NONE, |rights, scope| rights.and(scope.rights()))
}

fn random_hex() -> String {
    hex(&rand::random::<[u8; 32]>())
}
