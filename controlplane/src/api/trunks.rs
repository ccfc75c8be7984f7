//! `/sip-trunk`, and `/trunks` for newer clients: carriers, and which routes need them.
//! Owns:  the shape of dependencies.
//! Gives: the routes.
//! Never: a password.
//! Holds: a trunk that routes need cannot be removed or renamed.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::asked::Id;
use super::crud::Resource;
use super::routes::Routes;
use super::{App, Clients, Problem, crud_doc};
use crate::directory::Kind;

pub(super) fn routes(clients: Clients) -> Routes {
    under("/sip-trunk", clients)
}

pub(super) fn own_routes() -> Routes {
    under("/trunks", Clients::Own)
}

fn under(path: &'static str, clients: Clients) -> Routes {
    let trunks = Resource { kind: Kind::Trunk, clients, path };
    let answer =
        move |State(app): State<App>, Id(id): Id| async move { dependencies(trunks, &app, &id) };
    trunks
        .routes()
        .get(&trunks.one("/dependencies"), trunks.reading(), answer)
        .doc(crud_doc::dependencies())
}

fn dependencies(trunks: Resource, app: &App, id: &str) -> Result<Json<Value>, Problem> {
    let trunk = trunks.find(app, id)?;
    let routes = app.directory.contents().dependents(&trunk.name);
    let routes: Vec<Value> =
        routes.into_iter().map(|(name, at)| json!({ "name": name, "defined_at": at })).collect();
    Ok(Json(json!({ "trunk": trunk.name, "routes": routes, "total": routes.len() })))
}
