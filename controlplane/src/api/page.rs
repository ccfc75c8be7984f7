//! The envelopes of lists: `page, per_page, total_pages, total_items, items` of the older prefixes, and
//! `data, page` of our own.
//! Owns:  the bounds of `per_page`; the form of a cursor.
//! Gives: one shape for every list of a prefix.
//! Never: the query behind a page.
//! Holds: an empty list has one page.

use serde_json::{Value, json};

pub(super) const PER_PAGE_DEFAULT: u32 = 20;

/// The original's bounds.
pub(super) fn clamp_per_page(asked: u32) -> u32 {
    asked.clamp(5, 100)
}

pub(super) fn envelope(page: u32, per_page: u32, total: u64, items: Vec<Value>) -> Value {
    let pages = total.div_ceil(u64::from(per_page.max(1))).max(1);
    json!({
        "page": page,
        "per_page": per_page,
        "total_pages": pages,
        "total_items": total,
        "items": items,
    })
}

/// A part of a list that is short enough to be counted through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) limit: u32,
    pub(super) skip: u32,
}

/// Before the number, so that a cursor is not taken for a page.
const CURSOR_MARK: &str = "s-";

impl Slice {
    pub(super) fn read_cursor(text: &str) -> Option<u32> {
        text.strip_prefix(CURSOR_MARK)?.parse().ok()
    }
}

/// `{data, page: {limit, next_cursor, prev_cursor, total_estimate}}`
pub(super) fn own_page(items: Vec<Value>, slice: Slice, total: u64) -> Value {
    let Slice { limit, skip } = slice;
    let cursor = |skip: u32| format!("{CURSOR_MARK}{skip}");
    let next = skip.saturating_add(limit);
    json!({
        "data": items,
        "page": {
            "limit": limit,
            "next_cursor": (u64::from(next) < total).then(|| cursor(next)),
            "prev_cursor": (skip > 0).then(|| cursor(skip.saturating_sub(limit))),
            "total_estimate": total,
        },
    })
}
