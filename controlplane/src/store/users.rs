//! Users of the console and the API in SQL.
//! Owns:  the columns of `console_users`.
//! Gives: `Users`.
//! Never: a password hash outside of `Login` and `UserEdit`; a database in which nobody is left who may
//!        do everything.
//! Holds: a user name or an email belongs to one user; emails are kept in small letters.

use sqlx::any::AnyRow;
use sqlx::{Any, Row, Transaction};

use super::db::{from_sql, now_ms};
use super::error::of_sqlx;
use super::{Connections, Db, Pending, StoreError};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub id: i64,
    pub username: String,
    pub email: Option<String>,
    pub is_active: bool,
    pub is_staff: bool,
    pub is_superuser: bool,
    pub last_login_at: Option<i64>,
    pub last_login_ip: Option<String>,
    pub created_at: i64,
    pub updated_at: i64,
}

/// A user with what its password is compared with.
#[derive(Clone)]
pub struct Login {
    pub user: User,
    pub password_hash: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// What is written of a user.
#[derive(Clone, PartialEq, Eq)]
pub struct UserEdit {
    pub username: String,
    pub email: Option<String>,
    /// `None` leaves the password as it is.
    pub password_hash: Option<String>,
    pub is_active: bool,
    pub is_staff: bool,
    pub is_superuser: bool,
}

impl std::fmt::Debug for UserEdit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserEdit").field("username", &self.username).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, Default)]
pub struct UserSearch {
    pub limit: u32,
    pub skip: u32,
    /// Part of the name or the email.
    pub text: Option<String>,
    pub active: Option<bool>,
}

/// What came of an edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edited {
    Done,
    /// Nobody could change anything any more.
    LastAdmin,
    /// The name or the email is somebody else's.
    Taken,
    Unknown,
}

pub trait Users: Connections {
    /// By user name or email.
    fn login<'a>(&'a self, identifier: &'a str) -> Pending<'a, Option<Login>> {
        Box::pin(login(self.db(), identifier))
    }

    fn has_users(&self) -> Pending<'_, bool> {
        Box::pin(has_users(self.db()))
    }

    /// Adds a user who may do everything, unless there is a user already.
    fn add_first_user<'a>(&'a self, username: &'a str, hash: &'a str) -> Pending<'a, bool> {
        Box::pin(add_first_user(self.db(), username, hash))
    }

    fn user(&self, id: i64) -> Pending<'_, Option<User>> {
        Box::pin(one(self.db(), id))
    }

    /// One page by name, with the total over all pages.
    fn users<'a>(&'a self, search: &'a UserSearch) -> Pending<'a, (u64, Vec<User>)> {
        Box::pin(page(self.db(), search))
    }

    /// `None` when the name or the email is taken. There must be a password.
    fn add_user<'a>(&'a self, user: &'a UserEdit) -> Pending<'a, Option<i64>> {
        Box::pin(add(self.db(), user))
    }

    fn edit_user<'a>(&'a self, id: i64, user: &'a UserEdit) -> Pending<'a, Edited> {
        Box::pin(edit(self.db(), id, user))
    }

    fn delete_user(&self, id: i64) -> Pending<'_, Edited> {
        Box::pin(delete(self.db(), id))
    }

    fn logged_in<'a>(&'a self, user: i64, at: i64, source: &'a str) -> Pending<'a, ()> {
        Box::pin(logged_in(self.db(), user, at, source))
    }
}

impl Users for Db {}

async fn login(db: &Db, identifier: &str) -> Result<Option<Login>, StoreError> {
    let found = sqlx::query(
        "SELECT id, username, email, password_hash, is_active, is_staff, is_superuser, \
         last_login_at, last_login_ip, created_at, updated_at \
         FROM console_users WHERE username = $1 OR email = $2",
    )
    .bind(identifier)
    .bind(identifier.to_lowercase())
    .fetch_optional(db.readers())
    .await
    .map_err(of_sqlx)?;
    let login = |row: &AnyRow| {
        let password_hash = row.try_get("password_hash").map_err(of_sqlx)?;
        Ok(Login { user: read(row)?, password_hash })
    };
    found.as_ref().map(login).transpose()
}

