//! Roles: named sets of permissions. `/roles` of our own API, `/settings/roles` of the original.
//! Owns:  the fields of a role and what may stand in them.
//! Gives: the list, one, create, change, remove.
//! Never: a role with more rights than whoever writes it.
//! Holds: the roles of the schema stay; what a role comes to is shown as `rights`.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use shared::time::WallMs;

use super::asked::{Document, Id};
use super::doc::{self, Doc};
use super::fields::Fields;
use super::login::show_rights;
use super::routes::{Need, Routes};
use super::{App, Code, Problem, etag};
use crate::access::{Caller, Deed, Right, Rights, of_permission};
use crate::store::{Edited, Permission, Role, RoleEdit};

const NEED: Need = Need::Right(Right::UsersManage);
const ROLES_MAX: usize = 200;
const PERMISSIONS_MAX: usize = 100;
const NAME_CHARS_MAX: usize = 64;
const DESCRIPTION_CHARS_MAX: usize = 500;

pub(super) fn routes() -> Routes {
    under("/roles")
}

pub(super) fn older_routes() -> Routes {
    under("/settings/roles")
}

fn under(path: &str) -> Routes {
    let of_one = format!("{path}/{{id}}");
    let schema = || {
        doc::object(&[
            ("name", doc::text()),
            ("description", doc::text_or_null()),
            (
                "permissions",
                doc::list_of(doc::object(&[("!resource", doc::text()), ("!action", doc::text())])),
            ),
        ])
    };
    let permissions = json!([{ "resource": "cdr", "action": "read" }]);
    let written = json!({ "name": "readers", "permissions": permissions });
    let refused = [Code::BodyInvalid, Code::NameTaken, Code::RoleFixed, Code::TooMany];
    Routes::new()
        .get(path, NEED, list)
        .doc(Doc::new("All roles").answer(200, "By name", json!({ "data": [example()] })))
        .post(path, NEED, create)
        .doc(
            Doc::new("Make a role")
                .body(schema(), written)
                .answer(201, "The role", example())
                .refuses(&refused),
        )
        .get(&of_one, NEED, one)
        .doc(
            Doc::new("One role")
                .at("id", "1")
                .answer(200, "The role", example())
                .refuses(&[Code::NoSuchRole])
                .versioned(),
        )
        .on(Method::PATCH, &of_one, NEED, change)
        .doc(
            Doc::new("Change what is said, leave the rest")
                .at("id", "6")
                .body(schema(), json!({ "description": "who reads" }))
                .answer(200, "The role", example())
                .refuses(&refused)
                .refuses(&[Code::NoSuchRole])
                .versioned(),
        )
        .on(Method::DELETE, &of_one, NEED, remove)
        .doc(
            Doc::new("Remove a role")
                .at("id", "6")
                .empty(204, "It is gone")
                .refuses(&[Code::NoSuchRole, Code::RoleFixed])
                .versioned(),
        )
}

fn example() -> Value {
    json!({
        "id": 6,
        "name": "readers",
        "description": null,
        "is_system": false,
        "permissions": [{ "resource": "cdr", "action": "read" }],
        "rights": ["cdr:read"],
        "created_at": "2026-11-24T10:00:00.000Z",
        "updated_at": "2026-11-24T10:00:00.000Z",
    })
}

async fn list(State(app): State<App>) -> Result<Json<Value>, Problem> {
    let roles = app.store.roles().await?;
    Ok(Json(json!({ "data": roles.iter().map(show_role).collect::<Vec<_>>() })))
}

async fn one(State(app): State<App>, Id(id): Id) -> Result<Response, Problem> {
    Ok(etag::tagged(show_role(&find(&app, &id).await?)).into_response())
}

async fn find(app: &App, id: &str) -> Result<Role, Problem> {
    let found = app.store.roles().await?.into_iter().find(|role| role.id.to_string() == id);
    found.ok_or_else(|| unknown(id))
}

fn unknown(id: &str) -> Problem {
    Problem::new(Code::NoSuchRole, format!("no role has the number \"{id}\""))
}

pub(super) fn show_role(role: &Role) -> Value {
    let permissions = role.permissions.iter();
    let permissions =
        permissions.map(|(resource, action)| json!({ "resource": resource, "action": action }));
    json!({
        "id": role.id,
        "name": role.name,
        "description": role.description,
        "is_system": role.is_system,
        "permissions": permissions.collect::<Vec<_>>(),
        "rights": show_rights(rights(&role.permissions)),
        "created_at": WallMs(role.created_at),
        "updated_at": WallMs(role.updated_at),
    })
}

fn rights(permissions: &[Permission]) -> Rights {
    let given = permissions.iter().filter_map(|(resource, action)| of_permission(resource, action));
    given.fold(Rights::NONE, Rights::and)
}

