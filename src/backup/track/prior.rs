//! The rows of one stripe that are stored already, and what became of them.

use super::super::chunk::Content;
use super::super::manifest::{Gone, Slice};
use super::Tid;
use super::gone::Bitmap;
use super::places::Placed;

/// A stripe is read whole again when more chunks than this hold its rows.
const MOST_SLICES: usize = 64;

/// A stored row that was there at the last backup.
#[derive(Debug, Clone, Copy)]
struct Row {
    tid: Tid,
    hash: u64,
    slice: u32,
    row: u32,
    seen: Seen,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// Not yet.
    No,
    /// The server says that no transaction has touched it.
    Untouched,
    /// It is there.
    There,
}

/// The places do not fit what the server says: a row that was there is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Unknown(pub(in super::super) Tid);

/// What is stored of a stripe.
#[derive(Debug, Default)]
pub(in super::super) struct Prior {
    slices: Vec<(Slice, Bitmap)>,
    /// In the order of their places.
    rows: Vec<Row>,
}

impl Prior {
    /// The rows of these slices that are not gone; each comes with what is gone of it and with its places. `None` when
    /// the places are not those of the slices.
    pub(in super::super) fn new(slices: Vec<(Slice, Bitmap, Vec<Placed>)>) -> Option<Self> {
        let mut prior = Self::default();
        for (number, (slice, bitmap, places)) in slices.into_iter().enumerate() {
            let (all, gone) = sums(&places, &bitmap);
            if all != slice.chunk.content() || gone != slice.gone.map(Gone::content).unwrap_or_default() {
                return None;
            }
            let number = u32::try_from(number).ok()?;
            for (row, (tid, hash)) in places.into_iter().enumerate() {
                if !bitmap.has(row) {
                    prior.rows.push(Row { tid, hash, slice: number, row: u32::try_from(row).ok()?, seen: Seen::No });
                }
            }
            prior.slices.push((slice, bitmap));
        }
        prior.rows.sort_unstable_by_key(|row| row.tid);
        let unique = prior.rows.windows(2).all(|pair| matches!(pair, [a, b] if a.tid < b.tid));
        unique.then_some(prior)
    }

