//! Users: who may log in. `/users` of our own API, `/settings/users` in the original's verbs.
//! Owns:  the fields of a user and what may stand in them.
//! Gives: lists, one, create, change, remove, and the roles of one.
//! Never: a password or a hash in an answer; more rights to somebody than the caller has.
//! Holds: somebody who may do everything is always left. Every change is in the audit log.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::asked::{Document, Id, Pairs};
use super::fields::Fields;
use super::login::{show_rights, show_user};
use super::page::{PER_PAGE_DEFAULT, clamp_per_page, envelope, own_page};
use super::roles::show_role;
use super::routes::{Need, Routes};
use super::{App, Code, Problem, etag, user_doc};
use crate::access::{
    Caller, Deed, PASSWORD_BYTES_MAX, PASSWORD_CHARS_MIN, Principal, Refusal, Right, Rights,
    of_permission,
};
use crate::store::{Edited, Role, User, UserEdit, UserSearch};

const NEED: Need = Need::Right(Right::UsersManage);
const USERS_MAX: u64 = 10_000;
const ROLES_OF_ONE_MAX: usize = 50;

/// Under `/api/v1`.
pub(super) fn routes() -> Routes {
    Routes::new()
        .get("/users", NEED, list)
        .doc(user_doc::list())
        .post("/users", NEED, create)
        .doc(user_doc::create())
        .merge(of_one("/users/{id}"))
        .get("/users/{id}/roles", NEED, roles)
        .doc(user_doc::roles())
        .on(Method::PUT, "/users/{id}/roles", NEED, set_roles)
        .doc(user_doc::set_roles())
        .post("/session/password", Need::Login, own_password)
        .doc(user_doc::own_password())
}

/// Under the older prefixes: POST asks, PUT creates.
pub(super) fn older_routes() -> Routes {
    Routes::new()
        .post("/settings/users", NEED, search)
        .doc(user_doc::search())
        .on(Method::PUT, "/settings/users", NEED, create)
        .doc(user_doc::create())
        .merge(of_one("/settings/users/{id}"))
        .get("/settings/users/{id}/roles", NEED, roles)
        .doc(user_doc::roles())
        .post("/settings/users/{id}/roles", NEED, set_roles)
        .doc(user_doc::set_roles())
}

fn of_one(path: &str) -> Routes {
    Routes::new()
        .get(path, NEED, one)
        .doc(user_doc::one())
        .on(Method::PATCH, path, NEED, change)
        .doc(user_doc::change())
        .on(Method::DELETE, path, NEED, remove)
        .doc(user_doc::remove())
}

async fn list(State(app): State<App>, pairs: Pairs) -> Result<Json<Value>, Problem> {
    pairs.refuse_unknown(&["limit", "cursor", "q", "active"])?;
    let slice = pairs.slice()?;
    let text = pairs.last("q").map(str::to_owned);
    let active = pairs.flag("active")?;
    let search = UserSearch { limit: slice.limit, skip: slice.skip, text, active };
    let (total, users) = app.store.users(&search).await?;
    Ok(Json(own_page(users.iter().map(show_user).collect(), slice, total)))
}

/// The original's query: `{page, per_page, filters{q, active}}`, or the filters at the top.
async fn search(State(app): State<App>, Document(body): Document) -> Result<Json<Value>, Problem> {
    let mut fields = Fields::of(body)?;
    let page = fields.number("page").unwrap_or(1).clamp(1, 1_000_000) as u32;
    let per_page = fields.number("per_page").unwrap_or_else(|| PER_PAGE_DEFAULT.into());
    let per_page = clamp_per_page(u32::try_from(per_page).unwrap_or(0));
    let mut filters = match fields.object("filters") {
        Some(filters) => Fields::of(filters.into())?,
        None => Fields::of(json!({}))?,
    };
    let text = fields.text_or_null("q").or_else(|| filters.text_or_null("q")).flatten();
    let active = fields.flag("active").or_else(|| filters.flag("active"));
    // There is one order here; the original's word for one is taken and means it.
    let _order = fields.text_or_null("sort");
    filters.finish()?;
    fields.finish()?;
    let text = text.filter(|text| !text.trim().is_empty());
    let search = UserSearch { limit: per_page, skip: (page - 1) * per_page, text, active };
    let (total, users) = app.store.users(&search).await?;
    Ok(Json(envelope(page, per_page, total, users.iter().map(show_user).collect())))
}

