//! Roles in SQL: named sets of permissions, and who has them.
//! Owns:  the columns of `console_roles`, `console_role_permissions`, `console_user_roles`.
//! Gives: `Roles`.
//! Never: changes a role that came with the schema.
//! Holds: permissions are pairs of words; what they mean is not decided here.

use sqlx::any::AnyRow;
use sqlx::{Any, Row, Transaction};

use super::db::now_ms;
use super::error::of_sqlx;
use super::users::end_sessions;
use super::{Connections, Db, Edited, Pending, StoreError};

/// A resource and an action.
pub type Permission = (String, String);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    pub id: i64,
    pub name: String,
    pub description: Option<String>,
    /// Came with the schema and stays as it is.
    pub is_system: bool,
    pub permissions: Vec<Permission>,
    pub created_at: i64,
    pub updated_at: i64,
}

/// What is written of a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleEdit {
    pub name: String,
    pub description: Option<String>,
    pub permissions: Vec<Permission>,
}

pub trait Roles: Connections {
    /// By name.
    fn roles(&self) -> Pending<'_, Vec<Role>> {
        Box::pin(all(self.db(), None))
    }

    fn roles_of(&self, user: i64) -> Pending<'_, Vec<Role>> {
        Box::pin(all(self.db(), Some(user)))
    }

    /// Of all roles of a user together.
    fn permissions(&self, user: i64) -> Pending<'_, Vec<Permission>> {
        Box::pin(permissions(self.db(), user))
    }

    /// `None` when the name is taken.
    fn add_role<'a>(&'a self, role: &'a RoleEdit) -> Pending<'a, Option<i64>> {
        Box::pin(add(self.db(), role))
    }

    /// A role of the schema counts as unknown here.
    fn edit_role<'a>(&'a self, id: i64, role: &'a RoleEdit) -> Pending<'a, Edited> {
        Box::pin(edit(self.db(), id, role))
    }

    /// The same.
    fn delete_role(&self, id: i64) -> Pending<'_, Edited> {
        Box::pin(delete(self.db(), id))
    }

    /// The user has these roles and no others, and is logged in nowhere; unknown when it or one of
    /// them is.
    fn set_roles<'a>(&'a self, user: i64, roles: &'a [i64]) -> Pending<'a, Edited> {
        Box::pin(set(self.db(), user, roles))
    }
}

impl Roles for Db {}

async fn all(db: &Db, user: Option<i64>) -> Result<Vec<Role>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, name, description, is_system, created_at, updated_at FROM console_roles \
         WHERE $1 = -1 OR id IN (SELECT role_id FROM console_user_roles WHERE user_id = $1) \
         ORDER BY name",
    )
    .bind(user.unwrap_or(-1))
    .fetch_all(db.readers())
    .await
    .map_err(of_sqlx)?;
    let mut roles = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let pairs = sqlx::query(
        "SELECT role_id, resource, action FROM console_role_permissions \
         ORDER BY resource, action",
    )
    .fetch_all(db.readers())
    .await
    .map_err(of_sqlx)?;
    for row in &pairs {
        let id: i64 = row.try_get("role_id").map_err(of_sqlx)?;
        if let Some(role) = roles.iter_mut().find(|role| role.id == id) {
            role.permissions.push(pair(row)?);
        }
    }
    Ok(roles)
}

async fn permissions(db: &Db, user: i64) -> Result<Vec<Permission>, StoreError> {
    let rows = sqlx::query(
        "SELECT DISTINCT p.resource, p.action FROM console_role_permissions p \
         JOIN console_user_roles u ON u.role_id = p.role_id WHERE u.user_id = $1",
    )
    .bind(user)
    .fetch_all(db.readers())
    .await
    .map_err(of_sqlx)?;
    rows.iter().map(pair).collect()
}

async fn add(db: &Db, role: &RoleEdit) -> Result<Option<i64>, StoreError> {
    let now = now_ms();
    let mut transaction = db.begin().await?;
    let row = sqlx::query(
        "INSERT INTO console_roles (name, description, created_at, updated_at) \
         VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING RETURNING id",
    )
    .bind(role.name.as_str())
    .bind(role.description.as_deref())
    .bind(now)
    .bind(now)
    .fetch_optional(&mut *transaction)
    .await
    .map_err(of_sqlx)?;
    let Some(row) = row else { return Ok(None) };
    let id = row.try_get("id").map_err(of_sqlx)?;
    add_permissions(&mut transaction, id, role).await?;
    transaction.commit().await.map_err(of_sqlx)?;
    Ok(Some(id))
}

