//! `ringgate user reset`: a way in for an operator who has lost the password.
//! Owns:  the one change that it makes in the database, beside a running gateway or without one.
//! Gives: the new password, to be printed once.
//! Never: a password from the command line; a database that is not there yet.
//! Holds: it needs the rights of the gateway's own user on the database, and leaves its mark in the
//!        audit log.

use shared::config::{Config, Database};

use crate::access::{hash_now, random_password};
use crate::store::{
    AuditLog, AuditRow, Connections, Db, Edited, StoreError, UserEdit, Users, now_ms,
};

/// The new password of this user.
pub fn reset(config: &Config, name: &str) -> Result<String, String> {
    let database = config.files().database();
    match database {
        Database::Memory => return Err("the database is in memory: restart the gateway".to_owned()),
        Database::Sqlite(path) if !path.exists() => {
            return Err(format!("{} is not there: start the gateway first", path.display()));
        }
        _ => {}
    }
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
        return Err("a name has letters, digits, dots, dashes and underscores".to_owned());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let password = random_password();
    let done = runtime.block_on(async {
        let store = Db::open(database).await?;
        let done = write(&store, name, &hash_now(&password)).await;
        store.close().await;
        done
    });
    done.map_err(|error| error.to_string())?;
    Ok(password)
}

async fn write(store: &Db, name: &str, hash: &str) -> Result<(), StoreError> {
    let known = store.login(name).await?.map(|found| found.user);
    let edit = UserEdit {
        username: known.as_ref().map_or_else(|| name.to_owned(), |user| user.username.clone()),
        email: known.as_ref().and_then(|user| user.email.clone()),
        password_hash: Some(hash.to_owned()),
        is_active: true,
        is_staff: known.as_ref().is_none_or(|user| user.is_staff),
        is_superuser: known.as_ref().is_none_or(|user| user.is_superuser),
    };
    let done = match &known {
        Some(user) => store.edit_user(user.id, &edit).await? == Edited::Done,
        None => store.add_user(&edit).await?.is_some(),
    };
    if !done {
        return Err(StoreError::Refused("somebody else changed this user just now".to_owned()));
    }
    let row = AuditRow {
        id: 0,
        at: now_ms(),
        actor: "command line".to_owned(),
        source: "this host".to_owned(),
        action: "user.reset".to_owned(),
        object: format!("user {}", edit.username),
        outcome: "done".to_owned(),
        before: None,
        after: None,
        detail: None,
    };
    store.add_audit(&row).await
}
