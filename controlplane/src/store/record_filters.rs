//! What a search for call records may ask, and the conditions that it becomes.
//! Owns:  `RecordFilter`; which questions an index answers by itself.
//! Gives: conditions on `call_records c`, and `rare` lists of ids.
//! Never: text of a caller inside a statement; everything is bound.
//! Holds: a condition looks at columns of `call_records_by_start` wherever it can, so that a row that
//!        does not fit costs no look into the table.

use shared::cdr::{CallStatus, Direction};
use shared::time::WallMs;

use super::db::{Kind, to_sql};
use super::records::{key, status_word, without_nul};
use super::statement::Statement;

/// Up to so many ids of one question are sorted; above, a walk through time finds a page soon enough.
pub(super) const RARE_MAX: i64 = 2_000;

/// What must hold of a record. Nothing set: every record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordFilter {
    pub call_id: Option<String>,
    pub callee: Option<Match>,
    pub caller: Option<Match>,
    pub direction: Option<Direction>,
    pub duration_min_ms: Option<u64>,
    /// Started at or after.
    pub from: Option<WallMs>,
    pub has_recording: Option<bool>,
    /// The caller's or the callee's.
    pub number: Option<Match>,
    pub sip_code: Option<u16>,
    pub status: Option<CallStatus>,
    /// All of them.
    pub tags: Vec<String>,
    /// Part of a number, a URI, a Call-ID or the session id.
    pub text: Option<String>,
    /// The call came from it or went to it.
    pub trunk: Option<String>,
    /// Started before.
    pub until: Option<WallMs>,
}

/// How much of a number is known. Letters match in capitals or not when a part is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    Part(String),
    Start(String),
    Whole(String),
}

impl RecordFilter {
    /// Whether something besides the time is asked.
    pub(super) fn is_selective(&self) -> bool {
        let only_time = Self { from: self.from, until: self.until, ..Self::default() };
        *self != only_time
    }

    /// Everything that must hold, each condition with an AND before it.
    pub(super) fn push(&self, query: &mut Statement, kind: Kind) {
        self.push_times(query);
        if let Some(status) = self.status {
            query.push(" AND c.status = ").bind(status_word(status));
        }
        if let Some(direction) = self.direction {
            query.push(" AND c.direction = ").bind(direction.as_str());
        }
        if let Some(code) = self.sip_code {
            query.push(" AND c.status_code = ").bind(i64::from(code));
        }
        if let Some(least) = self.duration_min_ms {
            query.push(" AND c.duration_ms >= ").bind(to_sql(least));
        }
        if let Some(caller) = &self.caller {
            push_match(query.push(" AND "), "c.from_number", caller, kind);
        }
        if let Some(callee) = &self.callee {
            push_match(query.push(" AND "), "c.to_number", callee, kind);
        }
        if let Some(number) = &self.number {
            push_match(query.push(" AND ("), "c.from_number", number, kind);
            push_match(query.push(" OR "), "c.to_number", number, kind);
            query.push(")");
        }
        if let Some(trunk) = &self.trunk {
            query.push(" AND (c.sip_trunk = ").bind(key(trunk));
            query.push(" OR c.outbound_trunk = ").bind(key(trunk)).push(")");
        }
        if let Some(id) = &self.call_id {
            query.push(" AND (c.call_id = ").bind(key(id));
            query.push(" OR c.session_id IN (SELECT l.session_id FROM call_legs l ");
            query.push("WHERE l.call_id = ").bind(key(id)).push("))");
        }
        if let Some(has) = self.has_recording {
            query.push(if has { " AND EXISTS " } else { " AND NOT EXISTS " });
            query.push("(SELECT 1 FROM recordings e WHERE e.session_id = c.session_id ");
            query.push("AND e.state = 'ready')");
        }
        for tag in &self.tags {
            // The column is a JSON list: a tag in it stands between quotes.
            let json = serde_json::Value::String(tag.clone()).to_string();
            push_like(query.push(" AND "), "c.tags", &pattern(&json), kind);
        }
        if let Some(text) = &self.text {
            push_text(query, text, kind);
        }
    }

    pub(super) fn push_times(&self, query: &mut Statement) {
        if let Some(from) = self.from {
            query.push(" AND c.started_at >= ").bind(from.0);
        }
        if let Some(until) = self.until {
            query.push(" AND c.started_at < ").bind(until.0);
        }
    }

    /// The questions that an index answers, the most telling one first.
    pub(super) fn rare(&self) -> Vec<Rare> {
        let numbered = |number: &Option<Match>| number.as_ref().is_some_and(Match::has_start);
        let asked = [
            (Rare::CallId, self.call_id.is_some()),
            (Rare::Number, numbered(&self.number)),
            (Rare::Caller, numbered(&self.caller)),
            (Rare::Callee, numbered(&self.callee)),
            (Rare::Trunk, self.trunk.is_some()),
            (Rare::SipCode, self.sip_code.is_some()),
            (Rare::Recorded, self.has_recording == Some(true)),
        ];
        asked.into_iter().filter(|(_, asked)| *asked).map(|(rare, _)| rare).collect()
    }