async fn edit(db: &Db, id: i64, role: &RoleEdit) -> Result<Edited, StoreError> {
    let mut transaction = db.begin().await?;
    let taken = sqlx::query("SELECT id FROM console_roles WHERE id <> $1 AND name = $2")
        .bind(id)
        .bind(role.name.as_str())
        .fetch_optional(&mut *transaction)
        .await
        .map_err(of_sqlx)?;
    if taken.is_some() {
        return Ok(Edited::Taken);
    }
    let edited = sqlx::query(
        "UPDATE console_roles SET name = $1, description = $2, updated_at = $3 \
         WHERE id = $4 AND is_system = 0",
    )
    .bind(role.name.as_str())
    .bind(role.description.as_deref())
    .bind(now_ms())
    .bind(id)
    .execute(&mut *transaction)
    .await
    .map_err(of_sqlx)?;
    if edited.rows_affected() == 0 {
        return Ok(Edited::Unknown);
    }
    sqlx::query("DELETE FROM console_role_permissions WHERE role_id = $1")
        .bind(id)
        .execute(&mut *transaction)
        .await
        .map_err(of_sqlx)?;
    add_permissions(&mut transaction, id, role).await?;
    transaction.commit().await.map_err(of_sqlx)?;
    Ok(Edited::Done)
}

async fn add_permissions(
    transaction: &mut Transaction<'_, Any>,
    id: i64,
    role: &RoleEdit,
) -> Result<(), StoreError> {
    for (resource, action) in &role.permissions {
        sqlx::query(
            "INSERT INTO console_role_permissions (role_id, resource, action) \
             VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        )
        .bind(id)
        .bind(resource.as_str())
        .bind(action.as_str())
        .execute(&mut **transaction)
        .await
        .map_err(of_sqlx)?;
    }
    Ok(())
}

async fn delete(db: &Db, id: i64) -> Result<Edited, StoreError> {
    let deleted = sqlx::query("DELETE FROM console_roles WHERE id = $1 AND is_system = 0")
        .bind(id)
        .execute(db.writer())
        .await
        .map_err(of_sqlx)?;
    Ok(if deleted.rows_affected() > 0 { Edited::Done } else { Edited::Unknown })
}

async fn set(db: &Db, user: i64, roles: &[i64]) -> Result<Edited, StoreError> {
    let mut transaction = db.begin().await?;
    sqlx::query("DELETE FROM console_user_roles WHERE user_id = $1")
        .bind(user)
        .execute(&mut *transaction)
        .await
        .map_err(of_sqlx)?;
    let known = sqlx::query("SELECT id FROM console_users WHERE id = $1")
        .bind(user)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(of_sqlx)?;
    if known.is_none() {
        return Ok(Edited::Unknown);
    }
    for role in roles {
        let added = sqlx::query(
            "INSERT INTO console_user_roles (user_id, role_id) \
             SELECT $1, id FROM console_roles WHERE id = $2 ON CONFLICT DO NOTHING",
        )
        .bind(user)
        .bind(*role)
        .execute(&mut *transaction)
        .await
        .map_err(of_sqlx)?;
        if added.rows_affected() == 0 {
            return Ok(Edited::Unknown);
        }
    }
    end_sessions(&mut transaction, user).await?;
    transaction.commit().await.map_err(of_sqlx)?;
    Ok(Edited::Done)
}

fn read(row: &AnyRow) -> Result<Role, StoreError> {
    let number = |column: &str| row.try_get::<i64, _>(column).map_err(of_sqlx);
    Ok(Role {
        id: number("id")?,
        name: row.try_get("name").map_err(of_sqlx)?,
        description: row.try_get("description").map_err(of_sqlx)?,
        is_system: number("is_system")? != 0,
        permissions: Vec::new(),
        created_at: number("created_at")?,
        updated_at: number("updated_at")?,
    })
}

fn pair(row: &AnyRow) -> Result<Permission, StoreError> {
    let text = |column: &str| row.try_get::<String, _>(column).map_err(of_sqlx);
    Ok((text("resource")?, text("action")?))
}