async fn one(State(app): State<App>, Id(id): Id) -> Result<Response, Problem> {
    let user = find(&app, &id).await?;
    Ok(etag::tagged(show(&app, &user).await?).into_response())
}

/// A user with its roles and what they come to.
async fn show(app: &App, user: &User) -> Result<Value, Problem> {
    let roles = app.store.roles_of(user.id).await?;
    let mut shown = show_user(user);
    shown["roles"] = roles.iter().map(|role| json!({ "id": role.id, "name": role.name })).collect();
    shown["rights"] = json!(show_rights(app.access.rights_of(user).await?));
    Ok(shown)
}

async fn find(app: &App, id: &str) -> Result<User, Problem> {
    let number = id.parse().ok();
    let found = match number {
        Some(number) => app.store.user(number).await?,
        None => None,
    };
    found.ok_or_else(|| Problem::new(Code::NoSuchUser, format!("no user has the number \"{id}\"")))
}

/// Nobody gives, or takes from somebody, what they do not have themselves.
fn within(caller: &Caller, rights: Rights) -> Result<(), Problem> {
    if caller.rights.covers(rights) {
        return Ok(());
    }
    let text = format!("{caller} may do less than this would give or touch");
    Err(Problem::new(Code::PermissionMissing, text))
}

async fn create(
    State(app): State<App>,
    caller: Caller,
    Document(body): Document,
) -> Result<Response, Problem> {
    let mut fields = Fields::of(body)?;
    let username = fields.text("username");
    if username.is_none() {
        fields.missing("username");
    }
    let email = fields.text_or_null("email").flatten();
    let password = fields.text("password");
    if password.is_none() {
        fields.missing("password");
    }
    let mut edit = UserEdit {
        username: username.unwrap_or_default(),
        email,
        password_hash: None,
        is_active: fields.flag("is_active").unwrap_or(true),
        is_staff: fields.flag("is_staff").unwrap_or(false),
        is_superuser: fields.flag("is_superuser").unwrap_or(false),
    };
    check(&mut fields, &mut edit, password.as_deref());
    fields.finish()?;
    if edit.is_superuser {
        within(&caller, Rights::ALL)?;
    }
    let any = UserSearch { limit: 1, ..UserSearch::default() };
    if app.store.users(&any).await?.0 >= USERS_MAX {
        return Err(Problem::new(Code::TooMany, format!("there are {USERS_MAX} users already")));
    }
    let hash = app.access.passwords().hash(&password.unwrap_or_default()).await;
    edit.password_hash = Some(hash.map_err(Refusal::from)?);
    let Some(id) = app.store.add_user(&edit).await? else { return Err(taken()) };
    let user = find(&app, &id.to_string()).await?;
    let shown = show(&app, &user).await?;
    let object = format!("user {}", user.username);
    let deed = Deed::done("user.create", &object).change(None, Some(shown.clone()));
    app.access.record(&caller, deed).await;
    Ok((StatusCode::CREATED, etag::tagged(shown)).into_response())
}