    /// A SELECT of the ids that an index finds for this question, of each kind at most `RARE_MAX` and
    /// one more.
    pub(super) fn push_rare(&self, rare: Rare, query: &mut Statement) {
        match rare {
            Rare::CallId => {
                let id = key(self.call_id.as_deref().unwrap_or_default());
                push_half(query, "call_records c WHERE c.call_id = ").bind(&*id);
                push_other_half(query, "call_legs l CROSS JOIN call_records c ");
                query.push("WHERE c.session_id = l.session_id AND l.call_id = ").bind(&*id);
            }
            Rare::Number => {
                push_half(query, "call_records c WHERE ");
                push_range(query, "c.from_number", self.number.as_ref());
                push_other_half(query, "call_records c WHERE ");
                push_range(query, "c.to_number", self.number.as_ref());
            }
            Rare::Caller => {
                push_half(query, "call_records c WHERE ");
                push_range(query, "c.from_number", self.caller.as_ref());
            }
            Rare::Callee => {
                push_half(query, "call_records c WHERE ");
                push_range(query, "c.to_number", self.callee.as_ref());
            }
            Rare::Trunk => {
                let trunk = key(self.trunk.as_deref().unwrap_or_default());
                push_half(query, "call_records c WHERE c.sip_trunk = ").bind(&*trunk);
                push_other_half(query, "call_records c WHERE c.outbound_trunk = ").bind(&*trunk);
            }
            Rare::SipCode => {
                let code = i64::from(self.sip_code.unwrap_or_default());
                push_half(query, "call_records c WHERE c.status_code = ").bind(code);
            }
            Rare::Recorded => {
                push_half(query, "recordings r CROSS JOIN call_records c ");
                query.push("WHERE c.session_id = r.session_id AND r.state = 'ready'");
            }
        }
        query.push(" LIMIT ").bind(RARE_MAX + 1).push(") h");
    }
}

/// A question that an index answers by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rare {
    CallId,
    Callee,
    Caller,
    Number,
    Recorded,
    SipCode,
    Trunk,
}

impl Match {
    const fn has_start(&self) -> bool {
        matches!(self, Self::Start(_) | Self::Whole(_))
    }
}

fn push_half<'q>(query: &'q mut Statement, tables: &'static str) -> &'q mut Statement {
    query.push("SELECT h.id AS id FROM (SELECT c.id AS id FROM ").push(tables)
}

fn push_other_half<'q>(query: &'q mut Statement, tables: &'static str) -> &'q mut Statement {
    query.push(" LIMIT ").bind(RARE_MAX + 1).push(") h UNION ");
    push_half(query, tables)
}

fn push_match(query: &mut Statement, column: &'static str, number: &Match, kind: Kind) {
    match number {
        Match::Part(part) => push_like(query, column, &pattern(part), kind),
        Match::Start(_) | Match::Whole(_) => {
            query.push("(");
            push_range(query, column, Some(number));
            query.push(")");
        }
    }
}

/// The same as an index sees it.
fn push_range(query: &mut Statement, column: &'static str, number: Option<&Match>) {
    match number {
        Some(Match::Whole(whole)) => {
            query.push(column).push(" = ").bind(key(whole));
        }
        Some(Match::Start(start)) => {
            // Both databases compare these columns byte by byte, and no character comes after this one.
            let start = without_nul(start);
            query.push(column).push(" >= ").bind(start.as_str());
            query.push(" AND ").push(column).push(" < ").bind(format!("{start}\u{10ffff}"));
        }
        // A part in the middle is no range.
        Some(Match::Part(_)) | None => {
            query.push("1 = 1");
        }
    }
}

fn push_text(query: &mut Statement, text: &str, kind: Kind) {
    const COLUMNS: [&str; 6] = [
        "c.from_number",
        "c.to_number",
        "c.call_id",
        "c.session_id",
        "c.caller_uri",
        "c.callee_uri",
    ];
    let pattern = pattern(text);
    for (place, column) in COLUMNS.into_iter().enumerate() {
        query.push(if place == 0 { " AND (" } else { " OR " });
        push_like(query, column, &pattern, kind);
    }
    query.push(")");
}

fn push_like(query: &mut Statement, column: &'static str, pattern: &str, kind: Kind) {
    let like = match kind {
        Kind::Postgres => " ILIKE ",
        Kind::Sqlite => " LIKE ",
    };
    query.push(column).push(like).bind(pattern).push(" ESCAPE '\\'");
}

/// `part` anywhere in a text; its own wildcards mean themselves.
fn pattern(part: &str) -> String {
    let mut pattern = String::from("%");
    for c in without_nul(part).chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}
