//! Rows that were written and are not in the file yet: sorted, in memory, and cheap to copy.
//!
//! A copy shares everything with its original; who writes to either copies only what it touches.
//! So a reader takes one as it is and keeps it, whatever is written meanwhile. Two levels are
//! enough for as much as may be held here.

use std::ops::Bound;
use std::sync::Arc;

use crate::machine::tables::Table;

/// Rows of a leaf before it is split, and their bytes: a leaf is copied as a whole.
const LEAF_ROWS_MAX: usize = 128;
const LEAF_BYTES_MAX: usize = 16 * 1024;
/// What a row takes beside its bytes.
const ROW_BYTES: usize = size_of::<Span>();

/// A row under its key, or that there is none any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot<'a> {
    pub(super) key: &'a [u8],
    /// `None` if it was removed.
    pub(super) row: Option<&'a [u8]>,
}

impl Slot<'_> {
    fn len(&self) -> usize {
        self.key.len() + self.row.map_or(0, <[u8]>::len)
    }

    fn weight(&self) -> usize {
        self.len() + ROW_BYTES
    }
}

/// How many bytes two keys begin with in common.
fn common_bytes(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// What stands for a key among others that begin with as many bytes in common: what comes next of
/// it. A search compares these, side by side as they are, and seldom the keys, which are all over
/// the memory.
fn head(key: &[u8], common: usize) -> u32 {
    let rest = key.get(common..).unwrap_or_default();
    match rest.first_chunk() {
        Some(head) => u32::from_be_bytes(*head),
        None => {
            let mut head = [0; 4];
            head[..rest.len()].copy_from_slice(rest);
            u32::from_be_bytes(head)
        }
    }
}

/// Neighbouring rows, in one piece of memory: to look for one touches little of it, and a row costs
/// no allocation of its own.
#[derive(Clone, Debug, Default)]
struct Leaf {
    /// Where the rows are, in the order of their keys.
    spans: Vec<Span>,
    /// How many bytes their keys have in common.
    common: usize,
    /// The keys and rows, in the order they came in.
    bytes: Vec<u8>,
    /// How many of the bytes belong to rows that were replaced.
    unused: usize,
}

/// A key and the row right behind it.
#[derive(Clone, Copy, Debug)]
struct Span {
    at: u32,
    key: u32,
    /// [`REMOVED`] if there is none.
    row: u32,
    /// The key's, in its leaf.
    head: u32,
}

const REMOVED: u32 = u32::MAX;

impl Span {
    fn row_len(self) -> usize {
        if self.row == REMOVED { 0 } else { self.row as usize }
    }
}

impl Leaf {
    fn of<'a>(slots: impl Iterator<Item = Slot<'a>>) -> Self {
        let mut leaf = Leaf::default();
        for slot in slots {
            let span = leaf.append(slot);
            leaf.spans.push(span);
        }
        leaf.set_heads();
        leaf
    }

    fn set_heads(&mut self) {
        let (Some(first), Some(last)) = (self.spans.first(), self.spans.last()) else { return };
        self.common = common_bytes(self.slot(*first).key, self.slot(*last).key);
        for place in 0..self.spans.len() {
            self.spans[place].head = head(self.get(place).key, self.common);
        }
    }

    fn slots(&self) -> impl Iterator<Item = Slot<'_>> {
        self.spans.iter().map(|span| self.slot(*span))
    }

    fn slot(&self, span: Span) -> Slot<'_> {
        let (key, rest) = self.bytes[span.at as usize..].split_at(span.key as usize);
        Slot { key, row: (span.row != REMOVED).then(|| &rest[..span.row as usize]) }
    }

    fn get(&self, place: usize) -> Slot<'_> {
        self.slot(self.spans[place])
    }

    /// Where a key is, or where it would be.
    fn find(&self, key: &[u8]) -> Result<usize, usize> {
        // Most tables grow at their end.
        match self.spans.last() {
            Some(last) if self.slot(*last).key < key => Err(self.spans.len()),
            Some(last) if !key.starts_with(&self.slot(*last).key[..self.common]) => Err(0),
            _ => {
                let head = head(key, self.common);
                self.spans.binary_search_by(|span| {
                    span.head.cmp(&head).then_with(|| self.slot(*span).key.cmp(key))
                })
            }
        }
    }

    fn append(&mut self, slot: Slot<'_>) -> Span {
        let (at, row) = (self.bytes.len() as u32, slot.row.map_or(REMOVED, |row| row.len() as u32));
        if slot.len() >= LEAF_BYTES_MAX {
            self.bytes.reserve_exact(slot.len());
        }
        self.bytes.extend_from_slice(slot.key);
        self.bytes.extend_from_slice(slot.row.unwrap_or_default());
        Span { at, key: slot.key.len() as u32, row, head: head(slot.key, self.common) }
    }

    fn insert(&mut self, place: usize, slot: Slot<'_>) {
        let is_alike =
            self.spans.is_empty() || slot.key.starts_with(&self.get(0).key[..self.common]);
        let span = self.append(slot);
        self.spans.insert(place, span);
        if !is_alike {
            self.set_heads();
        }
    }

    fn replace(&mut self, place: usize, slot: Slot<'_>) {
        let before = self.spans[place];
        match slot.row {
            Some(row) if row.len() == before.row_len() && before.row != REMOVED => {
                let at = (before.at + before.key) as usize;
                self.bytes[at..at + row.len()].copy_from_slice(row);
            }
            _ => {
                self.unused += before.key as usize + before.row_len();
                self.spans[place] = self.append(slot);
            }
        }
        if self.unused * 2 >= self.bytes.len() {
            *self = Leaf::of(self.slots());
        }
    }

    fn has_room_for(&self, bytes: usize) -> bool {
        self.spans.len() < LEAF_ROWS_MAX && self.bytes.len() + bytes <= LEAF_BYTES_MAX
    }

    /// Keeps the first half; the other one if there is more than a leaf should hold.
    fn split(&mut self) -> Option<Leaf> {
        if self.spans.len() < 2 || self.has_room_for(0) {
            return None;
        }
        let half = self.spans.len() / 2;
        let second = Leaf::of(self.slots().skip(half));
        *self = Leaf::of(self.slots().take(half));
        Some(second)
    }
}