async fn has_users(db: &Db) -> Result<bool, StoreError> {
    let found = sqlx::query("SELECT id FROM console_users LIMIT 1");
    Ok(found.fetch_optional(db.readers()).await.map_err(of_sqlx)?.is_some())
}

async fn add_first_user(db: &Db, username: &str, hash: &str) -> Result<bool, StoreError> {
    let now = now_ms();
    let added = sqlx::query(
        "INSERT INTO console_users (username, password_hash, is_staff, is_superuser, created_at, \
         updated_at) SELECT $1, $2, 1, 1, $3, $4 \
         WHERE NOT EXISTS (SELECT 1 FROM console_users)",
    )
    .bind(username)
    .bind(hash)
    .bind(now)
    .bind(now)
    .execute(db.writer())
    .await
    .map_err(of_sqlx)?;
    Ok(added.rows_affected() > 0)
}

async fn one(db: &Db, id: i64) -> Result<Option<User>, StoreError> {
    let found = sqlx::query(
        "SELECT id, username, email, is_active, is_staff, is_superuser, last_login_at, \
         last_login_ip, created_at, updated_at FROM console_users WHERE id = $1",
    )
    .bind(id)
    .fetch_optional(db.readers())
    .await
    .map_err(of_sqlx)?;
    found.as_ref().map(read).transpose()
}

async fn page(db: &Db, search: &UserSearch) -> Result<(u64, Vec<User>), StoreError> {
    let text = search.text.as_deref().unwrap_or_default();
    let part = format!("%{}%", text.replace(['%', '_', '\\'], ""));
    let active = search.active.map_or(-1, i64::from);
    let total = sqlx::query(
        "SELECT COUNT(*) AS total FROM console_users WHERE ($1 = '%%' OR username LIKE $1 \
         OR email LIKE $1) AND ($2 = -1 OR is_active = $2)",
    )
    .bind(part.as_str())
    .bind(active)
    .fetch_one(db.readers())
    .await
    .map_err(of_sqlx)?;
    let rows = sqlx::query(
        "SELECT id, username, email, is_active, is_staff, is_superuser, last_login_at, \
         last_login_ip, created_at, updated_at FROM console_users WHERE ($1 = '%%' \
         OR username LIKE $1 OR email LIKE $1) AND ($2 = -1 OR is_active = $2) \
         ORDER BY username LIMIT $3 OFFSET $4",
    )
    .bind(part.as_str())
    .bind(active)
    .bind(i64::from(search.limit))
    .bind(i64::from(search.skip))
    .fetch_all(db.readers())
    .await
    .map_err(of_sqlx)?;
    let users = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    Ok((from_sql(total.try_get("total").map_err(of_sqlx)?), users))
}

async fn add(db: &Db, user: &UserEdit) -> Result<Option<i64>, StoreError> {
    let Some(hash) = &user.password_hash else {
        return Err(StoreError::Refused("a new user needs a password".to_owned()));
    };
    let now = now_ms();
    let row = sqlx::query(
        "INSERT INTO console_users (username, email, password_hash, is_active, is_staff, \
         is_superuser, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
         ON CONFLICT DO NOTHING RETURNING id",
    )
    .bind(user.username.as_str())
    .bind(user.email.as_deref())
    .bind(hash.as_str())
    .bind(i64::from(user.is_active))
    .bind(i64::from(user.is_staff))
    .bind(i64::from(user.is_superuser))
    .bind(now)
    .bind(now)
    .fetch_optional(db.writer())
    .await
    .map_err(of_sqlx)?;
    row.map(|row| row.try_get("id").map_err(of_sqlx)).transpose()
}

