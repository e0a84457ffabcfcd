//! A table's entry in the manifest, of the parts that the workers bring.

use super::before::Tracked;
use super::job::Job;
use super::stripe::{Joined, Stripe};
use crate::backup::catalog;
use crate::backup::chunk::{ChunkRef, Content, Holds};
use crate::backup::error::BackupError;
use crate::backup::manifest::{Slice, Table, Tracking};

/// A part of a table.
#[derive(Debug)]
pub(super) enum Done {
    /// A chunk, and its place: range, number within the range.
    Chunk((usize, usize), ChunkRef),
    /// A stripe of this number.
    Stripe(usize, Stripe),
}

/// The entry; what is gone of the table's chunks is stored as a list.
pub(super) async fn entry(
    job: &Job,
    table: &catalog::Table,
    tracked: Option<&Tracked>,
    mut done: Vec<Done>,
) -> Result<Table, BackupError> {
    done.sort_by_key(|part| match part {
        Done::Chunk(place, _) => *place,
        Done::Stripe(number, _) => (*number, 0),
    });
    let mut joined = Joined::default();
    for part in done {
        match part {
            Done::Chunk(_, chunk) => joined.slices.push(Slice::whole(chunk)),
            Done::Stripe(_, stripe) => joined.add(stripe),
        }
    }
    let tracking = match tracked {
        None => None,
        Some(tracked) => Some(Tracking {
            filenode: table.filenode,
            attributes: table.attributes.clone(),
            stripe_pages: tracked.stripe_pages,
            read: joined.read,
            places: joined.places,
            gone: if joined.gone.is_empty() { None } else { Some(job.seal_list(joined.gone, Holds::Gone).await?) },
        }),
    };
    let content = joined.slices.iter().fold(Content::default(), |sum, slice| sum.plus(slice.content()));
    Ok(Table {
        name: table.name.clone(),
        copy_format: table.format,
        columns: table.columns.clone(),
        rows: content.rows,
        bytes: joined.slices.iter().map(Slice::bytes).sum(),
        content: content.sum,
        chunks: joined.slices,
        tracking,
    })
}
