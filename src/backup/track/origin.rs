//! Whether transaction ids of the last backup mean the same today, and so which way a table is read.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::catalog;
use super::super::manifest::{Table, Tracking};
use super::Way;

/// Beyond so many transactions the 32 bits that rows have of an id no longer tell old from new.
const MOST_TRANSACTIONS: u64 = 1 << 30;
/// The first id that is given to a transaction.
const FIRST_TRANSACTION: u32 = 3;

/// The server and the moment that a snapshot was taken of. While a server runs, what it has shown stays as it was shown;
/// another start may be another server, a standby that was behind, or an older state of the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// When the server was started, to the microsecond; no two servers are started in the same.
    pub server_started: Timestamp,
    /// The database's OID.
    pub database: u32,
    /// The transaction that wrote the database's own row in the catalog: another one after it was made anew with the same OID.
    pub made_by: u32,
    /// Every transaction with a lower id had ended when the snapshot was taken.
    pub xmin: u64,
}

impl Origin {
    /// Whether both are of the same database on the same start of the same server.
    pub(in super::super) fn is_of(&self, other: &Self) -> bool {
        let of = |origin: &Self| (origin.server_started, origin.database, origin.made_by);
        of(self) == of(other)
    }

    /// The transaction id below which a row that this later snapshot of the same server sees was seen then; `None` when
    /// that cannot be told.
    fn boundary(&self, now: &Self) -> Option<u32> {
        let same = self.is_of(now);
        let passed = now.xmin.checked_sub(self.xmin)?;
        let id = u32::try_from(self.xmin & u64::from(u32::MAX)).ok()?;
        (same && passed < MOST_TRANSACTIONS && id >= FIRST_TRANSACTION).then_some(id)
    }
}

/// How a table is read, after what the last backup says of it.
pub(in super::super) fn way(
    before: Option<(&Table, &Tracking, Option<&Origin>)>,
    table: &catalog::Table,
    now: Option<&Origin>,
) -> Way {
    let Some((known, tracking, origin)) = before else { return Way::Whole };
    if (&known.columns, known.copy_format) != (&table.columns, table.format) {
        return Way::Whole;
    }
    // A row that nobody wrote reads otherwise after a label of an enum was changed, or a column was dropped and made again.
    let untouched = table.steady && tracking.attributes == table.attributes && tracking.filenode == table.filenode;
    let boundary = origin.zip(now).and_then(|(origin, now)| origin.boundary(now));
    boundary.filter(|_| untouched).map_or(Way::ByHash, Way::ByTransaction)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::manifest::{Column, Name};
    use crate::backup::rows::Format;

    fn origin(xmin: u64) -> Origin {
        Origin { server_started: Timestamp::UNIX_EPOCH, database: 5, made_by: 9, xmin }
    }

    #[test]
    fn ids_mean_the_same_only_on_the_same_start_of_the_server_and_not_too_late() {
        let then = origin(1 << 33 | 700);
        assert_eq!(then.boundary(&then), Some(700));
        assert_eq!(then.boundary(&origin(1 << 33 | 900)), Some(700));
        assert_eq!(then.boundary(&origin(699)), None, "they went back");
        assert_eq!(then.boundary(&origin(then.xmin + MOST_TRANSACTIONS)), None);
        let restarted = Origin { server_started: Timestamp::from_microsecond(1).unwrap(), ..then.clone() };
        assert_eq!(then.boundary(&restarted), None);
        assert_eq!(then.boundary(&Origin { database: 6, ..then.clone() }), None);
        assert_eq!(then.boundary(&Origin { made_by: 10, ..then.clone() }), None);
        assert_eq!(origin(1 << 32).boundary(&origin(1 << 32)), None, "no transaction has the id 0");
    }

    #[test]
    fn what_reads_otherwise_without_having_been_written_is_never_taken_by_its_transaction() {
        let name = Name { schema: "public".into(), name: "t".into() };
        let columns = vec![Column { name: "a".into(), type_name: "integer".into() }];
        let table = catalog::Table {
            name: name.clone(),
            columns: columns.clone(),
            attributes: vec![1],
            steady: true,
            format: Format::Binary,
            pages: 9,
            bytes: 9,
            filenode: 77,
            unlogged: false,
            readable: true,
            heap: true,
        };
        let tracking =
            Tracking { filenode: 77, attributes: vec![1], stripe_pages: 8, read: vec![], places: vec![], gone: None };
        let known = Table {
            name,
            copy_format: Format::Binary,
            columns,
            rows: 0,
            bytes: 0,
            content: 0,
            chunks: vec![],
            tracking: None,
        };
        let then = origin(10);
        let read =
            |table: &catalog::Table, tracking: &Tracking, now| way(Some((&known, tracking, Some(&then))), table, now);
        assert_eq!(way(None, &table, Some(&then)), Way::Whole);
        assert_eq!(read(&table, &tracking, Some(&then)), Way::ByTransaction(10));
        assert_eq!(read(&table, &tracking, None), Way::ByHash);
        assert_eq!(read(&table, &Tracking { filenode: 78, ..tracking.clone() }, Some(&then)), Way::ByHash);
        assert_eq!(read(&table, &Tracking { attributes: vec![2], ..tracking.clone() }, Some(&then)), Way::ByHash);
        assert_eq!(read(&catalog::Table { steady: false, ..table.clone() }, &tracking, Some(&then)), Way::ByHash);
        let other = catalog::Table { columns: vec![], ..table };
        assert_eq!(read(&other, &tracking, Some(&then)), Way::Whole);
    }
}
