//! What a request says about itself: query, path and body, with our own refusals.
//! Owns:  the extractors; the library's answers are plain text and carry no code.
//! Gives: `Pairs`, `Id`, `Document`.
//! Never: a meaning of a parameter; `refuse_unknown` only compares names.
//! Holds: every refusal is a `Problem`.

use axum::Json;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde_json::Value;

use super::page::Slice;
use super::{Code, Problem};

const LIMIT_DEFAULT: u32 = 50;
const LIMIT_MAX: u32 = 500;

/// The query, in order, repeats included.
#[derive(Debug)]
pub(super) struct Pairs(pub(super) Vec<(String, String)>);

impl Pairs {
    /// The last value of a parameter; an empty one counts as not there.
    pub(super) fn last(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Problem> {
        let read = |text: &str| {
            text.parse::<bool>().map_err(|_| {
                Problem::new(Code::FilterInvalid, format!("{name} must be true or false"))
            })
        };
        self.last(name).map(read).transpose()
    }

    /// `limit`, as our own lists have it.
    pub(super) fn limit(&self) -> Result<u32, Problem> {
        let Some(text) = self.last("limit") else { return Ok(LIMIT_DEFAULT) };
        let number = text.parse::<u32>().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
        number.ok_or_else(|| {
            let text = format!("limit must be a number from 1 to {LIMIT_MAX}, not \"{text}\"");
            Problem::new(Code::FilterInvalid, text)
        })
    }

    /// `limit` and `cursor` of lists that are short enough to be counted through.
    pub(super) fn slice(&self) -> Result<Slice, Problem> {
        let limit = self.limit()?;
        let skip = match self.last("cursor") {
            None => 0,
            Some(cursor) => Slice::read_cursor(cursor).ok_or_else(|| {
                Problem::new(Code::FilterInvalid, "this cursor is none that was given out")
            })?,
        };
        Ok(Slice { limit, skip })
    }

    pub(super) fn refuse_unknown(&self, known: &[&str]) -> Result<(), Problem> {
        match self.0.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some((name, _)) => {
                let text = format!("\"{name}\" is not one of {}", known.join(", "));
                Err(Problem::new(Code::FilterUnknown, text))
            }
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Pairs {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = Query::try_from_uri(&parts.uri);
        let Query(pairs) =
            query.map_err(|error| Problem::new(Code::QueryUnreadable, error.body_text()))?;
        Ok(Self(pairs))
    }
}

/// The one parameter of a path.
#[derive(Debug)]
pub(super) struct Id(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::from_request_parts(parts, state).await;
        let Path(id) =
            path.map_err(|error| Problem::new(Code::PathUnreadable, error.body_text()))?;
        Ok(Self(id))
    }
}

/// A JSON body.
#[derive(Debug)]
pub(super) struct Document(pub(super) Value);

impl<S: Send + Sync> FromRequest<S> for Document {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let body = Json::from_request(request, state).await;
        let Json(value) = body.map_err(|error| {
            let too_long = error.status() == StatusCode::PAYLOAD_TOO_LARGE;
            let code = if too_long { Code::BodyTooLong } else { Code::BodyUnreadable };
            Problem::new(code, error.body_text())
        })?;
        Ok(Self(value))
    }
}