/// A leaf in its place.
#[derive(Clone, Debug)]
struct Branch {
    /// No key in it is smaller, and none before it is as great.
    first: Arc<[u8]>,
    /// The first key's.
    head: u32,
    leaf: Arc<Leaf>,
}

/// Leaves in order, none of them empty.
#[derive(Clone, Debug, Default)]
struct Branches {
    list: Vec<Branch>,
    /// How many bytes their first keys have in common.
    common: usize,
}

impl Branches {
    /// The branch that has a key if any has.
    fn find(&self, key: &[u8]) -> Option<usize> {
        // Most tables grow at their end.
        let last = self.list.last()?;
        if *last.first <= *key {
            return Some(self.list.len() - 1);
        }
        if !key.starts_with(&last.first[..self.common]) {
            return None;
        }
        let head = head(key, self.common);
        let is_before =
            |branch: &Branch| branch.head.cmp(&head).then_with(|| (*branch.first).cmp(key)).is_le();
        self.list.partition_point(is_before).checked_sub(1)
    }

    fn insert(&mut self, at: usize, leaf: Leaf) {
        let first = leaf.get(0).key.into();
        self.list.insert(at, Branch { first, head: 0, leaf: Arc::new(leaf) });
        self.set_head(at);
    }

    /// A smaller key is the first of a branch.
    fn set_first(&mut self, at: usize, first: &[u8]) {
        self.list[at].first = first.into();
        self.set_head(at);
    }