    /// Whether so much is gone, or it lies in so many chunks, that the stripe is better stored anew. Stripes differ in
    /// that by their number, so that a table whose rows come and go evenly is not stored anew in one backup.
    pub(in super::super) fn is_worn(&self, stripe: u64) -> bool {
        let stored: u64 = self.slices.iter().map(|(slice, _)| slice.chunk.rows).sum();
        let live = self.rows.len() as u64;
        // The upper bits of a product with the golden ratio are spread evenly.
        let share = 40 + (stripe.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % 21;
        self.slices.len() > MOST_SLICES || live.saturating_mul(100) < stored.saturating_mul(100 - share)
    }

    fn find(&mut self, tid: Tid) -> Option<&mut Row> {
        let at = self.rows.binary_search_by_key(&tid, |row| row.tid).ok()?;
        self.rows.get_mut(at)
    }

    /// The row at this place was touched by no transaction since.
    ///
    /// # Errors
    /// [`Unknown`].
    pub(in super::super) fn untouched(&mut self, tid: Tid) -> Result<(), Unknown> {
        let row = self.find(tid).ok_or(Unknown(tid))?;
        row.seen = Seen::Untouched;
        Ok(())
    }

    /// A row was read at this place. True when it is the one that is stored.
    pub(in super::super) fn read(&mut self, (tid, hash): Placed) -> bool {
        let Some(row) = self.find(tid).filter(|row| row.hash == hash) else { return false };
        row.seen = Seen::There;
        true
    }

    /// Takes the server's word for the rows that it calls untouched.
    pub(in super::super) fn trust(&mut self) {
        for row in self.rows.iter_mut().filter(|row| row.seen == Seen::Untouched) {
            row.seen = Seen::There;
        }
    }

    /// Rows that the server calls untouched and that read otherwise than they did.
    pub(in super::super) fn altered(&self) -> Vec<Tid> {
        self.rows.iter().filter(|row| row.seen == Seen::Untouched).map(|row| row.tid).collect()
    }

    /// The slices that still have rows, with what is gone of each by now.
    pub(in super::super) fn end(mut self) -> Vec<(Slice, Bitmap)> {
        for row in self.rows.iter().filter(|row| row.seen != Seen::There) {
            let Some((slice, bitmap)) = self.slices.get_mut(row.slice as usize) else { continue };
            bitmap.set(row.row as usize);
            let gone = slice.gone.get_or_insert(Gone { rows: 0, content: 0, at: 0 });
            gone.rows += 1;
            gone.content = gone.content.wrapping_add(row.hash.into());
        }
        self.slices.retain(|(slice, _)| slice.content().rows > 0);
        self.slices
    }
}

/// What all of these rows come to, and those that are gone.
fn sums(places: &[Placed], bitmap: &Bitmap) -> (Content, Content) {
    let (mut all, mut gone) = (Content::default(), Content::default());
    for (row, (_, hash)) in places.iter().enumerate() {
        let content = Content::of_row(*hash);
        all = all.plus(content);
        if bitmap.has(row) {
            gone = gone.plus(content);
        }
    }
    (all, gone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::chunk::{ChunkRef, Keys};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn slice(rows: &[Placed]) -> Slice {
        let content = rows.iter().fold(Content::default(), |sum, (_, hash)| sum.plus(Content::of_row(*hash)));
        let id = Keys::list().id(format!("{rows:?}").as_bytes());
        Slice::whole(ChunkRef { id, bytes: 1, stored: 1, rows: content.rows, content: content.sum, sealed: None })
    }

    fn prior(slices: &[Vec<Placed>]) -> Option<Prior> {
        Prior::new(slices.iter().map(|rows| (slice(rows), Bitmap::none(rows.len() as u64), rows.clone())).collect())
    }

    proptest! {
        /// Rows come and go at places that are used again; after each round, what the slices hold is what is there.
        #[test]
        fn the_slices_hold_what_is_there(rounds in proptest::collection::vec(proptest::collection::btree_map(1u16..40, 0u64..4, 0..30), 1..8)) {
            let mut slices: Vec<(Slice, Bitmap, Vec<Placed>)> = Vec::new();
            let mut before: BTreeMap<u16, u64> = BTreeMap::new();
            for there in rounds {
                let mut prior = Prior::new(slices.clone()).unwrap();
                let mut fresh = Vec::new();
                for (number, hash) in &there {
                    let placed = (Tid::new(0, *number), *hash);
                    prop_assert_eq!(prior.rows.len(), before.len());
                    let known = prior.read(placed);
                    prop_assert_eq!(known, before.get(number) == Some(hash));
                    if !known {
                        fresh.push(placed);
                    }
                }
                let places: BTreeMap<_, _> = slices.iter().map(|(slice, _, places)| (slice.chunk.id, places.clone())).collect();
                slices = prior.end().into_iter().map(|(slice, bitmap)| (slice, bitmap, places[&slice.chunk.id].clone())).collect();
                if !fresh.is_empty() {
                    // A chunk of the same rows in another round is another one here.
                    let mut new = slice(&fresh);
                    new.chunk.id = Keys::list().id(format!("{} {fresh:?}", slices.len()).as_bytes());
                    slices.push((new, Bitmap::none(fresh.len() as u64), fresh));
                }
                let held = slices.iter().fold(Content::default(), |sum, (slice, _, _)| sum.plus(slice.content()));
                let wanted = there.values().fold(Content::default(), |sum, hash| sum.plus(Content::of_row(*hash)));
                prop_assert_eq!(held, wanted);
                before = there;
            }
        }
    }

    #[test]
    fn the_servers_word_is_taken_and_held_against_what_is_read() {
        let at = |number, hash| (Tid::new(3, number), hash);
        let mut known = prior(&[vec![at(1, 10), at(2, 20)], vec![at(3, 30)]]).unwrap();
        assert_eq!(known.untouched(Tid::new(3, 4)), Err(Unknown(Tid::new(3, 4))));
        for number in [1, 3] {
            known.untouched(Tid::new(3, number)).unwrap();
        }
        assert!(known.read(at(1, 10)) && !known.read(at(3, 31)));
        assert_eq!(known.altered(), [Tid::new(3, 3)]);
        known.trust();
        let left = known.end();
        assert_eq!(left.len(), 2);
        assert_eq!(left[0].0.gone, Some(Gone { rows: 1, content: 20, at: 0 }));
        assert!(left[0].1.has(1) && !left[0].1.has(0));
    }

    #[test]
    fn places_that_are_not_the_slices_are_of_no_use() {
        let rows = vec![(Tid::new(0, 1), 1), (Tid::new(0, 2), 2)];
        assert!(Prior::new(vec![(slice(&rows), Bitmap::none(2), rows[..1].to_vec())]).is_none());
        assert!(prior(&[rows.clone(), rows[1..].to_vec()]).is_none(), "two rows cannot lie at one place");
        let other = vec![(Tid::new(0, 1), 1), (Tid::new(0, 2), 3)];
        assert!(Prior::new(vec![(slice(&rows), Bitmap::none(2), other)]).is_none(), "the hashes are others");
        let mut bitmap = Bitmap::none(2);
        bitmap.set(1);
        assert!(Prior::new(vec![(slice(&rows), bitmap, rows.clone())]).is_none(), "more is gone than is said");
    }

    #[test]
    fn a_stripe_is_worn_when_about_half_of_it_is_gone() {
        let rows: Vec<Placed> = (1..=100).map(|number| (Tid::new(0, number), 1)).collect();
        let worn = |gone: usize| {
            let (mut bitmap, mut slice) = (Bitmap::none(100), slice(&rows));
            (0..gone).for_each(|row| bitmap.set(row));
            slice.gone = Some(Gone { rows: gone as u64, content: gone as u128, at: 0 });
            let known = Prior::new(vec![(slice, bitmap, rows.clone())]).unwrap();
            (0..100).filter(|stripe| known.is_worn(*stripe)).count()
        };
        assert_eq!((worn(39), worn(61)), (0, 100));
        assert!((20..80).contains(&worn(50)), "{}", worn(50));
    }
}
