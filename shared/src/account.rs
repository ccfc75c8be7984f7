//! The account that a trunk's carrier knows us by: who we are there, and whether we register.
//! Owns:  `Account`, `Password`, `Registering`.
//! Gives: what a challenge is answered with, and what a REGISTER asks for.
//! Never: shows a password or the value of an extra header in `Debug`.
//! Holds: an account has a user name and a password, and both fit into a header.

use std::fmt;
use std::time::Duration;

use crate::headers::ExtraHeader;

/// Letters of a user name, a realm or a password.
pub const ACCOUNT_TEXT_MAX: usize = 256;
/// Asked for where the trunk names no time.
pub const REGISTER_EXPIRES_DEFAULT: Duration = Duration::from_secs(3_600);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The user part of our address at the carrier, and of our Contact there.
    pub username: Box<str>,
    /// What the digest names; the same unless the carrier gave out two names.
    pub auth_username: Box<str>,
    pub password: Password,
    /// Challenges of other realms are not answered. None: whatever the trunk names.
    pub realm: Option<Box<str>>,
    pub registers: Option<Registering>,
}

/// A password in the clear, which digest needs.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Box<str>);

impl Password {
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(...)")
    }
}

/// That we register with the carrier, and what the REGISTER says beyond the usual.
#[derive(Clone, PartialEq, Eq)]
pub struct Registering {
    /// What we ask for; the answer decides.
    pub expires: Duration,
    pub headers: Vec<ExtraHeader>,
}

impl fmt::Debug for Registering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(ExtraHeader::name).collect();
        f.debug_struct("Registering")
            .field("expires", &self.expires)
            .field("headers", &names)
            .finish()
    }
}

impl Account {
    /// An account that answers challenges and does not register.
    ///
    /// # Errors
    /// Says which of the two cannot stand in a header, and never its value.
    pub fn new(username: &str, password: &str) -> Result<Self, String> {
        if let Some(reason) = odd_text(username) {
            return Err(format!("the user name {reason}"));
        }
        if let Some(reason) = odd_text(password) {
            return Err(format!("the password {reason}"));
        }
        Ok(Self {
            username: username.into(),
            auth_username: username.into(),
            password: Password::new(password),
            realm: None,
            registers: None,
        })
    }
}

/// Why a text is none of an account.
pub fn odd_text(text: &str) -> Option<String> {
    if text.is_empty() {
        return Some("is empty".to_owned());
    }
    if text.len() > ACCOUNT_TEXT_MAX {
        return Some(format!("is longer than {ACCOUNT_TEXT_MAX} bytes"));
    }
    text.chars().any(char::is_control).then(|| "has a control character".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_password_nor_header_values_are_shown() {
        let account = Account::new("4930123", "hush-hush").expect("both are plain");
        let header = ExtraHeader::new("X-Key", "hush-hush").expect("a plain header");
        let registers = Registering { expires: REGISTER_EXPIRES_DEFAULT, headers: vec![header] };
        let shown = format!("{:?}", Account { registers: Some(registers), ..account });
        assert!(shown.contains("4930123") && shown.contains("X-Key"), "{shown}");
        assert!(!shown.contains("hush-hush"), "{shown}");
    }

    #[test]
    fn what_cannot_stand_in_a_header_is_refused() {
        for (username, password) in [("", "p"), ("u", ""), ("u\r\n", "p"), ("u", "p\0")] {
            let refused = Account::new(username, password).expect_err("odd");
            assert!(!refused.contains('\0'), "{refused}");
        }
        assert!(Account::new(&"u".repeat(ACCOUNT_TEXT_MAX + 1), "p").is_err());
    }
}
