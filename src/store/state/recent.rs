//! Rows that were written and are not in the file yet: sorted, in memory, and cheap to copy.
//!
//! A copy shares everything with its original; who writes to either copies only what it touches.
//! So a reader takes one as it is and keeps it, whatever is written meanwhile. Two levels are
//! enough for as much as may be held here.

use std::iter::Peekable;
use std::ops::Bound;
use std::sync::Arc;

use crate::machine::tables::Table;

/// Rows of a leaf before it is split: a leaf is copied as a whole.
const LEAF_ROWS_MAX: usize = 64;
/// What a row takes beside its bytes.
const SLOT_BYTES: usize = 64;

/// A row, or that there is none under its key any more.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    /// The key, then the row.
    bytes: Arc<[u8]>,
    key_len: u32,
    is_removed: bool,
}

impl Slot {
    pub(super) fn new(key: &[u8], row: Option<&[u8]>) -> Self {
        let bytes = [key, row.unwrap_or_default()].concat().into();
        Slot { bytes, key_len: key.len() as u32, is_removed: row.is_none() }
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.bytes[..self.key_len as usize]
    }

    /// `None` if it was removed.
    pub(super) fn row(&self) -> Option<&[u8]> {
        (!self.is_removed).then(|| &self.bytes[self.key_len as usize..])
    }

    fn weight(&self) -> usize {
        self.bytes.len() + SLOT_BYTES
    }
}

type Leaf = Arc<Vec<Slot>>;

/// Rows of all tables.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent {
    /// Of each table, leaves in order, none of them empty.
    tables: [Arc<Vec<Leaf>>; Table::ALL.len()],
    bytes: usize,
}

impl Recent {
    /// About how much memory the rows take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn put(&mut self, table: Table, slot: Slot) {
        self.bytes += slot.weight();
        let leaves = Arc::make_mut(&mut self.tables[table as usize]);
        // Most tables grow at their end.
        let is_after = leaves.last().is_some_and(|leaf| leaf[0].key() <= slot.key());
        let at = match is_after {
            true => leaves.len() - 1,
            false => leaves.partition_point(|leaf| leaf[0].key() <= slot.key()).saturating_sub(1),
        };
        let Some(leaf) = leaves.get_mut(at) else {
            leaves.push(Arc::new(vec![slot]));
            return;
        };
        let leaf = Arc::make_mut(leaf);
        match leaf.binary_search_by(|held| held.key().cmp(slot.key())) {
            Ok(place) => {
                let before = std::mem::replace(&mut leaf[place], slot);
                self.bytes -= before.weight();
            }
            Err(place) => {
                leaf.insert(place, slot);
                if leaf.len() > LEAF_ROWS_MAX {
                    // Rows that come in order leave full leaves behind.
                    let is_last = place + 1 == leaf.len();
                    let half = leaf.split_off(if is_last { place } else { leaf.len() / 2 });
                    leaves.insert(at + 1, Arc::new(half));
                }
            }
        }
    }

    pub(super) fn get(&self, table: Table, key: &[u8]) -> Option<&Slot> {
        let leaves = &self.tables[table as usize];
        let at = leaves.partition_point(|leaf| leaf[0].key() <= key).checked_sub(1)?;
        let place = leaves[at].binary_search_by(|held| held.key().cmp(key)).ok()?;
        Some(&leaves[at][place])
    }

    /// The rows between two bounds, in ascending order or from the end.
    pub(super) fn range(&self, table: Table, start: Bound<&[u8]>, end: Bound<&[u8]>) -> Walk<'_> {
        let leaves = &self.tables[table as usize][..];
        let from = match start {
            Bound::Unbounded => Place { leaf: 0, slot: 0 },
            Bound::Included(key) => place(leaves, |held| held < key),
            Bound::Excluded(key) => place(leaves, |held| held <= key),
        };
        let to = match end {
            Bound::Unbounded => Place { leaf: leaves.len(), slot: 0 },
            Bound::Included(key) => place(leaves, |held| held <= key),
            Bound::Excluded(key) => place(leaves, |held| held < key),
        };
        Walk { leaves, from, to }
    }

    /// Everything, table by table.
    pub(super) fn rows(&self) -> impl Iterator<Item = (Table, &Slot)> {
        Table::ALL.into_iter().flat_map(|table| {
            let leaves = self.tables[table as usize].iter();
            leaves.flat_map(|leaf| leaf.iter()).map(move |slot| (table, slot))
        })
    }
}

/// The place before a row; the one after a leaf's last row is the next leaf's first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    leaf: usize,
    slot: usize,
}

/// The place after the rows whose keys are `before`, which are the first ones.
fn place(leaves: &[Leaf], before: impl Fn(&[u8]) -> bool) -> Place {
    let leaf = leaves.partition_point(|leaf| leaf.last().is_some_and(|last| before(last.key())));
    let slot = leaves.get(leaf).map_or(0, |leaf| leaf.partition_point(|slot| before(slot.key())));
    Place { leaf, slot }
}

/// Rows in order, from both ends; none by default.
#[derive(Clone, Debug, Default)]
pub(super) struct Walk<'a> {
    leaves: &'a [Leaf],
    from: Place,
    to: Place,
}

impl<'a> Iterator for Walk<'a> {
    type Item = &'a Slot;

