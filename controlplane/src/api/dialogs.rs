//! `GET /dialogs`: every SIP dialog of every shard, raw, for debugging.
//! Owns:  nothing; the shape is that of `DialogView`, with the original's `state`, `from`, `to`.
//! Gives: one flat list.
//! Never: a secret: dialogs have none.
//! Holds: a silent shard is a refusal and not a shorter list.

use axum::Json;
use axum::extract::State;
use serde_json::json;
use shared::command::Question;
use shared::event::{Answer, DialogView};

use super::doc::Doc;
use super::routes::{Need, Routes};
use super::{App, Code, Problem};
use crate::access::Right;

pub(super) fn routes() -> Routes {
    Routes::new().get("/dialogs", Need::Ami(Right::Ami), list).doc(
        Doc::new("Every SIP dialog, raw")
            .answer(
                200,
                "The dialogs",
                json!([{ "state": "Confirmed", "from": "sip:1001@pbx", "to": "sip:1002@pbx" }]),
            )
            .refuses(&[Code::ShardsSilent]),
    )
}

async fn list(State(app): State<App>) -> Result<Json<Vec<DialogView>>, Problem> {
    let answers = app.questions.ask(Question::Dialogs).await?;
    let dialogs = answers.into_iter().flat_map(|answer| match answer {
        Answer::Dialogs(dialogs) => dialogs,
        _ => Vec::new(),
    });
    let mut dialogs: Vec<DialogView> = dialogs.collect();
    dialogs.sort_by_key(|dialog| (dialog.call, dialog.side.index()));
    Ok(Json(dialogs))
}
