//! Extensions in SQL: who may register although no file names them.
//! Owns:  the columns of `extensions`, and the mark of the first start.
//! Gives: `Extensions`.
//! Never: a secret in an error message.
//! Holds: the first start happens once per database, whether or not it adds anybody.

use shared::config::parse_hex;
use shared::snapshot::Secret;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::db::{Connections, now_ms};
use super::error::{odd_row, of_sqlx};
use super::rows::Shape::{Flag, Int, Json, Text};
use super::rows::{Table, column};
use super::{Db, Pending, StoreError};

pub static EXTENSIONS: Table = Table {
    name: "extensions",
    columns: &[
        column("extension", Text),
        column("display_name", Text),
        column("email", Text),
        column("status", Text),
        column("login_disabled", Flag),
        column("voicemail_disabled", Flag),
        column("allow_guest_calls", Flag),
        column("sip_password", Text),
        column("ha1_realm", Text),
        column("ha1_md5", Text),
        column("ha1_sha256", Text),
        column("ha1_sha512_256", Text),
        column("call_forwarding_mode", Text),
        column("call_forwarding_destination", Text),
        column("call_forwarding_timeout", Int),
        column("department_ids", Json),
        column("notes", Text),
    ],
};

#[derive(Clone, Debug)]
pub struct Extension {
    pub extension: String,
    pub display_name: Option<String>,
    pub secret: Secret,
    pub enabled: bool,
    pub allow_guest_calls: bool,
}

pub trait Extensions: Connections {
    fn extensions(&self) -> Pending<'_, Vec<Extension>> {
        Box::pin(all(self.db()))
    }

    /// Whether a gateway was ever up with this database.
    fn started_before(&self) -> Pending<'_, bool> {
        Box::pin(started_before(self.db()))
    }

    /// On the first start of this database: adds the extensions and gives `true`. Later: `false`.
    fn first_start<'a>(&'a self, extensions: &'a [Extension]) -> Pending<'a, bool> {
        Box::pin(first_start(self.db(), extensions))
    }
}

impl Extensions for Db {}

async fn all(db: &Db) -> Result<Vec<Extension>, StoreError> {
    let rows = sqlx::query(
        "SELECT extension, display_name, status, login_disabled, allow_guest_calls, sip_password, \
         ha1_realm, ha1_md5, ha1_sha256, ha1_sha512_256 FROM extensions ORDER BY extension",
    )
    .fetch_all(db.readers())
    .await
    .map_err(of_sqlx)?;
    rows.iter().map(read).collect()
}

async fn started_before(db: &Db) -> Result<bool, StoreError> {
    let found = sqlx::query("SELECT 1 FROM facts WHERE name = 'first_start'");
    Ok(found.fetch_optional(db.readers()).await.map_err(of_sqlx)?.is_some())
}

async fn first_start(db: &Db, extensions: &[Extension]) -> Result<bool, StoreError> {
    let now = now_ms();
    let mut transaction = db.begin().await?;
    let marked = sqlx::query(
        "INSERT INTO facts (name, value) VALUES ('first_start', $1) ON CONFLICT (name) DO NOTHING",
    )
    .bind(now.to_string())
    .execute(&mut *transaction)
    .await
    .map_err(of_sqlx)?;
    if marked.rows_affected() == 0 {
        return Ok(false);
    }
    for extension in extensions {
        let Secret::Plain(password) = &extension.secret else {
            return Err(StoreError::Refused("a first extension needs a plain password".to_owned()));
        };
        sqlx::query(
            "INSERT INTO extensions (extension, display_name, login_disabled, allow_guest_calls, \
             sip_password, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(&extension.extension)
        .bind(&extension.display_name)
        .bind(i64::from(!extension.enabled))
        .bind(i64::from(extension.allow_guest_calls))
        .bind(password.as_ref())
        .bind(now)
        .bind(now)
        .execute(&mut *transaction)
        .await
        .map_err(of_sqlx)?;
    }
    transaction.commit().await.map_err(of_sqlx)?;
    Ok(true)
}

fn read(row: &AnyRow) -> Result<Extension, StoreError> {
    let text = |column: &str| row.try_get::<Option<String>, _>(column).map_err(of_sqlx);
    let flag = |column: &str| Ok(row.try_get::<i64, _>(column).map_err(of_sqlx)? != 0);
    let extension: String = row.try_get("extension").map_err(of_sqlx)?;
    let secret = match (text("sip_password")?, text("ha1_realm")?) {
        (Some(password), _) => Secret::Plain(password.into()),
        (None, Some(realm)) => Secret::Ha1 {
            realm: realm.into(),
            md5: hash(text("ha1_md5")?, &extension)?,
            sha256: hash(text("ha1_sha256")?, &extension)?,
            sha512_256: hash(text("ha1_sha512_256")?, &extension)?,
        },
        (None, None) => return Err(odd_row(format!("extension {extension} has no secret"))),
    };
    let active = row.try_get::<&str, _>("status").map_err(of_sqlx)? == "active";
    Ok(Extension {
        display_name: text("display_name")?,
        secret,
        enabled: active && !flag("login_disabled")?,
        allow_guest_calls: flag("allow_guest_calls")?,
        extension,
    })
}

fn hash<const N: usize>(
    text: Option<String>,
    extension: &str,
) -> Result<Option<[u8; N]>, StoreError> {
    let Some(text) = text else { return Ok(None) };
    let bytes = parse_hex(&text);
    bytes.map(Some).ok_or_else(|| odd_row(format!("extension {extension} has an odd hash")))
}
