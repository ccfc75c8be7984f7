//! What a client may ask of `GET /api/v1/call-records`: filters, order, limit, cursor.
//! Owns:  the names under our own prefix; the form of a cursor.
//! Gives: a `SliceSearch`, or what is wrong with the first parameter that is.
//! Never: ignores a parameter; one that is unknown, repeated or empty is refused.
//! Holds: a cursor that was given out is read back as the same mark.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use shared::cdr::{CallStatus, Direction};

use super::search::{date_start, invalid, text_of};
use super::{Code, Problem};
use crate::store::{Mark, Match, RecordSlice, RecordSort, SliceSearch};

const LIMIT_DEFAULT: u32 = 50;
const LIMIT_MAX: u32 = 500;
/// A longer one finds nothing: the columns are shorter.
const TEXT_BYTES_MAX: usize = 255;

const NAMES: &str = "from, to, number, trunk, direction, status, sip_code, started_after, \
     started_before, has_recording, min_duration, call_id, q, sort, limit, cursor";

/// The orders, by the names that a query has for them.
const SORTS: [(&str, RecordSort); 4] = [
    ("-started_at", RecordSort::StartedDescending),
    ("started_at", RecordSort::StartedAscending),
    ("-duration", RecordSort::DurationDescending),
    ("duration", RecordSort::DurationAscending),
];

/// From the pairs of a query.
pub(super) fn from_pairs(pairs: &[(String, String)]) -> Result<SliceSearch, Problem> {
    let mut search =
        SliceSearch { limit: LIMIT_DEFAULT, with_total: true, ..SliceSearch::default() };
    for (place, (name, value)) in pairs.iter().enumerate() {
        if pairs[..place].iter().any(|(earlier, _)| earlier == name) {
            return Err(Problem::new(Code::FilterInvalid, format!("\"{name}\" is there twice")));
        }
        if value.is_empty() || value.len() > TEXT_BYTES_MAX {
            return Err(invalid(name, value, "1 to 255 bytes"));
        }
        // The cursor comes last: it only fits the order that it was given out for.
        if name != "cursor" {
            set(&mut search, name, value)?;
        }
    }
    if let Some((_, cursor)) = pairs.iter().find(|(name, _)| name == "cursor") {
        search.mark = Some(read_cursor(cursor, search.sort)?);
    }
    Ok(search)
}

/// The same names in a JSON object.
pub(super) fn from_body(body: &Value) -> Result<SliceSearch, Problem> {
    let Value::Object(body) = body else {
        return Err(Problem::new(Code::BodyUnreadable, "the body must be a JSON object"));
    };
    let set = body.iter().filter(|(_, value)| !value.is_null());
    let text = |value: &Value| match value {
        Value::Bool(flag) => flag.to_string(),
        other => text_of(other),
    };
    let pairs: Vec<_> = set.map(|(name, value)| (name.clone(), text(value))).collect();
    from_pairs(&pairs)
}

fn set(search: &mut SliceSearch, name: &str, value: &str) -> Result<(), Problem> {
    let filter = &mut search.filter;
    let number = |least: u32, most: u32, expected: &str| {
        let number = value.parse().ok().filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| invalid(name, value, expected))
    };
    match name {
        "from" => filter.caller = Some(number_match(value)),
        "to" => filter.callee = Some(number_match(value)),
        "number" => filter.number = Some(number_match(value)),
        "trunk" => filter.trunk = Some(value.to_owned()),
        "direction" => filter.direction = Some(direction(value)?),
        "status" => filter.status = Some(status(value)?),
        "sip_code" => {
            let code = number(100, 699, "a status code from 100 to 699")?;
            filter.sip_code = u16::try_from(code).ok();
        }
        "started_after" => filter.from = Some(date_start(name, value)?),
        "started_before" => filter.until = Some(date_start(name, value)?),
        "has_recording" => {
            let flag = value.parse().map_err(|_| invalid(name, value, "true or false"))?;
            filter.has_recording = Some(flag);
        }
        "min_duration" => {
            let seconds = number(0, u32::MAX, "a number of seconds")?;
            filter.duration_min_ms = Some(u64::from(seconds) * 1_000);
        }
        "call_id" => filter.call_id = Some(value.to_owned()),
        "q" => filter.text = Some(value.to_owned()),
        "sort" => {
            let known = SORTS.iter().find(|(name, _)| *name == value);
            let expected = "-started_at, started_at, -duration or duration";
            search.sort = known.ok_or_else(|| invalid(name, value, expected))?.1;
        }
        "limit" => search.limit = number(1, LIMIT_MAX, "a number from 1 to 500")?,
        _ => {
            let text = format!("\"{name}\" is not one of {NAMES}");
            return Err(Problem::new(Code::FilterUnknown, text));
        }
    }
    Ok(())
}

