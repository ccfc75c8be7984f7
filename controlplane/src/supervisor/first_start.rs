//! The first start in a folder: the folder itself, and two extensions to try things with.
//! Owns:  the data folder's mode and lock; the demo extensions.
//! Gives: passwords, once, to whoever prints the banner.
//! Never: a fixed password; a password in the log.
//! Holds: two processes never use one data folder.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use shared::config::{Backend, Config};
use shared::snapshot::Secret;

use crate::store::Extension;

/// Without letters that look like others; 56 of them, so 20 make 116 bits.
const LETTERS: &[u8] = b"abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
const PASSWORD_LETTERS: usize = 20;
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

/// Two extensions with random passwords; names that the configuration has are left out.
pub(super) fn demo_extensions(config: &Config) -> Vec<Extension> {
    let written = |name: &str| {
        config.backends().iter().any(|backend| match backend {
            Backend::Extensions => false,
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

fn random_password() -> String {
    let letter = |_| char::from(LETTERS[rand::random_range(0..LETTERS.len())]);
    (0..PASSWORD_LETTERS).map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_differ_and_have_their_length() {
        let (one, two) = (random_password(), random_password());
        assert_eq!(one.len(), PASSWORD_LETTERS);
        assert_ne!(one, two);
    }
}
