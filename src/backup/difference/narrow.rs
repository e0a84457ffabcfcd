//! Which rows of a table differ. The rows of both sides are sorted into many buckets by a hash of their key, and of each
//! bucket only the sum of its rows' hashes is kept; then the rows of some buckets that differ are looked at one by one.
//! So the order of the rows, and with it the collations of two servers, do not matter, and memory has a bound.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::Serialize;

use super::key::Key;
use super::side::{Shape, Side};
use crate::backup::chunk::Content;
use crate::backup::copy::Pages;
use crate::backup::error::BackupError;
use crate::context::Context;
use crate::units::counted;

const BUCKETS: usize = 1 << 16;
/// Rows that are looked at one by one, about.
const LOOKED_AT: u64 = 200_000;

/// In what way a row differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Which {
    /// It is on both sides with other values.
    Changed,
    /// It is only on the left.
    Missing,
    /// It is only on the right.
    Extra,
}

/// A row that differs, by its primary key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// In what way.
    pub difference: Which,
    /// The primary key: values by column.
    pub key: BTreeMap<String, String>,
}

/// The rows of a table that differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Narrowed {
    /// Rows on both sides with other values; always 0 for a table without a primary key.
    pub changed: u64,
    /// Rows only on the left.
    pub missing: u64,
    /// Rows only on the right.
    pub extra: u64,
    /// False when there are more than were looked at.
    pub complete: bool,
    /// Some of them.
    pub examples: Vec<Difference>,
    /// For a table without a primary key: pages in which such rows lie, on the right or else on the left side, the first
    /// and the one after the last; `null` for the end of the table.
    pub pages: Vec<(u64, Option<u64>)>,
}

impl fmt::Display for Narrowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let least = if self.complete { "" } else { "at least " };
        write!(f, "{least}{} changed", counted(self.changed, "row", "rows"))?;
        write!(f, ", {} missing, {} more than there should be", self.missing, self.extra)?;
        for (place, example) in self.examples.iter().enumerate() {
            let word = match example.difference {
                Which::Changed => "changed",
                Which::Missing => "missing",
                Which::Extra => "extra",
            };
            let key = example.key.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
            write!(f, "{} {word} ({})", if place == 0 { ":" } else { "," }, key.join(", "))?;
        }
        for (place, (from, to)) in self.pages.iter().enumerate() {
            write!(f, "{} from page {from}", if place == 0 { ":" } else { "," })?;
            if let Some(to) = to {
                write!(f, " to {}", to.saturating_sub(1))?;
            }
        }
        Ok(())
    }
}

/// Where a row belongs: its hash, by which it is found on the other side.
fn place_of(key: Option<&[u8]>, row_hash: u64) -> u64 {
    match key {
        Some(key) => {
            let hash = blake3::hash(key);
            hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
        }
        None => row_hash,
    }
}

fn bucket(place: u64) -> usize {
    usize::try_from(place >> 48).unwrap_or(0)
}

/// Finds the rows that differ; each side comes with how many rows it has.
///
/// # Errors
/// When a side cannot be read, and on cancel.
pub(super) async fn narrow(
    (left, left_rows): (&Side, u64),
    (right, right_rows): (&Side, u64),
    shape: &Shape,
    key: Option<&Key>,
    shown: usize,
    ctx: &Context,
) -> Result<Narrowed, BackupError> {
    let (here, there) = futures::try_join!(sums(left, shape, key, ctx), sums(right, shape, key, ctx))?;
    let differing: Vec<usize> = (0..BUCKETS).filter(|at| here.get(*at) != there.get(*at)).collect();
    let per_bucket = (left_rows.max(right_rows) / (BUCKETS as u64)).max(1);
    let most = usize::try_from(LOOKED_AT / per_bucket).unwrap_or(usize::MAX).max(1);
    let mut chosen = vec![false; BUCKETS];
    for at in differing.iter().take(most) {
        if let Some(chosen) = chosen.get_mut(*at) {
            *chosen = true;
        }
    }
    let mut found = Found {
        key,
        narrowed: Narrowed { complete: differing.len() <= most, ..Narrowed::default() },
        ..Found::default()
    };
    let is_chosen = |place| chosen.get(bucket(place)).copied().unwrap_or(false);
    let look = |row: &[u8]| {
        let (hash, key) = (shape.keys.row(row), key.map(|key| key.of(row)));
        let place = place_of(key.as_deref(), hash);
        is_chosen(place).then_some((place, hash, key))
    };
    let by_pages = key.is_none();
    left.rows(shape, by_pages, ctx, |row, pages| {
        if let Some((place, hash, key)) = look(row) {
            found.left.entry(place).or_insert(Seen { hash, key, pages, rows: 0 }).rows += 1;
        }
    })
    .await?;
    right
        .rows(shape, by_pages, ctx, |row, pages| {
            if let Some((place, hash, key)) = look(row) {
                found.right(place, Seen { hash, key, pages, rows: 1 });
            }
        })
        .await?;
    Ok(found.end(shown))
}

