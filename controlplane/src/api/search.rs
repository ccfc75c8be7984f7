//! What a client may ask of the list of call records, in the query or in a body.
//! Owns:  the names of the filters and the form of their values.
//! Gives: a `RecordSearch`, or what is wrong with the first filter that is.
//! Never: ignores a filter: an unknown one is refused, one that is not built says so.
//! Holds: `dateTo` without a time includes its whole day.

use serde_json::Value;
use shared::cdr::{CallStatus, Direction};
use shared::time::WallMs;

use super::page::{PER_PAGE_DEFAULT, clamp_per_page};
use super::{Code, Problem};
use crate::store::{Match, RecordSearch, RecordSort};

/// Filters of the original whose columns we do not fill yet.
const NOT_BUILT: [&str; 4] =
    ["onlyTranscribed", "departmentIds", "sipTrunkIds", "outboundSipTrunkIds"];

/// From the pairs of a query.
pub(super) fn from_pairs(pairs: &[(String, String)]) -> Result<RecordSearch, Problem> {
    let mut search = RecordSearch { page: 1, per_page: PER_PAGE_DEFAULT, ..Default::default() };
    for (name, value) in pairs {
        let value = value.trim();
        if !value.is_empty() {
            set(&mut search, name, value)?;
        }
    }
    Ok(search)
}

/// From the original's body: `{page, per_page, filters{}, sort}`.
pub(super) fn from_body(body: &Value) -> Result<RecordSearch, Problem> {
    let Value::Object(body) = body else {
        return Err(Problem::new(Code::BodyUnreadable, "the body must be a JSON object"));
    };
    let mut pairs = Vec::new();
    for (name, value) in body {
        match (name.as_str(), value) {
            ("filters", Value::Object(filters)) => {
                for (name, value) in filters {
                    pairs.push((name.clone(), text_of(value)));
                }
            }
            ("filters", Value::Null) => {}
            ("filters", _) => {
                return Err(Problem::new(Code::BodyUnreadable, "filters must be an object"));
            }
            _ => pairs.push((name.clone(), text_of(value))),
        }
    }
    from_pairs(&pairs)
}

/// Values of a body as they would stand in a query. Nothing asked for is empty.
pub(super) fn text_of(value: &Value) -> String {
    match value {
        Value::Null | Value::Bool(false) => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(list) if list.is_empty() => String::new(),
        other => other.to_string(),
    }
}

fn set(search: &mut RecordSearch, name: &str, value: &str) -> Result<(), Problem> {
    let number = || {
        let number = value.parse::<u32>().ok().filter(|number| *number > 0);
        number.ok_or_else(|| invalid(name, value, "a number from 1"))
    };
    match name {
        "page" => search.page = number()?,
        "per_page" => search.per_page = clamp_per_page(number()?),
        "status" => search.filter.status = status(value)?,
        "direction" => search.filter.direction = direction(value)?,
        "caller" => search.filter.caller = Some(Match::Part(value.to_owned())),
        "callee" => search.filter.callee = Some(Match::Part(value.to_owned())),
        "q" => search.filter.text = Some(value.to_owned()),
        "dateFrom" => search.filter.from = Some(date(name, value, Edge::Start)?),
        "dateTo" => search.filter.until = Some(date(name, value, Edge::End)?),
        "sort" => search.sort = sort(value)?,
        "tags" => search.filter.tags = tags(value)?,
        name if NOT_BUILT.contains(&name) => {
            if value != "false" {
                let text = format!("the filter \"{name}\" is not built yet");
                return Err(Problem::new(Code::NotBuilt, text));
            }
        }
        _ => {
            let text = format!(
                "\"{name}\" is not one of page, per_page, status, direction, caller, callee, q, \
                 dateFrom, dateTo, sort, tags"
            );
            return Err(Problem::new(Code::FilterUnknown, text));
        }
    }
    Ok(())
}

pub(super) fn date_start(name: &str, value: &str) -> Result<WallMs, Problem> {
    date(name, value, Edge::Start)
}

/// A moment that a filter names, as `date` reads the start of a range.
pub(super) fn moment(name: &str, value: Option<&str>) -> Result<Option<WallMs>, Problem> {
    value.map(|value| date(name, value, Edge::Start)).transpose()
}

pub(super) fn invalid(name: &str, value: &str, expected: &str) -> Problem {
    Problem::new(Code::FilterInvalid, format!("{name} must be {expected}, not \"{value}\""))
}

fn status(value: &str) -> Result<Option<CallStatus>, Problem> {
    Ok(Some(match value {
        "any" => return Ok(None),
        "completed" => CallStatus::Completed,
        "failed" => CallStatus::Failed,
        "missed" => CallStatus::Missed,
        _ => return Err(invalid("status", value, "any, completed, missed or failed")),
    }))
}

fn direction(value: &str) -> Result<Option<Direction>, Problem> {
    Ok(Some(match value {
        "any" => return Ok(None),
        "inbound" => Direction::Inbound,
        "internal" => Direction::Internal,
        "outbound" => Direction::Outbound,
        _ => return Err(invalid("direction", value, "any, inbound, outbound or internal")),
    }))
}

