//! Passwords: made, stored as Argon2id, compared; off the async threads and never many at once.
//! Owns:  the cost of a hash, the bound on how many are computed and how many may wait.
//! Gives: `hash`, `matches`, `random_password`.
//! Never: a password in a log, an error or a `Debug`.
//! Holds: comparing with nobody's hash takes as long as comparing with somebody's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use tokio::sync::Semaphore;

/// 19 MiB and two passes each (the crate's default, OWASP's first choice of parameters).
const AT_ONCE: usize = 2;
const WAITING_MAX: usize = 16;
/// Longer ones only cost time.
pub const PASSWORD_BYTES_MAX: usize = 256;
pub const PASSWORD_CHARS_MIN: usize = 10;

/// Without letters that look like others; 57 of them, so 20 make 116 bits.
const LETTERS: &[u8] = b"abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
const RANDOM_LETTERS: usize = 20;

#[derive(Debug)]
pub struct Passwords {
    admitted: Arc<Semaphore>,
    computing: Arc<Semaphore>,
    computed: AtomicU64,
}

/// Too many wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

impl Default for Passwords {
    fn default() -> Self {
        Self {
            admitted: Arc::new(Semaphore::new(AT_ONCE + WAITING_MAX)),
            computing: Arc::new(Semaphore::new(AT_ONCE)),
            computed: AtomicU64::new(0),
        }
    }
}

impl Passwords {
    pub async fn hash(&self, password: &str) -> Result<String, Busy> {
        let password = password.to_owned();
        self.compute(move || hash_now(&password)).await
    }

    /// Whether the password is the one of this hash; without a hash it never is.
    pub async fn matches(&self, password: &str, hash: Option<&str>) -> Result<bool, Busy> {
        let known = hash.is_some();
        let hash = hash.unwrap_or(DECOY).to_owned();
        let password = password.to_owned();
        let matches = self.compute(move || {
            PasswordHash::new(&hash).is_ok_and(|hash| {
                Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()
            })
        });
        Ok(matches.await? && known)
    }

    /// How many hashes were computed.
    pub fn computed(&self) -> u64 {
        self.computed.load(Ordering::Relaxed)
    }

    async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let admitted = Arc::clone(&self.admitted).try_acquire_owned().map_err(|_| Busy)?;
        let computing = Arc::clone(&self.computing).acquire_owned().await.map_err(|_| Busy)?;
        let done = tokio::task::spawn_blocking(move || {
            // They stay taken when the request goes away in the meantime: the work does not.
            let _taken = (admitted, computing);
            work()
        });
        self.computed.fetch_add(1, Ordering::Relaxed);
        // A panic of the hash is one of ours too: the request that asked for it ends with it.
        let done = done.await;
        done.map_err(|error| match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Busy,
        })
    }
}

/// Computes on the calling thread; it takes some tens of milliseconds.
pub fn hash_now(password: &str) -> String {
    let hashed = Argon2::default().hash_password(password.as_bytes());
    hashed.expect("the parameters are constant and the system has random bytes").to_string()
}

/// 116 bits from the operating system.
pub fn random_password() -> String {
    let letter = |_| char::from(LETTERS[rand::random_range(0..LETTERS.len())]);
    (0..RANDOM_LETTERS).map(letter).collect()
}

/// Random bytes in the form of a hash: no password is known that has it.
const DECOY: &str = "$argon2id$v=19$m=19456,t=2,p=1$7bzEaTTdOTKpkoWWzAGA9g$geGmIM0IhkldXUZI08VJM0/txuUTpj84dlFHKSJ1wBc";

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_matches_its_own_hash_and_no_other() {
        let passwords = Passwords::default();
        let hash = passwords.hash("correct horse").await.expect("it is free");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_eq!(passwords.matches("correct horse", Some(&hash)).await, Ok(true));
        assert_eq!(passwords.matches("correct hors", Some(&hash)).await, Ok(false));
        assert_eq!(passwords.matches("correct horse", None).await, Ok(false));
        assert_eq!(passwords.matches("x", Some("not a hash")).await, Ok(false));
    }

    /// What makes unknown names as slow as known ones.
    #[test]
    fn the_decoy_costs_what_a_real_hash_costs() {
        let decoy = PasswordHash::new(DECOY).expect("it is a hash");
        let real = hash_now("x");
        let real = PasswordHash::new(&real).expect("it is a hash");
        assert_eq!((decoy.algorithm, &decoy.params), (real.algorithm, &real.params));
        let length = |hash: &PasswordHash| hash.hash.as_ref().map(|hash| hash.as_bytes().len());
        assert_eq!(length(&decoy), length(&real));
    }

    #[tokio::test]
    async fn who_comes_when_too_many_wait_is_told_so() {
        let passwords = Passwords::default();
        let _all = passwords.admitted.acquire_many(18).await.expect("open");
        assert_eq!(passwords.hash("x").await, Err(Busy));
    }

    #[test]
    fn random_passwords_differ_and_have_their_length() {
        let (one, two) = (random_password(), random_password());
        assert_eq!(one.len(), RANDOM_LETTERS);
        assert_ne!(one, two);
    }
}