/// Reads a role; what is not there stays as `old` has it.
fn read(body: Value, old: Option<&Role>) -> Result<RoleEdit, Problem> {
    let mut fields = Fields::of(body)?;
    let name = fields.text("name").or_else(|| old.map(|old| old.name.clone()));
    match name.as_deref().map(str::trim) {
        None => fields.missing("name"),
        Some("") => fields.refuse("name", "must not be empty"),
        Some(name) if name.chars().count() > NAME_CHARS_MAX || name.contains(char::is_control) => {
            fields.refuse("name", format!("must be at most {NAME_CHARS_MAX} plain characters"));
        }
        Some(_) => {}
    }
    let description = fields
        .text_or_null("description")
        .unwrap_or_else(|| old.and_then(|old| old.description.clone()));
    if description.as_ref().is_some_and(|text| text.chars().count() > DESCRIPTION_CHARS_MAX) {
        let text = format!("must be at most {DESCRIPTION_CHARS_MAX} characters");
        fields.refuse("description", text);
    }
    let permissions = match fields.list("permissions") {
        Some(list) => permissions(&mut fields, list),
        None => old.map(|old| old.permissions.clone()).unwrap_or_default(),
    };
    fields.finish()?;
    let name = name.unwrap_or_default().trim().to_owned();
    Ok(RoleEdit { name, description, permissions })
}

fn permissions(fields: &mut Fields, list: Vec<Value>) -> Vec<Permission> {
    if list.len() > PERMISSIONS_MAX {
        fields.refuse("permissions", format!("must be at most {PERMISSIONS_MAX}"));
        return Vec::new();
    }
    let mut permissions = Vec::new();
    for (place, item) in list.into_iter().enumerate() {
        let words = |name: &str| item.get(name).and_then(Value::as_str).map(str::to_owned);
        match (words("resource"), words("action")) {
            (Some(resource), Some(action)) if of_permission(&resource, &action).is_some() => {
                permissions.push((resource, action));
            }
            (Some(resource), Some(action)) => {
                let text = format!("there is no permission {resource}:{action}");
                fields.refuse(&format!("permissions/{place}"), text);
            }
            _ => fields.refuse(&format!("permissions/{place}"), "must have resource and action"),
        }
    }
    permissions.sort_unstable();
    permissions.dedup();
    permissions
}

fn within(caller: &Caller, permissions: &[Permission]) -> Result<(), Problem> {
    if caller.rights.covers(rights(permissions)) {
        return Ok(());
    }
    let text = format!("{caller} may do less than this role");
    Err(Problem::new(Code::PermissionMissing, text))
}

async fn create(
    State(app): State<App>,
    caller: Caller,
    Document(body): Document,
) -> Result<Response, Problem> {
    let edit = read(body, None)?;
    within(&caller, &edit.permissions)?;
    if app.store.roles().await?.len() >= ROLES_MAX {
        return Err(Problem::new(Code::TooMany, format!("there are {ROLES_MAX} roles already")));
    }
    let Some(id) = app.store.add_role(&edit).await? else { return Err(taken()) };
    let shown = show_role(&find(&app, &id.to_string()).await?);
    let object = format!("role {}", edit.name);
    let deed = Deed::done("role.create", &object).change(None, Some(shown.clone()));
    app.access.record(&caller, deed).await;
    Ok((StatusCode::CREATED, etag::tagged(shown)).into_response())
}

fn taken() -> Problem {
    Problem::new(Code::NameTaken, "another role has this name")
}

/// The role, when the caller may touch it.
async fn own_to_change(
    app: &App,
    caller: &Caller,
    id: &str,
    headers: &HeaderMap,
) -> Result<Role, Problem> {
    let role = find(app, id).await?;
    if role.is_system {
        let text =
            format!("{} came with the gateway and stays as it is; make one of your own", role.name);
        return Err(Problem::new(Code::RoleFixed, text));
    }
    etag::check(headers, &show_role(&role))?;
    within(caller, &role.permissions)?;
    Ok(role)
}

async fn change(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
    headers: HeaderMap,
    Document(body): Document,
) -> Result<Response, Problem> {
    let role = own_to_change(&app, &caller, &id, &headers).await?;
    let edit = read(body, Some(&role))?;
    within(&caller, &edit.permissions)?;
    edited(app.store.edit_role(role.id, &edit).await?, &id)?;
    let after = show_role(&find(&app, &id).await?);
    let object = format!("role {}", role.name);
    let deed =
        Deed::done("role.change", &object).change(Some(show_role(&role)), Some(after.clone()));
    app.access.record(&caller, deed).await;
    Ok(etag::tagged(after).into_response())
}

async fn remove(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let role = own_to_change(&app, &caller, &id, &headers).await?;
    edited(app.store.delete_role(role.id).await?, &id)?;
    let object = format!("role {}", role.name);
    let deed = Deed::done("role.remove", &object).change(Some(show_role(&role)), None);
    app.access.record(&caller, deed).await;
    Ok(StatusCode::NO_CONTENT)
}

fn edited(outcome: Edited, id: &str) -> Result<(), Problem> {
    match outcome {
        Edited::Done => Ok(()),
        Edited::Taken => Err(taken()),
        Edited::LastAdmin | Edited::Unknown => Err(unknown(id)),
    }
}