    fn next(&mut self) -> Option<&'a Slot> {
        if self.from >= self.to {
            return None;
        }
        let leaf = &self.leaves[self.from.leaf];
        let slot = &leaf[self.from.slot];
        self.from.slot += 1;
        if self.from.slot == leaf.len() {
            self.from = Place { leaf: self.from.leaf + 1, slot: 0 };
        }
        Some(slot)
    }
}

impl<'a> DoubleEndedIterator for Walk<'a> {
    fn next_back(&mut self) -> Option<&'a Slot> {
        if self.from >= self.to {
            return None;
        }
        if self.to.slot == 0 {
            self.to.leaf -= 1;
            self.to.slot = self.leaves[self.to.leaf].len();
        }
        self.to.slot -= 1;
        Some(&self.leaves[self.to.leaf][self.to.slot])
    }
}

/// Two layers in one order; where both have a key, the newer one's row.
pub(super) struct Laid<'a> {
    newer: Peekable<Directed<'a>>,
    older: Peekable<Directed<'a>>,
    reverse: bool,
}

impl<'a> Laid<'a> {
    pub(super) fn over(newer: Walk<'a>, older: Walk<'a>, reverse: bool) -> Self {
        let directed = |walk| Directed { walk, reverse }.peekable();
        Laid { newer: directed(newer), older: directed(older), reverse }
    }
}

impl<'a> Iterator for Laid<'a> {
    type Item = &'a Slot;

    fn next(&mut self) -> Option<&'a Slot> {
        let (Some(newer), Some(older)) = (self.newer.peek(), self.older.peek()) else {
            return self.newer.next().or_else(|| self.older.next());
        };
        let order = newer.key().cmp(older.key());
        let order = if self.reverse { order.reverse() } else { order };
        if order.is_eq() {
            self.older.next();
        }
        if order.is_le() { self.newer.next() } else { self.older.next() }
    }
}

struct Directed<'a> {
    walk: Walk<'a>,
    reverse: bool,
}

impl<'a> Iterator for Directed<'a> {
    type Item = &'a Slot;

    fn next(&mut self) -> Option<&'a Slot> {
        if self.reverse { self.walk.next_back() } else { self.walk.next() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    type Model = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(0_u8..6, 0..4)
    }

    fn bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
        prop_oneof![
            Just(Bound::Unbounded),
            key().prop_map(Bound::Included),
            key().prop_map(Bound::Excluded)
        ]
    }

    fn owned(slots: impl Iterator<Item = Slot>) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        slots.map(|slot| (slot.key().to_vec(), slot.row().map(<[u8]>::to_vec))).collect()
    }

    /// What the model has between two bounds.
    fn within(
        model: &Model,
        start: &Bound<Vec<u8>>,
        end: &Bound<Vec<u8>>,
    ) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let is_in = |key: &&Vec<u8>| {
            (match start {
                Bound::Unbounded => true,
                Bound::Included(start) => *key >= start,
                Bound::Excluded(start) => *key > start,
            }) && match end {
                Bound::Unbounded => true,
                Bound::Included(end) => *key <= end,
                Bound::Excluded(end) => *key < end,
            }
        };
        let rows = model.iter().filter(|(key, _)| is_in(key));
        rows.map(|(key, row)| (key.clone(), row.clone())).collect()
    }

    fn as_slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
        bound.as_ref().map(Vec::as_slice)
    }

    proptest! {
        #[test]
        fn two_layers_are_two_maps_and_a_copy_stays_what_it_was(
            writes in prop::collection::vec((key(), any::<Option<u8>>(), any::<bool>()), 0..600),
            ranges in prop::collection::vec((bound(), bound(), any::<bool>()), 8),
        ) {
            let mut models = [Model::new(), Model::new()];
            let mut layers = [Recent::default(), Recent::default()];
            let mut before = None;
            for (at, (key, row, is_newer)) in writes.iter().enumerate() {
                if at == writes.len() / 2 {
                    before = Some((models[0].clone(), layers[0].clone()));
                }
                let row = row.map(|byte| vec![byte; usize::from(byte) % 3]);
                let layer = usize::from(*is_newer);
                layers[layer].put(Table::Keys, Slot::new(key, row.as_deref()));
                models[layer].insert(key.clone(), row);
            }
            for (layer, model) in layers.iter().zip(&models).chain(before.as_ref().map(|(m, l)| (l, m))) {
                prop_assert_eq!(owned(layer.rows().map(|(_, slot)| slot.clone())), within(model, &Bound::Unbounded, &Bound::Unbounded));
                let bytes: usize = layer.rows().map(|(_, slot)| slot.weight()).sum();
                prop_assert_eq!(layer.bytes(), bytes);
            }
            let mut both = models[0].clone();
            both.extend(models[1].clone());
            for (start, end, reverse) in &ranges {
                if crate::machine::tables::is_empty_range(as_slice(start), as_slice(end)) {
                    continue;
                }
                let [older, newer] =
                    [&layers[0], &layers[1]].map(|layer| layer.range(Table::Keys, as_slice(start), as_slice(end)));
                let mut wanted = within(&both, start, end);
                if *reverse {
                    wanted.reverse();
                }
                prop_assert_eq!(owned(Laid::over(newer, older, *reverse).cloned()), wanted);
            }
            for (key, row) in &models[1] {
                let slot = layers[1].get(Table::Keys, key).expect("it was put");
                prop_assert_eq!(slot.row(), row.as_deref());
            }
            prop_assert!(layers[1].get(Table::Keys, b"no such key").is_none());
        }
    }
}