/// What may stand in the fields of a user.
fn check(fields: &mut Fields, edit: &mut UserEdit, password: Option<&str>) {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let name = &edit.username;
    if !name.is_empty() && (name.len() > 64 || !name.chars().all(plain)) {
        fields.refuse("username", "must be at most 64 letters, digits, dots, dashes, underscores");
    } else if name.is_empty() {
        fields.refuse("username", "must not be empty");
    }
    edit.email = edit.email.take().map(|email| email.trim().to_lowercase());
    if let Some(email) = &edit.email {
        let halves = email.split_once('@');
        let fits = halves.is_some_and(|(user, host)| !user.is_empty() && !host.is_empty());
        if !fits || email.len() > 254 || email.chars().any(|c| c.is_control() || c == ' ') {
            fields.refuse("email", "must be an email address");
        }
    }
    if let Some(password) = password {
        if password.chars().count() < PASSWORD_CHARS_MIN || password.len() > PASSWORD_BYTES_MAX {
            let bounds = format!(
                "must have {PASSWORD_CHARS_MIN} characters or more, and at most \
                 {PASSWORD_BYTES_MAX} bytes"
            );
            fields.refuse("password", bounds);
        } else if password.eq_ignore_ascii_case(&edit.username) {
            fields.refuse("password", "must not be the user's name");
        }
    }
}

async fn change(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
    headers: HeaderMap,
    Document(body): Document,
) -> Result<Response, Problem> {
    let user = find(&app, &id).await?;
    let before = show(&app, &user).await?;
    etag::check(&headers, &before)?;
    within(&caller, app.access.rights_of(&user).await?)?;
    let mut fields = Fields::of(body)?;
    let mut edit = UserEdit {
        username: fields.text("username").unwrap_or_else(|| user.username.clone()),
        email: fields.text_or_null("email").unwrap_or_else(|| user.email.clone()),
        password_hash: None,
        is_active: fields.flag("is_active").unwrap_or(user.is_active),
        is_staff: fields.flag("is_staff").unwrap_or(user.is_staff),
        is_superuser: fields.flag("is_superuser").unwrap_or(user.is_superuser),
    };
    let password = fields.text("password");
    check(&mut fields, &mut edit, password.as_deref());
    fields.finish()?;
    if edit.is_superuser {
        within(&caller, Rights::ALL)?;
    }
    if let Some(password) = &password {
        let hash = app.access.passwords().hash(password).await;
        edit.password_hash = Some(hash.map_err(Refusal::from)?);
    }
    edited(app.store.edit_user(user.id, &edit).await?, &id)?;
    let after = show(&app, &find(&app, &id).await?).await?;
    let object = format!("user {}", user.username);
    let mut deed = Deed::done("user.change", &object).change(Some(before), Some(after.clone()));
    if password.is_some() {
        deed = deed.detail("with a new password; its sessions are over");
    }
    app.access.record(&caller, deed).await;
    Ok(etag::tagged(after).into_response())
}

async fn remove(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let user = find(&app, &id).await?;
    let before = show(&app, &user).await?;
    etag::check(&headers, &before)?;
    within(&caller, app.access.rights_of(&user).await?)?;
    edited(app.store.delete_user(user.id).await?, &id)?;
    let object = format!("user {}", user.username);
    let deed = Deed::done("user.remove", &object).change(Some(before), None);
    app.access.record(&caller, deed).await;
    Ok(StatusCode::NO_CONTENT)
}

fn edited(outcome: Edited, id: &str) -> Result<(), Problem> {
    match outcome {
        Edited::Done => Ok(()),
        Edited::LastAdmin => {
            let text = "nobody who may do everything would be left";
            Err(Problem::new(Code::LastAdmin, text))
        }
        Edited::Taken => Err(taken()),
        Edited::Unknown => {
            Err(Problem::new(Code::NoSuchUser, format!("no user has the number \"{id}\"")))
        }
    }
}

fn taken() -> Problem {
    Problem::new(Code::NameTaken, "another user has this name or this email")
}

async fn roles(State(app): State<App>, Id(id): Id) -> Result<Json<Value>, Problem> {
    let user = find(&app, &id).await?;
    let roles = app.store.roles_of(user.id).await?;
    Ok(Json(json!({ "data": roles.iter().map(show_role).collect::<Vec<_>>() })))
}

