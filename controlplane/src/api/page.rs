//! The page envelope of lists: `page, per_page, total_pages, total_items, items`.
//! Owns:  the bounds of `per_page`.
//! Gives: one shape for every list of the older prefixes.
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