/// `+4930*` is what starts with `+4930`; anything else is meant as a whole.
fn number_match(value: &str) -> Match {
    match value.strip_suffix('*') {
        Some(start) => Match::Start(start.to_owned()),
        None => Match::Whole(value.to_owned()),
    }
}

fn status(value: &str) -> Result<CallStatus, Problem> {
    Ok(match value {
        "completed" => CallStatus::Completed,
        "failed" => CallStatus::Failed,
        "missed" => CallStatus::Missed,
        _ => return Err(invalid("status", value, "completed, missed or failed")),
    })
}

fn direction(value: &str) -> Result<Direction, Problem> {
    Ok(match value {
        "inbound" => Direction::Inbound,
        "internal" => Direction::Internal,
        "outbound" => Direction::Outbound,
        _ => return Err(invalid("direction", value, "inbound, outbound or internal")),
    })
}

/// `{data, page: {limit, next_cursor, prev_cursor, total_estimate}}`
pub(super) fn envelope(search: &SliceSearch, slice: &RecordSlice, items: Vec<Value>) -> Value {
    json!({
        "data": items,
        "page": {
            "limit": search.limit,
            "next_cursor": slice.next.map(|mark| write_cursor(mark, search.sort)),
            "prev_cursor": slice.previous.map(|mark| write_cursor(mark, search.sort)),
            "total_estimate": slice.total_estimate,
        },
    })
}

fn write_cursor(mark: Mark, sort: RecordSort) -> String {
    let Mark { key, id, backwards } = mark;
    let name = SORTS.iter().find(|(_, known)| *known == sort).map_or("", |(name, _)| name);
    let way = if backwards { '<' } else { '>' };
    URL_SAFE_NO_PAD.encode(format!("{name}{way}{key}:{id}"))
}

fn read_cursor(text: &str, sort: RecordSort) -> Result<Mark, Problem> {
    let read = || {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let (name, way, place) = match text.split_once('<') {
            Some((name, place)) => (name, true, place),
            None => text.split_once('>').map(|(name, place)| (name, false, place))?,
        };
        let known = SORTS.iter().find(|(known, _)| *known == name)?.1;
        let (key, id) = place.split_once(':')?;
        Some((known, Mark { key: key.parse().ok()?, id: id.parse().ok()?, backwards: way }))
    };
    let problem = |text: &str| Problem::new(Code::FilterInvalid, text);
    match read() {
        Some((known, mark)) if known == sort => Ok(mark),
        Some(_) => Err(problem("this cursor was given out for another sort")),
        None => Err(problem("this cursor is none that was given out")),
    }
}