/// `{role_ids: [1, 2]}`: these and no others.
async fn set_roles(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
    Document(body): Document,
) -> Result<Json<Value>, Problem> {
    let user = find(&app, &id).await?;
    let mut fields = Fields::of(body)?;
    let list = fields.list("role_ids");
    if list.is_none() {
        fields.missing("role_ids");
    }
    let list = list.unwrap_or_default();
    let mut ids: Vec<i64> = list.iter().filter_map(Value::as_i64).collect();
    if ids.len() != list.len() || ids.len() > ROLES_OF_ONE_MAX {
        fields.refuse("role_ids", format!("must be at most {ROLES_OF_ONE_MAX} whole numbers"));
    }
    ids.sort_unstable();
    ids.dedup();
    let known = app.store.roles().await?;
    let wanted: Vec<&Role> = known.iter().filter(|role| ids.contains(&role.id)).collect();
    if wanted.len() != ids.len() {
        fields.refuse("role_ids", "one of them is no role");
    }
    fields.finish()?;
    let old = app.store.roles_of(user.id).await?;
    within(&caller, rights(old.iter()).and(rights(wanted.iter().copied())))?;
    edited(app.store.set_roles(user.id, &ids).await?, &id)?;
    let names = |roles: &mut dyn Iterator<Item = &Role>| -> Value {
        json!({ "roles": roles.map(|role| role.name.clone()).collect::<Vec<_>>() })
    };
    let object = format!("user {}", user.username);
    let (before, after) = (names(&mut old.iter()), names(&mut wanted.iter().copied()));
    let deed = Deed::done("user.roles", &object).change(Some(before), Some(after));
    app.access.record(&caller, deed).await;
    Ok(Json(json!({ "data": wanted.into_iter().map(show_role).collect::<Vec<_>>() })))
}

fn rights<'r>(roles: impl Iterator<Item = &'r Role>) -> Rights {
    let pairs = roles.flat_map(|role| &role.permissions);
    let given = pairs.filter_map(|(resource, action)| of_permission(resource, action));
    given.fold(Rights::NONE, Rights::and)
}

/// `{old_password, new_password}` of whoever is logged in; all its sessions end, this one too.
async fn own_password(
    State(app): State<App>,
    caller: Caller,
    Document(body): Document,
) -> Result<StatusCode, Problem> {
    let Principal::User { id, .. } = &caller.principal else {
        return Err(Problem::new(Code::NoSession, format!("{caller} has no password")));
    };
    let mut fields = Fields::of(body)?;
    let (old, new) = (fields.text("old_password"), fields.text("new_password"));
    for (name, value) in [("old_password", &old), ("new_password", &new)] {
        if value.is_none() {
            fields.missing(name);
        }
    }
    let user = find(&app, &id.to_string()).await?;
    let mut edit = UserEdit {
        username: user.username.clone(),
        email: user.email.clone(),
        password_hash: None,
        is_active: user.is_active,
        is_staff: user.is_staff,
        is_superuser: user.is_superuser,
    };
    let new = new.unwrap_or_default();
    let mut of_new = Fields::of(json!({}))?;
    check(&mut of_new, &mut edit, Some(&new));
    fields.take_errors(of_new, "password", "new_password");
    fields.finish()?;
    let checked = app.access.check_password(&user, &old.unwrap_or_default(), caller.source).await;
    checked.map_err(|refusal| match refusal {
        Refusal::WrongPassword { .. } => {
            Problem::new(Code::PasswordWrong, "old_password is not the password")
        }
        other => other.into(),
    })?;
    let hash = app.access.passwords().hash(&new).await.map_err(Refusal::from)?;
    edit.password_hash = Some(hash);
    edited(app.store.edit_user(user.id, &edit).await?, &id.to_string())?;
    let object = format!("user {}", user.username);
    app.access.record(&caller, Deed::done("user.password", &object)).await;
    Ok(StatusCode::NO_CONTENT)
}