fn sort(value: &str) -> Result<RecordSort, Problem> {
    Ok(match value {
        "duration_asc" => RecordSort::DurationAscending,
        "duration_desc" => RecordSort::DurationDescending,
        "started_at_asc" => RecordSort::StartedAscending,
        "started_at_desc" => RecordSort::StartedDescending,
        _ => {
            let expected = "started_at_desc, started_at_asc, duration_desc or duration_asc";
            return Err(invalid("sort", value, expected));
        }
    })
}

/// A JSON list as a body has it, or words with commas between.
fn tags(value: &str) -> Result<Vec<String>, Problem> {
    if value.starts_with('[') {
        return serde_json::from_str(value).map_err(|_| invalid("tags", value, "a list of texts"));
    }
    let tags = value.split(',').map(str::trim).filter(|tag| !tag.is_empty());
    Ok(tags.map(str::to_owned).collect())
}

#[derive(Clone, Copy)]
enum Edge {
    Start,
    End,
}

/// `2026-11-24`, `2026-11-24T10:00`, or RFC 3339. Without a zone it is UTC. The end of a range is
/// included: the day, or the very moment.
fn date(name: &str, value: &str, edge: Edge) -> Result<WallMs, Problem> {
    const DAY_MS: u64 = 86_400_000;
    let read = |text: String| serde_json::from_value::<WallMs>(Value::String(text)).ok();
    let day = || read(format!("{value}T00:00:00Z")).map(|at| (at, DAY_MS));
    let moment = || {
        ["", "Z", ":00Z"]
            .into_iter()
            .find_map(|zone| read(format!("{value}{zone}")))
            .map(|at| (at, 1))
    };
    let found = day().or_else(moment);
    let (at, span_ms) = found.ok_or_else(|| invalid(name, value, "a date such as 2026-11-24"))?;
    Ok(match edge {
        Edge::Start => at,
        Edge::End => at.add_ms(span_ms),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn search(pairs: &[(&str, &str)]) -> Result<RecordSearch, Code> {
        let pairs: Vec<_> =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        from_pairs(&pairs).map_err(|problem| problem.code())
    }

    #[test]
    fn the_end_of_a_range_is_included() {
        let days = search(&[("dateFrom", "2026-11-24"), ("dateTo", "2026-11-24")]);
        let days = days.expect("it reads");
        let (from, until) = (days.filter.from.expect("set"), days.filter.until.expect("set"));
        assert_eq!(from.to_string(), "2026-11-24T00:00:00.000Z");
        assert_eq!(until.to_string(), "2026-11-25T00:00:00.000Z");
        let moments =
            search(&[("dateFrom", "2026-11-24T10:00"), ("dateTo", "2026-11-24T10:00:05+01:00")]);
        let moments = moments.expect("it reads");
        assert_eq!(
            moments.filter.from.map(|at| at.to_string()),
            Some("2026-11-24T10:00:00.000Z".into())
        );
        assert_eq!(
            moments.filter.until.map(|at| at.to_string()),
            Some("2026-11-24T09:00:05.001Z".into())
        );
    }

    #[test]
    fn filters_are_refused_rather_than_ignored() {
        assert_eq!(search(&[("colour", "red")]).unwrap_err(), Code::FilterUnknown);
        assert_eq!(search(&[("status", "great")]).unwrap_err(), Code::FilterInvalid);
        assert_eq!(search(&[("page", "0")]).unwrap_err(), Code::FilterInvalid);
        assert_eq!(search(&[("dateFrom", "yesterday")]).unwrap_err(), Code::FilterInvalid);
        assert_eq!(search(&[("departmentIds", "3")]).unwrap_err(), Code::NotBuilt);
        assert_eq!(search(&[("tags", "[1]")]).unwrap_err(), Code::FilterInvalid);
        assert!(search(&[("onlyTranscribed", "false"), ("q", ""), ("status", "any")]).is_ok());
    }

    #[test]
    fn per_page_is_clamped_and_a_body_means_the_same_as_a_query() {
        assert_eq!(search(&[("per_page", "1")]).map(|s| s.per_page), Ok(5));
        assert_eq!(search(&[("per_page", "5000")]).map(|s| s.per_page), Ok(100));
        let body = json!({
            "page": 2, "per_page": 10, "sort": "duration_desc",
            "filters": { "caller": "1001", "status": "missed", "tags": [], "onlyTranscribed": false },
        });
        let search = from_body(&body).map_err(|problem| problem.code()).expect("it reads");
        assert_eq!((search.page, search.per_page), (2, 10));
        assert_eq!(search.filter.caller, Some(Match::Part("1001".to_owned())));
        assert_eq!(search.filter.status, Some(CallStatus::Missed));
        assert_eq!(search.sort, RecordSort::DurationDescending);
        assert!(from_body(&json!([])).is_err());
        assert!(from_body(&json!({ "filters": 3 })).is_err());
    }
}
