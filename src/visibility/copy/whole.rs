//! Whole indices copied into another cluster, and the mapping that goes with the documents.

use serde_json::{Value, json};

use super::{Copy, CopyError, Position, Verified};
use crate::clients::search::{Search, SearchError};
use crate::context::Context;
use crate::visibility::rollover::missing_fields;

/// Copies whole indices, one after the other, each into an index of the given name in the target, and verifies each by
/// count and version. A target index that is missing is created from the target's own templates; fields that only the
/// source's mapping has (custom search attributes) are added to it. Made twice, the second time writes nothing.
///
/// The source must not be written to meanwhile, or the comparison finds a difference.
///
/// # Errors
/// Any [`CopyError`]; [`CopyError::Differs`] names the first documents that differ.
pub async fn copy_indices(
    source: &Search,
    target: &Search,
    pairs: &[(String, String)],
    ctx: &Context,
) -> Result<Vec<Verified>, CopyError> {
    let mut all = Vec::new();
    for (from, to) in pairs {
        exists(target, to).await?;
        carry_mapping(source, from, target, to).await?;
        let copy = Copy { source, from, target, to };
        copy.pass(&Position::new(), ctx).await?;
        let verified = copy.verify(&Position::new(), None, ctx).await?;
        if !verified.equal() {
            let verified = Box::new(verified);
            return Err(CopyError::Differs { from: from.clone(), to: to.clone(), verified });
        }
        all.push(verified);
    }
    Ok(all)
}

/// The target index is there.
async fn exists(target: &Search, to: &str) -> Result<(), SearchError> {
    match target.mappings(to).await {
        Ok(_) => Ok(()),
        Err(SearchError::NotFound { .. }) => target.create_index(to, json!({})).await,
        Err(error) => Err(error),
    }
}

/// The target index gets every field that only the source has.
pub(in crate::visibility) async fn carry_mapping(
    source: &Search,
    from: &str,
    target: &Search,
    to: &str,
) -> Result<(), SearchError> {
    let of = source.mappings(from).await?.remove(from).unwrap_or_default();
    let there = target.mappings(to).await?.remove(to).unwrap_or_default();
    carry_fields(target, &of, to, &there).await
}

/// The same between two mappings that were read already. Where both have a field the target's type stays: a `date` of
/// Elasticsearch 6 becomes the `date_nanos` of Temporal's newer template.
pub(in crate::visibility) async fn carry_fields(
    target: &Search,
    of: &Value,
    to: &str,
    there: &Value,
) -> Result<(), SearchError> {
    let missing = missing_fields(of, there);
    if missing.is_empty() { Ok(()) } else { target.add_fields(to, &missing).await }
}
