//! Versions of a resource: ETag in answers, If-Match in requests (RFC 9110 8.8.3, 13.1.1).
//! Owns:  how a version is made: from the bytes of what is shown.
//! Gives: `tagged` for answers, `check` before a write.
//! Never: a version that is kept; the resource is its own.
//! Holds: a write with If-Match happens only to what the writer saw.

use axum::Json;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Code, Problem};

/// The answer with its version.
pub(super) fn tagged(shown: Value) -> ([(HeaderName, HeaderValue); 1], Json<Value>) {
    ([(header::ETAG, of(&shown))], Json(shown))
}

/// Refuses a write to something that has changed since the writer saw it.
pub(super) fn check(headers: &HeaderMap, current: &Value) -> Result<(), Problem> {
    let mut wanted = headers.get_all(header::IF_MATCH).iter().peekable();
    if wanted.peek().is_none() {
        return Ok(());
    }
    let current = of(current);
    let matches = wanted.filter_map(|value| value.to_str().ok()).any(|value| {
        value
            .split(',')
            .map(str::trim)
            .any(|tag| tag == "*" || tag.as_bytes() == current.as_bytes())
    });
    if matches {
        return Ok(());
    }
    let text = "it has changed since then; read it again and write with its new ETag";
    Err(Problem::new(Code::PreconditionFailed, text))
}

pub(super) fn of(shown: &Value) -> HeaderValue {
    let hash = Sha256::digest(shown.to_string().as_bytes());
    let tag =
        hash.iter().take(12).fold(String::from("\""), |tag, byte| tag + &format!("{byte:02x}"));
    HeaderValue::try_from(tag + "\"").expect("hex in quotes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn with(value: &HeaderValue) -> HeaderMap {
        HeaderMap::from_iter([(header::IF_MATCH, value.clone())])
    }

    #[test]
    fn only_the_version_that_was_seen_may_be_written() {
        let (seen, changed) = (json!({ "name": "a" }), json!({ "name": "b" }));
        let ([(_, tag)], _) = tagged(seen.clone());
        assert!(check(&HeaderMap::new(), &changed).is_ok(), "who does not ask is not told");
        assert!(check(&with(&tag), &seen).is_ok());
        assert!(check(&with(&tag), &changed).is_err());
        assert!(check(&with(&HeaderValue::from_static("*")), &changed).is_ok());
        let listed = format!("\"x\", {}", tag.to_str().expect("text"));
        assert!(check(&with(&listed.parse().expect("a value")), &seen).is_ok());
        assert!(check(&with(&HeaderValue::from_static("W/\"x\"")), &seen).is_err());
    }
}
