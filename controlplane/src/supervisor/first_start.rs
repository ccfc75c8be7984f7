//! The first start in a folder: the folder itself, somebody who may log in, two extensions to try.
//! Owns:  the data folder's mode and lock; the first user; the demo extensions.
//! Gives: passwords, once, to whoever prints the banner.
//! Never: a fixed password; a password in the log.
//! Holds: two processes never use one data folder.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use shared::config::{Backend, Config};
use shared::snapshot::Secret;

use crate::access::{hash_now, random_password};
use crate::store::Extension;

/// Who may do everything until others are made.
const FIRST_USER: &str = "admin";
const DEMO_EXTENSIONS: [&str; 2] = ["1001", "1002"];

/// Makes a folder that only its owner can read. A folder that is there keeps its mode.
pub(crate) fn private_folder(path: &Path) -> Result<(), String> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| format!("{}: {error}", path.display()))
}

/// Makes the data folder and takes its lock, which lasts as long as the file is open.
pub(super) fn take_folder(path: &Path) -> Result<File, String> {
    let shown = path.display();
    let was_there = path.exists();
    private_folder(path)?;
    if !was_there {
        // `create` is subject to the umask, which can only take rights away.
        fs::set_permissions(path, Permissions::from_mode(0o700))
            .map_err(|error| format!("{shown}: {error}"))?;
    }
    let lock = path.join("lock");
    let open = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&lock);
    let file = open.map_err(|error| format!("{}: {error}", lock.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(format!("{shown} is in use by another gateway")),
        Err(TryLockError::Error(error)) => Err(format!("{}: {error}", lock.display())),
    }
}

/// The first user of the console and the API, before it is stored.
#[derive(Clone)]
pub(super) struct FirstUser {
    pub(super) name: &'static str,
    /// Shown once.
    pub(super) password: String,
    pub(super) hash: String,
}

impl fmt::Debug for FirstUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirstUser").field("name", &self.name).finish_non_exhaustive()
    }
}

impl FirstUser {
    /// With a random password; takes as long as a login.
    pub(super) fn make() -> Self {
        let password = random_password();
        Self { name: FIRST_USER, hash: hash_now(&password), password }
    }
}

/// Two extensions with random passwords; names that the configuration has are left out.
pub(super) fn demo_extensions(config: &Config) -> Vec<Extension> {
    let written = |name: &str| {
        config.backends().iter().any(|backend| match backend {
            Backend::Extensions | Backend::Remote(_) => false,
            Backend::Memory(users) => users.iter().any(|user| &*user.username == name),
        })
    };
    let names = DEMO_EXTENSIONS.into_iter().filter(|name| !written(name));
    let extension = |name: &str| Extension {
        extension: name.to_owned(),
        display_name: Some(format!("Demo {name}")),
        secret: Secret::Plain(random_password().into()),
        enabled: true,
        allow_guest_calls: false,
    };
    names.map(extension).collect()
}