async fn sums(side: &Side, shape: &Shape, key: Option<&Key>, ctx: &Context) -> Result<Vec<Content>, BackupError> {
    let mut sums = vec![Content::default(); BUCKETS];
    side.rows(shape, false, ctx, |row, _| {
        let hash = shape.keys.row(row);
        let place = place_of(key.map(|key| key.of(row)).as_deref(), hash);
        if let Some(sum) = sums.get_mut(bucket(place)) {
            *sum = sum.plus(Content::of_row(hash));
        }
    })
    .await?;
    Ok(sums)
}

struct Seen {
    hash: u64,
    key: Option<Vec<u8>>,
    pages: Option<Pages>,
    /// More than one only where a table without a key has equal rows.
    rows: u64,
}

/// Rows of the left side that were not met on the right yet, and what was found.
#[derive(Default)]
struct Found<'k> {
    key: Option<&'k Key>,
    left: HashMap<u64, Seen>,
    narrowed: Narrowed,
    examples: Vec<(Which, Vec<u8>)>,
    right_pages: BTreeMap<u64, Option<u64>>,
}

impl Found<'_> {
    fn right(&mut self, place: u64, seen: Seen) {
        let other = match self.left.entry(place) {
            Entry::Occupied(mut there) if there.get().rows > 1 => {
                there.get_mut().rows -= 1;
                return;
            }
            Entry::Occupied(there) => Some(there.remove()),
            Entry::Vacant(_) => None,
        };
        match other {
            Some(other) if other.hash == seen.hash => {}
            Some(_) => {
                self.narrowed.changed += 1;
                self.example(Which::Changed, seen.key);
            }
            None => {
                self.narrowed.extra += 1;
                if let Some(pages) = seen.pages {
                    self.right_pages.insert(pages.from, pages.to);
                }
                self.example(Which::Extra, seen.key);
            }
        }
    }

    fn example(&mut self, which: Which, key: Option<Vec<u8>>) {
        self.examples.extend(key.map(|key| (which, key)));
    }

    fn end(mut self, shown: usize) -> Narrowed {
        let mut left_pages = BTreeMap::new();
        for seen in std::mem::take(&mut self.left).into_values() {
            self.narrowed.missing += seen.rows;
            if let Some(pages) = seen.pages {
                left_pages.insert(pages.from, pages.to);
            }
            self.example(Which::Missing, seen.key);
        }
        // In the order of the keys' own bytes, which for whole numbers above zero is their order.
        self.examples.sort_by(|(a, a_key), (b, b_key)| (a_key, a).cmp(&(b_key, b)));
        let shown_of =
            |(which, bytes): &(Which, Vec<u8>)| Some(Difference { difference: *which, key: self.key?.show(bytes) });
        let examples = self.examples.iter().take(shown).filter_map(shown_of).collect();
        let pages = if self.right_pages.is_empty() { left_pages } else { self.right_pages };
        Narrowed { examples, pages: pages.into_iter().take(shown).collect(), ..self.narrowed }
    }
}
