//! Reading a range: which records, in which order, cut where.
//!
//! As in etcd, the count of a page is that of all keys in the range, whatever its limit and its
//! filter; so every key of the range is visited, though the value of a record is read only if the
//! record is answered (or if values are what it is ordered by).
//!
//! A page ends at the limit, or before the record with which it would pass
//! [`RANGE_BYTES_MAX`] of keys and values; it holds at least one record if there is one. Memory
//! is bounded by the page and not by the range: an order other than by key keeps the best records
//! so far, and of those only as many as can still be answered.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::ops::{Filter, KeyRecord, OrderBy, Page, Range, Select};
use super::rows::history::Version;
use super::stop::Stop;
use super::tables::{ReadTables, TableError};
use super::view::{At, View, visited_key};
use crate::limits::{RANGE_BYTES_MAX, RANGE_RECORDS_MAX};
use crate::types::Value;

/// Answers a range.
pub(crate) fn range<T: ReadTables + ?Sized>(
    view: &View<'_, T>,
    range: &Range,
) -> Result<Page, Stop> {
    let at = view.at(range.revision)?;
    if range.select == Select::Count {
        let mut page = Page::default();
        view.visit(&range.range, at, false, &mut |_, _| {
            page.count += 1;
            Ok(ControlFlow::Continue(()))
        })?;
        return Ok(page);
    }
    let limit = range.limit.map_or(RANGE_RECORDS_MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX).min(RANGE_RECORDS_MAX)
    });
    Ok(match range.order.by {
        OrderBy::Key => by_key(view, range, at, limit)?,
        _ => by_rank(view, range, at, limit)?,
    })
}

impl Filter {
    fn passes(&self, version: &Version) -> bool {
        let at_least = |bound: Option<u64>, number| bound.is_none_or(|bound| number >= bound);
        let at_most = |bound: Option<u64>, number| bound.is_none_or(|bound| number <= bound);
        at_least(self.mod_min, version.place.revision)
            && at_most(self.mod_max, version.place.revision)
            && at_least(self.create_min, version.create)
            && at_most(self.create_max, version.create)
    }
}

/// Collects records until the page is full.
struct Filling {
    page: Page,
    limit: usize,
    bytes: usize,
    full: bool,
}

impl Filling {
    fn new(limit: usize) -> Self {
        Filling { page: Page::default(), limit, bytes: 0, full: false }
    }

    /// Adds a record, or finds the page full and says that there is more.
    fn add<T: ReadTables + ?Sized>(
        &mut self,
        view: &View<'_, T>,
        select: Select,
        key: &[u8],
        version: &Version,
        value: Option<Value>,
    ) -> Result<(), TableError> {
        if self.full || self.page.records.len() == self.limit {
            self.page.more = true;
            return Ok(());
        }
        let value = match (select, value) {
            (Select::Keys, value) => {
                self.bytes += value.map_or(0, |value| value.as_bytes().len());
                Value::default()
            }
            (_, Some(value)) => value,
            (_, None) => view.value(key, version)?,
        };
        self.bytes += key.len() + value.as_bytes().len();
        if self.bytes > RANGE_BYTES_MAX && !self.page.records.is_empty() {
            self.full = true;
            self.page.more = true;
            return Ok(());
        }
        let record = KeyRecord { key: visited_key(key)?, record: version.record(value) };
        self.page.records.push(record);
        Ok(())
    }
}

fn by_key<T: ReadTables + ?Sized>(
    view: &View<'_, T>,
    range: &Range,
    at: At,
    limit: usize,
) -> Result<Page, TableError> {
    let mut filling = Filling::new(limit);
    view.visit(&range.range, at, range.order.descending, &mut |key, version| {
        filling.page.count += 1;
        if range.filter.passes(version) {
            filling.add(view, range.select, key, version, None)?;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(filling.page)
}

/// What a record is ordered by.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Number(u64),
    Value(Value),
}

/// A record that may be answered; the greatest is the one to drop first. Equal ranks are in
/// order of their keys, ascending in both directions.
struct Ranked {
    rank: Rank,
    descending: bool,
    key: Bytes,
    version: Version,
}

impl Ranked {
    /// Bytes that the record adds to the page for certain.
    fn weight(&self) -> usize {
        let value = match &self.rank {
            Rank::Number(_) => 0,
            Rank::Value(value) => value.as_bytes().len(),
        };
        self.key.len() + value
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_rank = self.rank.cmp(&other.rank);
        let by_rank = if self.descending { by_rank.reverse() } else { by_rank };
        by_rank.then_with(|| self.key.cmp(&other.key))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked {}

fn by_rank<T: ReadTables + ?Sized>(
    view: &View<'_, T>,
    range: &Range,
    at: At,
    limit: usize,
) -> Result<Page, TableError> {
    let (mut count, mut passed, mut bytes) = (0u64, 0u64, 0usize);
    let mut best = BinaryHeap::new();
    view.visit(&range.range, at, false, &mut |key, version| {
        count += 1;
        if !range.filter.passes(version) {
            return Ok(ControlFlow::Continue(()));
        }
        passed += 1;
        let rank = match range.order.by {
            OrderBy::Version => Rank::Number(version.version),
            OrderBy::Create => Rank::Number(version.create),
            OrderBy::Mod | OrderBy::Key => Rank::Number(version.place.revision),
            OrderBy::Value => Rank::Value(view.value(key, version)?),
        };
        let ranked = Ranked {
            rank,
            descending: range.order.descending,
            key: Bytes::copy_from_slice(key),
            version: *version,
        };
        bytes += ranked.weight();
        best.push(ranked);
        // The worst can't be answered if the page is full, by number or by bytes, before it.
        while best.len() > limit || (best.len() > 1 && bytes > RANGE_BYTES_MAX) {
            bytes -= best.pop().map_or(0, |worst| worst.weight());
        }
        Ok(ControlFlow::Continue(()))
    })?;
    let mut filling = Filling::new(limit);
    for ranked in best.into_sorted_vec() {
        let value = match ranked.rank {
            Rank::Number(_) => None,
            Rank::Value(value) => Some(value),
        };
        filling.add(view, range.select, &ranked.key, &ranked.version, value)?;
    }
    let mut page = filling.page;
    page.count = count;
    page.more = passed > page.records.len() as u64;
    Ok(page)
}