async fn edit(db: &Db, id: i64, user: &UserEdit) -> Result<Edited, StoreError> {
    let mut transaction = db.begin().await?;
    let taken = sqlx::query(
        "SELECT id FROM console_users WHERE id <> $1 AND (username = $2 OR email = $3)",
    )
    .bind(id)
    .bind(user.username.as_str())
    .bind(user.email.as_deref())
    .fetch_optional(&mut *transaction)
    .await
    .map_err(of_sqlx)?;
    if taken.is_some() {
        return Ok(Edited::Taken);
    }
    let old = sqlx::query("SELECT is_superuser FROM console_users WHERE id = $1")
        .bind(id)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(of_sqlx)?;
    let Some(old) = old else { return Ok(Edited::Unknown) };
    let was_superuser = old.try_get::<i64, _>("is_superuser").map_err(of_sqlx)? != 0;
    let edited = sqlx::query(
        "UPDATE console_users SET username = $1, email = $2, \
         password_hash = COALESCE($3, password_hash), is_active = $4, is_staff = $5, \
         is_superuser = $6, updated_at = $7 WHERE id = $8",
    )
    .bind(user.username.as_str())
    .bind(user.email.as_deref())
    .bind(user.password_hash.as_deref())
    .bind(i64::from(user.is_active))
    .bind(i64::from(user.is_staff))
    .bind(i64::from(user.is_superuser))
    .bind(now_ms())
    .bind(id)
    .execute(&mut *transaction)
    .await
    .map_err(of_sqlx)?;
    if edited.rows_affected() == 0 {
        return Ok(Edited::Unknown);
    }
    let other_rights = was_superuser != user.is_superuser;
    if user.password_hash.is_some() || !user.is_active || other_rights {
        end_sessions(&mut transaction, id).await?;
    }
    commit_if_an_admin_is_left(transaction).await
}

async fn delete(db: &Db, id: i64) -> Result<Edited, StoreError> {
    let mut transaction = db.begin().await?;
    end_sessions(&mut transaction, id).await?;
    let deleted = sqlx::query("DELETE FROM console_users WHERE id = $1")
        .bind(id)
        .execute(&mut *transaction)
        .await
        .map_err(of_sqlx)?;
    if deleted.rows_affected() == 0 {
        return Ok(Edited::Unknown);
    }
    commit_if_an_admin_is_left(transaction).await
}

/// Who has a new password or other rights, is switched off or gone, is logged in nowhere.
pub(super) async fn end_sessions(
    transaction: &mut Transaction<'_, Any>,
    id: i64,
) -> Result<(), StoreError> {
    let ended = sqlx::query("DELETE FROM sessions WHERE user_id = $1").bind(id);
    ended.execute(&mut **transaction).await.map_err(of_sqlx)?;
    Ok(())
}

/// What was begun is undone when it is not committed.
async fn commit_if_an_admin_is_left(
    mut transaction: Transaction<'_, Any>,
) -> Result<Edited, StoreError> {
    let left = sqlx::query(
        "SELECT id FROM console_users WHERE is_superuser = 1 AND is_active = 1 LIMIT 1",
    )
    .fetch_optional(&mut *transaction)
    .await
    .map_err(of_sqlx)?;
    if left.is_none() {
        return Ok(Edited::LastAdmin);
    }
    transaction.commit().await.map_err(of_sqlx)?;
    Ok(Edited::Done)
}

async fn logged_in(db: &Db, user: i64, at: i64, source: &str) -> Result<(), StoreError> {
    sqlx::query("UPDATE console_users SET last_login_at = $1, last_login_ip = $2 WHERE id = $3")
        .bind(at)
        .bind(source)
        .bind(user)
        .execute(db.writer())
        .await
        .map_err(of_sqlx)?;
    Ok(())
}

pub(super) fn read(row: &AnyRow) -> Result<User, StoreError> {
    let text = |column: &str| row.try_get::<Option<String>, _>(column).map_err(of_sqlx);
    let number = |column: &str| row.try_get::<i64, _>(column).map_err(of_sqlx);
    let flag = |column: &str| Ok::<_, StoreError>(number(column)? != 0);
    Ok(User {
        id: number("id")?,
        username: row.try_get("username").map_err(of_sqlx)?,
        email: text("email")?,
        is_active: flag("is_active")?,
        is_staff: flag("is_staff")?,
        is_superuser: flag("is_superuser")?,
        last_login_at: row.try_get("last_login_at").map_err(of_sqlx)?,
        last_login_ip: text("last_login_ip")?,
        created_at: number("created_at")?,
        updated_at: number("updated_at")?,
    })
}
