//! One batch of documents carried forward: copied if its runs exist, and removed where it was once the copies are seen.

use std::collections::BTreeMap;

use super::act::Act;
use super::document::{KEY, run_of};
use super::plan::Item;
use super::report::ReconcileReport;
use crate::clients::persistence::RunKey;
use crate::clients::search::{Bulk, Done, Hit, Op};
use crate::visibility::VisibilityError;

/// A bulk is sent once it has so many bytes, however few documents they are.
const BULK_BYTES: usize = 8 << 20;

/// A document that is in the write index, in this version or a newer one.
#[derive(Debug)]
pub(super) struct Copied {
    id: String,
    version: u64,
    run: RunKey,
}

/// Copies the documents that are as they were planned and whose runs exist.
pub(super) async fn copy(
    act: &mut Act<'_>,
    from: &str,
    to: &str,
    items: &[&Item],
    report: &mut ReconcileReport,
) -> Result<Vec<Copied>, VisibilityError> {
    let ids: Vec<&str> = items.iter().map(|item| item.id.as_str()).collect();
    let planned: BTreeMap<&str, u64> = items.iter().map(|item| (item.id.as_str(), item.version)).collect();
    let hits = act.search().find(&[from], &ids, &KEY, true).await?;
    let (hits, keys): (Vec<Hit>, Vec<RunKey>) = hits
        .into_iter()
        .filter(|hit| planned.get(hit.id.as_str()) == Some(&hit.version))
        .filter_map(|hit| run_of(&hit).map(|key| (hit, key)))
        .unzip();

    // Gone by now: the next look finds a ghost.
    let exist = act.session.exist(&keys).await?;
    let there = hits.into_iter().zip(keys).zip(exist).filter(|(_, exists)| *exists).map(|(document, _)| document);
    let there: Vec<(Hit, RunKey)> = there.collect();
    report.changed_meanwhile += (items.len() - there.len()) as u64;
    write(act, to, there, report).await
}

async fn write(
    act: &mut Act<'_>,
    to: &str,
    documents: Vec<(Hit, RunKey)>,
    report: &mut ReconcileReport,
) -> Result<Vec<Copied>, VisibilityError> {
    let (mut copied, mut contested) = (Vec::new(), Vec::new());
    let (mut bulk, mut sent): (Bulk, Vec<Copied>) = (Bulk::default(), Vec::new());
    let mut documents = documents.into_iter().peekable();
    while let Some((hit, run)) = documents.next() {
        if let Some(body) = &hit.source {
            act.search().add(&mut bulk, &Op::Index { index: to, id: &hit.id, version: hit.version, body });
            sent.push(Copied { id: hit.id, version: hit.version, run });
        } else {
            report.changed_meanwhile += 1;
        }
        if documents.peek().is_some() && bulk.bytes() <= BULK_BYTES {
            continue;
        }
        let full = std::mem::take(&mut bulk);
        for (document, done) in sent.drain(..).zip(act.search().bulk(full).await?) {
            match done {
                Done::Applied => copied.push(document),
                Done::Conflict => contested.push(document),
                failed => report.refuse(&failed),
            }
        }
    }
    // A conflict is a newer document, or the tombstone of one; only a document makes the original superfluous.
    let ids: Vec<&str> = contested.iter().map(|document| document.id.as_str()).collect();
    let newer = act.search().get(to, &ids, false).await?;
    let newer: BTreeMap<String, u64> = newer.into_iter().map(|hit| (hit.id, hit.version)).collect();
    for document in contested {
        if newer.get(&document.id).is_some_and(|version| *version >= document.version) {
            copied.push(document);
        } else {
            report.changed_meanwhile += 1;
        }
    }
    Ok(copied)
}

/// Removes the originals, once searches see the copies.
pub(super) async fn remove(
    act: &mut Act<'_>,
    from: &str,
    to: &str,
    copied: &[Copied],
    report: &mut ReconcileReport,
) -> Result<(), VisibilityError> {
    undo_resurrections(act, to, copied, report).await?;
    let mut bulk = Bulk::default();
    for document in copied {
        act.search().add(&mut bulk, &Op::Delete { index: from, id: &document.id, version: document.version });
    }
    for done in act.search().bulk(bulk).await? {
        match done {
            Done::Applied | Done::Missing => report.carried += 1,
            Done::Conflict => report.changed_meanwhile += 1,
            failed @ Done::Failed { .. } => report.refuse(&failed),
        }
    }
    Ok(())
}

/// A run that was deleted while its document was copied would be listed again: Temporal's deletion came before the
/// copy, and the engine may have forgotten it by then.
async fn undo_resurrections(
    act: &mut Act<'_>,
    to: &str,
    copied: &[Copied],
    report: &mut ReconcileReport,
) -> Result<(), VisibilityError> {
    let keys: Vec<RunKey> = copied.iter().map(|document| document.run.clone()).collect();
    let exist = act.session.exist(&keys).await?;
    let mut bulk = Bulk::default();
    for (document, _) in copied.iter().zip(exist).filter(|(_, exists)| !exists) {
        act.search().add(&mut bulk, &Op::Delete { index: to, id: &document.id, version: document.version });
    }
    for done in act.search().bulk(bulk).await? {
        if matches!(done, Done::Failed { .. }) {
            report.refuse(&done);
        }
    }
    Ok(())
}
