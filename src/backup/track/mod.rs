//! What makes the second backup of a large table cheap: only the rows that are new since the last one are read and
//! stored, and of the others it is known that they are still there.
//!
//! A backup writes down at which place (`ctid`) each row lay and the hash of it ([`places`]). The next one knows from
//! these which rows it has already ([`prior`]). There are three ways to learn what became of them ([`Way`]):
//!
//! - **By transaction** ([`origin`]): a row that is visible now, and that a transaction wrote which had ended before the
//!   last snapshot began, was visible then and lay where it lies. So the server is asked for the places of those rows
//!   alone, and for all of the others. That holds as long as it is the same server, not restarted since, and the table
//!   was not rewritten.
//! - **By hash**: every row is read, and those that lie where they lay with the same hash are not stored again. So it is
//!   done when the first way does not hold, and for each stripe of a table every few days, so that no fault can last.
//! - **Whole**: nothing is known, or too much is gone: every row is read and stored.
//!
//! The rows of a stored chunk that are not in a later backup are named in that backup ([`gone`]). Tables are handled in
//! stripes of pages, so that memory is bounded by a stripe and the objects of each stand alone.

pub(super) mod gone;
pub(super) mod origin;
pub mod places;
pub(super) mod prior;

use std::fmt;

pub use origin::Origin;

/// The place of a row in its table, which the server calls `ctid`: page and number within it. Ordered as in the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tid(u64);

impl Tid {
    /// Of a page and a number.
    #[must_use]
    pub const fn new(page: u32, number: u16) -> Self {
        Self((page as u64) << 16 | number as u64)
    }

    /// As one number: the page, then sixteen bits for the number within it.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// From the number that [`Self::get`] gives; `None` when it is none.
    #[must_use]
    pub const fn from_number(number: u64) -> Option<Self> {
        if number >> 48 == 0 { Some(Self(number)) } else { None }
    }
}

impl fmt::Debug for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({},{})", self.0 >> 16, self.0 & 0xffff)
    }
}

/// How it is learned which rows of the last backup are still there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// Nothing is known of the table, or of use.
    Whole,
    /// Every row is read and held against its hash.
    ByHash,
    /// Rows whose transaction had ended before this one are the old ones; it is a transaction id as the server writes it.
    ByTransaction(u32),
}
