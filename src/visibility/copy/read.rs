//! Reading what is copied: one shard, page by page, and the versions that the other side has.

use std::collections::BTreeMap;

use super::{BATCH, BATCH_BYTES, everything};
use crate::clients::search::{Hit, Scan, Search, SearchError};

/// Reads one shard page by page.
pub(super) struct Reader<'a> {
    search: &'a Search,
    index: &'a str,
    shard: usize,
    from: u64,
    /// Only numbers below this one.
    pub below: Option<u64>,
    source: bool,
    size: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(search: &'a Search, index: &'a str, shard: usize, from: u64, source: bool) -> Self {
        // Until it is known how large the documents are, few of them are read.
        Self { search, index, shard, from, below: None, source, size: if source { BATCH / 10 } else { BATCH } }
    }

    /// The next page; `None` after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Hit>>, SearchError> {
        let (shard, filter) = (self.shard, everything());
        let scan = Scan {
            shard,
            filter,
            from: self.from,
            below: self.below,
            size: self.size,
            fields: &[],
            source: self.source,
        };
        let page = self.search.scan(self.index, &scan).await?;
        let Some(last) = page.last() else { return Ok(None) };
        self.from = last.seq_no.saturating_add(1);
        let bytes: usize = page.iter().filter_map(|hit| hit.source.as_ref()).map(|body| body.get().len()).sum();
        let fitting = BATCH_BYTES.checked_div(bytes / page.len()).unwrap_or(BATCH);
        self.size = fitting.clamp(1, BATCH).min(self.size.saturating_mul(4));
        Ok(Some(page))
    }
}

/// The versions that an index has of the documents of a page.
pub(super) async fn versions(search: &Search, index: &str, page: &[Hit]) -> Result<BTreeMap<String, u64>, SearchError> {
    let ids: Vec<&str> = page.iter().map(|hit| hit.id.as_str()).collect();
    let found = search.find(&[index], &ids, &[], false).await?;
    Ok(found.into_iter().map(|hit| (hit.id, hit.version)).collect())
}