    fn set_head(&mut self, at: usize) {
        let (Some(first), Some(last)) = (self.list.first(), self.list.last()) else { return };
        let common = common_bytes(&first.first, &last.first);
        if common == self.common {
            self.list[at].head = head(&self.list[at].first, common);
            return;
        }
        self.common = common;
        for branch in &mut self.list {
            branch.head = head(&branch.first, common);
        }
    }
}

/// Rows of all tables.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent {
    tables: [Arc<Branches>; Table::ALL.len()],
    bytes: usize,
}

impl Recent {
    /// About how much memory the rows take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn put(&mut self, table: Table, slot: Slot<'_>) {
        self.bytes += slot.weight();
        let branches = Arc::make_mut(&mut self.tables[table as usize]);
        let at = branches.find(slot.key).unwrap_or_default();
        let Some(branch) = branches.list.get_mut(at) else {
            return branches.insert(at, Leaf::of([slot].into_iter()));
        };
        let leaf = Arc::make_mut(&mut branch.leaf);
        let second = match leaf.find(slot.key) {
            Ok(place) => {
                self.bytes -= leaf.get(place).weight();
                leaf.replace(place, slot);
                leaf.split()
            }
            // Rows that come in order leave full leaves behind.
            Err(place) if place == leaf.spans.len() && !leaf.has_room_for(slot.len()) => {
                Some(Leaf::of([slot].into_iter()))
            }
            Err(place) => {
                leaf.insert(place, slot);
                let second = leaf.split();
                if place == 0 {
                    branches.set_first(at, slot.key);
                }
                second
            }
        };
        if let Some(second) = second {
            branches.insert(at + 1, second);
        }
    }

    /// Puts what was written after all that is here.
    pub(super) fn take(&mut self, written: Recent) {
        if self.bytes == 0 {
            *self = written;
            return;
        }
        for (table, slot) in written.rows() {
            self.put(table, slot);
        }
    }

    pub(super) fn get(&self, table: Table, key: &[u8]) -> Option<Slot<'_>> {
        let branches = &self.tables[table as usize];
        let leaf = &branches.list[branches.find(key)?].leaf;
        leaf.find(key).ok().map(|place| leaf.get(place))
    }

    /// The rows between two bounds, in ascending order or from the end.
    pub(super) fn range(&self, table: Table, start: Bound<&[u8]>, end: Bound<&[u8]>) -> Walk<'_> {
        let branches = &self.tables[table as usize].list[..];
        let from = match start {
            Bound::Unbounded => Place { branch: 0, slot: 0 },
            Bound::Included(key) => place(branches, |held| held < key),
            Bound::Excluded(key) => place(branches, |held| held <= key),
        };
        let to = match end {
            Bound::Unbounded => Place { branch: branches.len(), slot: 0 },
            Bound::Included(key) => place(branches, |held| held <= key),
            Bound::Excluded(key) => place(branches, |held| held < key),
        };
        Walk { branches, from, to }
    }

    /// Everything, table by table.
    pub(super) fn rows(&self) -> impl Iterator<Item = (Table, Slot<'_>)> {
        Table::ALL.into_iter().flat_map(|table| {
            let branches = self.tables[table as usize].list.iter();
            branches.flat_map(|branch| branch.leaf.slots()).map(move |slot| (table, slot))
        })
    }
}

/// The place before a row; the one after a leaf's last row is the next leaf's first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    branch: usize,
    slot: usize,
}

/// The place after the rows whose keys are `before`, which are the first ones.
fn place(branches: &[Branch], before: impl Fn(&[u8]) -> bool) -> Place {
    // The last branch that begins with such a key may end with others.
    let Some(branch) = branches.partition_point(|branch| before(&branch.first)).checked_sub(1)
    else {
        return Place::default();
    };
    let leaf = &branches[branch].leaf;
    let slot = leaf.spans.partition_point(|span| before(leaf.slot(*span).key));
    match slot == leaf.spans.len() {
        true => Place { branch: branch + 1, slot: 0 },
        false => Place { branch, slot },
    }
}

