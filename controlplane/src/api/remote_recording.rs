//! A recording that was uploaded and is no longer on this disk: read back from where it lies.
//! Owns:  the one range that a player asks for.
//! Gives: 200, 206 or 416 as for a local file.
//! Never: the address or keys of that place to the asker.
//! Holds: bytes pass through; nothing is kept here.

use std::ops::RangeInclusive;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use shared::ids::CallId;

use super::{App, Code, Problem};

/// What `Range` asks for, held against the size.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    All,
    Part(RangeInclusive<u64>),
    Unsatisfiable,
}

pub(super) async fn serve(
    app: &App,
    call: CallId,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let found = app.archive.find_remote(call).await?;
    let Some((target, uploaded)) = found else {
        let text = "it was uploaded to a target that does not give it back, or that the configuration \
                    no longer names";
        return Err(Problem::new(Code::RecordingElsewhere, text));
    };
    let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let (status, part) = match asked(range, uploaded.size) {
        Asked::All => (StatusCode::OK, None),
        Asked::Part(part) => (StatusCode::PARTIAL_CONTENT, Some(part)),
        Asked::Unsatisfiable => {
            let size = format!("bytes */{}", uploaded.size);
            let headers = [(header::CONTENT_RANGE, size)];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, headers).into_response());
        }
    };
    let object = target.read(&uploaded.key, part.clone()).await.map_err(|error| {
        tracing::error!(%call, %error, "an uploaded recording cannot be read back");
        Problem::new(Code::ArchiveUnavailable, "the archive did not give it; the log says why")
    })?;
    let mut response = (status, object.body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(object.length));
    if let Some(part) = part {
        let text = format!("bytes {}-{}/{}", part.start(), part.end(), uploaded.size);
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(header::CONTENT_RANGE, value);
        }
    }
    Ok(response)
}

/// RFC 9110 14.1.2. Several ranges, and what cannot be read, mean the whole.
fn asked(range: Option<&str>, size: u64) -> Asked {
    let Some((first, last)) =
        range.and_then(|text| text.trim().strip_prefix("bytes=")).and_then(|r| r.split_once('-'))
    else {
        return Asked::All;
    };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let end = size.saturating_sub(1);
    match (number(first), number(last)) {
        _ if last.contains(',') => Asked::All,
        (Some(from), _) if from >= size => Asked::Unsatisfiable,
        (Some(from), Some(to)) if to >= from => Asked::Part(from..=to.min(end)),
        (Some(from), None) if last.trim().is_empty() => Asked::Part(from..=end),
        (None, Some(0)) if first.trim().is_empty() => Asked::Unsatisfiable,
        (None, Some(suffix)) if first.trim().is_empty() && size > 0 => {
            Asked::Part(size.saturating_sub(suffix)..=end)
        }
        _ => Asked::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_for_a_file() {
        let cases = [
            (None, Asked::All),
            (Some("bytes=0-99"), Asked::Part(0..=99)),
            (Some("bytes=900-5000"), Asked::Part(900..=999)),
            (Some("bytes=100-"), Asked::Part(100..=999)),
            (Some("bytes=-200"), Asked::Part(800..=999)),
            (Some("bytes=-5000"), Asked::Part(0..=999)),
            (Some("bytes=1000-"), Asked::Unsatisfiable),
            (Some("bytes=-0"), Asked::Unsatisfiable),
            (Some("bytes=5-2"), Asked::All),
            (Some("bytes=0-1,5-6"), Asked::All),
            (Some("items=0-1"), Asked::All),
            (Some("bytes=x-y"), Asked::All),
        ];
        for (range, expected) in cases {
            assert_eq!(asked(range, 1_000), expected, "{range:?}");
        }
        assert_eq!(asked(Some("bytes=0-0"), 0), Asked::Unsatisfiable);
    }
}
