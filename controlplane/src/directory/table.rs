//! The rows of one kind by number and by name; a copy with one row changed shares almost all the rest.
//! Owns:  the rows, in pages of neighbouring numbers, and which name is whose.
//! Gives: look-up by number and by name, rows in the order of their numbers.
//! Never: two rows of one number.
//! Holds: the name of every row leads to it, unless another row has it, too.

use std::collections::BTreeMap;
use std::sync::Arc;

use shared::by_name::ByName;

use super::Kind;
use crate::store::Row;

/// Numbers of one page.
const PAGE: i64 = 256;

type Page = BTreeMap<i64, Arc<Row>>;

#[derive(Clone, Debug)]
pub(super) struct Table {
    name_field: &'static str,
    pages: BTreeMap<i64, Arc<Page>>,
    by_name: ByName<i64>,
    len: usize,
}

impl Table {
    pub(super) fn new(kind: Kind, rows: Vec<Row>) -> Self {
        let name_field = kind.name_field();
        let (pages, by_name) = (BTreeMap::new(), ByName::new());
        let mut table = Self { name_field, pages, by_name, len: 0 };
        for row in rows {
            table.insert(Arc::new(row));
        }
        table
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, id: i64) -> Option<&Arc<Row>> {
        self.pages.get(&id.div_euclid(PAGE))?.get(&id)
    }

    pub(super) fn named(&self, name: &str) -> Option<&Arc<Row>> {
        self.get(*self.by_name.get(name)?)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Arc<Row>> {
        self.pages.values().flat_map(|page| page.values())
    }

    pub(super) fn insert(&mut self, row: Arc<Row>) -> Option<Arc<Row>> {
        let before = self.remove(row.id);
        if let Some(name) = row.text(self.name_field)
            && !self.by_name.contains_key(name)
        {
            self.by_name.insert(name.into(), row.id);
        }
        let page = self.pages.entry(row.id.div_euclid(PAGE)).or_default();
        Arc::make_mut(page).insert(row.id, row);
        self.len += 1;
        before
    }

    pub(super) fn remove(&mut self, id: i64) -> Option<Arc<Row>> {
        let number = id.div_euclid(PAGE);
        let page = Arc::make_mut(self.pages.get_mut(&number)?);
        let row = page.remove(&id)?;
        if page.is_empty() {
            self.pages.remove(&number);
        }
        self.len -= 1;
        if let Some(name) = row.text(self.name_field)
            && self.by_name.get(name) == Some(&id)
        {
            self.by_name.remove(name);
        }
        Some(row)
    }

    /// How many rows stand in pages that another table does not have as well.
    #[cfg(test)]
    pub(super) fn unshared(&self, other: &Self) -> usize {
        let same = |number: &i64, page: &Arc<Page>| {
            other.pages.get(number).is_some_and(|other| Arc::ptr_eq(page, other))
        };
        let own = self.pages.iter().filter(|(number, page)| !same(number, page));
        own.map(|(_, page)| page.len()).sum()
    }
}