/// A search for everything that fits, for an export.
pub(super) fn whole(
    search: SliceSearch,
    pairs: &[(String, String)],
) -> Result<SliceSearch, Problem> {
    match pairs.iter().find(|(name, _)| matches!(name.as_str(), "limit" | "cursor")) {
        Some((name, _)) => {
            let text = format!("an export has no pages: leave \"{name}\" out");
            Err(Problem::new(Code::FilterInvalid, text))
        }
        None => Ok(SliceSearch { limit: LIMIT_MAX, with_total: false, ..search }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::RecordFilter;

    fn search(pairs: &[(&str, &str)]) -> Result<SliceSearch, Code> {
        let pairs: Vec<_> =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        from_pairs(&pairs).map_err(|problem| problem.code())
    }

    #[test]
    fn every_filter_has_its_place() {
        let found = search(&[
            ("from", "+4930*"),
            ("to", "1001"),
            ("number", "1002"),
            ("trunk", "carrier"),
            ("direction", "inbound"),
            ("status", "missed"),
            ("sip_code", "486"),
            ("started_after", "2026-11-24"),
            ("started_before", "2026-11-24T10:00:00Z"),
            ("has_recording", "true"),
            ("min_duration", "5"),
            ("call_id", "a@b"),
            ("q", "49"),
            ("sort", "-duration"),
            ("limit", "500"),
        ])
        .expect("it reads");
        let filter = RecordFilter {
            call_id: Some("a@b".into()),
            callee: Some(Match::Whole("1001".into())),
            caller: Some(Match::Start("+4930".into())),
            direction: Some(Direction::Inbound),
            duration_min_ms: Some(5_000),
            from: found.filter.from,
            has_recording: Some(true),
            number: Some(Match::Whole("1002".into())),
            sip_code: Some(486),
            status: Some(CallStatus::Missed),
            tags: Vec::new(),
            text: Some("49".into()),
            trunk: Some("carrier".into()),
            until: found.filter.until,
        };
        assert_eq!(found.filter, filter);
        let times = [filter.from, filter.until].map(|at| at.map(|at| at.to_string()));
        let expected = ["2026-11-24T00:00:00.000Z", "2026-11-24T10:00:00.000Z"];
        assert_eq!(times, expected.map(|at| Some(at.to_owned())));
        assert_eq!((found.sort, found.limit), (RecordSort::DurationDescending, 500));
    }

    #[test]
    fn parameters_are_refused_rather_than_ignored() {
        assert_eq!(search(&[("page", "1")]).unwrap_err(), Code::FilterUnknown);
        assert_eq!(search(&[("per_page", "1")]).unwrap_err(), Code::FilterUnknown);
        for (name, value) in [
            ("limit", "0"),
            ("limit", "501"),
            ("sip_code", "99"),
            ("sip_code", "x"),
            ("status", "any"),
            ("has_recording", "yes"),
            ("min_duration", "-1"),
            ("sort", "from"),
            ("from", ""),
            ("cursor", "hello"),
            ("cursor", "LTE"),
            ("started_after", "noon"),
        ] {
            assert_eq!(
                search(&[(name, value)]).unwrap_err(),
                Code::FilterInvalid,
                "{name}={value}"
            );
        }
        assert_eq!(search(&[("q", "a"), ("q", "b")]).unwrap_err(), Code::FilterInvalid);
    }

    #[test]
    fn a_cursor_comes_back_and_fits_its_sort_only() {
        for (name, sort) in SORTS {
            for backwards in [false, true] {
                let mark = Mark { key: -7, id: i64::MAX, backwards };
                let cursor = write_cursor(mark, sort);
                let found = search(&[("cursor", &cursor), ("sort", name)]).expect("it reads");
                assert_eq!(found.mark, Some(mark), "{name}");
                let other = if name == "duration" { "started_at" } else { "duration" };
                let refused = search(&[("sort", other), ("cursor", &cursor)]);
                assert_eq!(refused.unwrap_err(), Code::FilterInvalid);
            }
        }
    }

    #[test]
    fn a_body_means_the_same_as_a_query() {
        let body = json!({ "has_recording": false, "sip_code": 486, "q": null, "from": "1*" });
        let found = from_body(&body).map_err(|problem| problem.code()).expect("it reads");
        let query = [("has_recording", "false"), ("sip_code", "486"), ("from", "1*")];
        assert_eq!(found.filter, search(&query).expect("it reads").filter);
        assert!(from_body(&json!([1])).is_err());
    }
}