/// Rows in order, from both ends; none by default.
#[derive(Clone, Debug, Default)]
pub(super) struct Walk<'a> {
    branches: &'a [Branch],
    from: Place,
    to: Place,
}

impl<'a> Iterator for Walk<'a> {
    type Item = Slot<'a>;

    fn next(&mut self) -> Option<Slot<'a>> {
        if self.from >= self.to {
            return None;
        }
        let leaf = &self.branches[self.from.branch].leaf;
        let slot = leaf.get(self.from.slot);
        self.from.slot += 1;
        if self.from.slot == leaf.spans.len() {
            self.from = Place { branch: self.from.branch + 1, slot: 0 };
        }
        Some(slot)
    }
}

impl<'a> DoubleEndedIterator for Walk<'a> {
    fn next_back(&mut self) -> Option<Slot<'a>> {
        if self.from >= self.to {
            return None;
        }
        if self.to.slot == 0 {
            self.to.branch -= 1;
            self.to.slot = self.branches[self.to.branch].leaf.spans.len();
        }
        self.to.slot -= 1;
        Some(self.branches[self.to.branch].leaf.get(self.to.slot))
    }
}

/// Layers in one order, the newest first; where several have a key, the newest one's row.
pub(super) struct Laid<'a, const N: usize> {
    layers: [Directed<'a>; N],
    /// The next row of each.
    heads: [Option<Slot<'a>>; N],
}

impl<'a, const N: usize> Laid<'a, N> {
    pub(super) fn over(layers: [Walk<'a>; N], reverse: bool) -> Self {
        let mut layers = layers.map(|walk| Directed { walk, reverse });
        let heads = layers.each_mut().map(Iterator::next);
        Laid { layers, heads }
    }
}

impl<'a, const N: usize> Iterator for Laid<'a, N> {
    type Item = Slot<'a>;

    fn next(&mut self) -> Option<Slot<'a>> {
        let reverse = self.layers[0].reverse;
        let first = self.heads.iter().flatten().copied().reduce(|first, head| {
            let order = head.key.cmp(first.key);
            let is_before = if reverse { order.is_gt() } else { order.is_lt() };
            if is_before { head } else { first }
        })?;
        for (layer, head) in self.layers.iter_mut().zip(&mut self.heads) {
            if head.is_some_and(|slot| slot.key == first.key) {
                *head = layer.next();
            }
        }
        Some(first)
    }
}

struct Directed<'a> {
    walk: Walk<'a>,
    reverse: bool,
}

impl<'a> Iterator for Directed<'a> {
    type Item = Slot<'a>;

    fn next(&mut self) -> Option<Slot<'a>> {
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

    fn owned<'a>(slots: impl Iterator<Item = Slot<'a>>) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        slots.map(|slot| (slot.key.to_vec(), slot.row.map(<[u8]>::to_vec))).collect()
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
                // Some are so long that few of them fill a leaf.
                let row = row.map(|byte| vec![byte; if byte > 230 { 6_000 } else { usize::from(byte) % 3 }]);
                let layer = usize::from(*is_newer);
                layers[layer].put(Table::Keys, Slot { key, row: row.as_deref() });
                models[layer].insert(key.clone(), row);
            }
            for (layer, model) in layers.iter().zip(&models).chain(before.as_ref().map(|(m, l)| (l, m))) {
                prop_assert_eq!(owned(layer.rows().map(|(_, slot)| slot)), within(model, &Bound::Unbounded, &Bound::Unbounded));
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
                prop_assert_eq!(owned(Laid::over([newer, older], *reverse)), wanted);
            }
            for (key, row) in &models[1] {
                let slot = layers[1].get(Table::Keys, key).expect("it was put");
                prop_assert_eq!(slot.row, row.as_deref());
            }
            prop_assert!(layers[1].get(Table::Keys, b"no such key").is_none());
        }
    }
}
