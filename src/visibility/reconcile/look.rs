//! What every part of the look shares: the systems, the survey, and the questions asked of each document.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::json;
use uuid::Uuid;

use super::Ground;
use super::document::{COLUMNS, KEY, Listed, run_of};
use super::plan::{Found, Item};
use super::survey::Survey;
use crate::clients::persistence::{RunKey, Session};
use crate::clients::search::{PAGE, Scan, Search};
use crate::context::Context;
use crate::visibility::{Refusal, VisibilityError};

/// Documents read in one go.
pub(in crate::visibility) const BATCH: usize = 5_000;

/// The namespace of Temporal's own workflows has the same identity in every cluster (`primitives.SystemNamespaceID` in
/// the server's source), so that it proves nothing.
const SYSTEM: Uuid = Uuid::from_u128(0x3204_9b68_7872_4094_8e63_d0dd_5989_6a83);

/// One look at an alias.
#[derive(Debug)]
pub(in crate::visibility) struct Look<'a> {
    pub ground: &'a Ground,
    pub session: Session,
    pub survey: &'a Survey,
    pub ctx: &'a Context,
    /// What was found so far.
    pub found: Found,
    /// No more than so many changes are looked for.
    pub most: usize,
    /// False where ghosts go with their index.
    pub ghosts: bool,
    /// The stale documents found beside open ones, by index and id.
    pub stale: BTreeSet<(usize, String)>,
    seen: Seen,
    bounds: BTreeMap<i32, u64>,
}

/// Which documents were read, by index, shard and sequence number: a bit for each, so that one that two parts of the look
/// come by counts once.
#[derive(Debug, Default)]
struct Seen(HashMap<(usize, usize, u64), u64>);

impl Seen {
    /// True when it was not there.
    fn add(&mut self, member: usize, shard: usize, seq_no: u64) -> bool {
        let bits = self.0.entry((member, shard, seq_no / 64)).or_default();
        let bit = 1 << (seq_no % 64);
        let is_new = *bits & bit == 0;
        *bits |= bit;
        is_new
    }
}

/// Documents by what became of their runs.
#[derive(Debug, Default)]
pub(super) struct Split {
    /// Their runs exist.
    pub there: Vec<Item>,
    /// Their runs are gone.
    pub gone: Vec<Item>,
    /// So many name no run of Temporal's.
    pub unreadable: u64,
}

/// A page of one shard.
#[derive(Debug)]
pub(super) struct Page {
    /// The documents, by ascending sequence number.
    pub documents: Vec<Listed>,
    /// So many documents beside them name no run.
    pub unreadable: u64,
    /// The last sequence number of the page, when it is as long as it may be.
    pub last: Option<u64>,
}

impl Page {
    /// Documents looked at.
    pub(super) fn looked_at(&self) -> usize {
        self.documents.len() + usize::try_from(self.unreadable).unwrap_or(usize::MAX)
    }
}

impl From<Listed> for Item {
    fn from(listed: Listed) -> Self {
        Self { member: listed.member, id: listed.id, version: listed.version }
    }
}

impl<'a> Look<'a> {
    /// Connects to Temporal's tables, which have to be those of the primary.
    pub(in crate::visibility) async fn new(
        ground: &'a Ground,
        survey: &'a Survey,
        most: usize,
        ctx: &'a Context,
    ) -> Result<Self, VisibilityError> {
        let mut session = ground.persistence.connect().await?;
        if session.is_standby().await? {
            return Err(Refusal::Standby { database: ground.persistence.database().to_owned() }.into());
        }
        let bounds = session.task_id_bounds().await?;
        session.shards().await?.check(ground.persistence.database()).map_err(Refusal::from)?;
        let (found, stale) = (Found::default(), BTreeSet::new());
        Ok(Self { ground, session, survey, ctx, found, most, ghosts: true, stale, seen: Seen::default(), bounds })
    }

    pub(super) fn search(&self) -> &'a Search {
        &self.ground.search
    }

    /// How many more changes one run may make.
    pub(super) fn room(&self) -> usize {
        self.most.saturating_sub(self.found.changes())
    }

    /// True when there is enough to do for one run.
    pub(super) fn is_full(&self) -> bool {
        self.room() == 0
    }

    /// Between two requests: whether to go on.
    pub(in crate::visibility) fn go_on(&self) -> Result<(), VisibilityError> {
        if self.ctx.is_cancelled() { Err(VisibilityError::Cancelled { done: 0, total: 0 }) } else { Ok(()) }
    }

    /// A page of the documents of one shard of a member, which count as looked at.
    pub(super) async fn page(&mut self, member: usize, scan: &Scan<'_>) -> Result<Page, VisibilityError> {
        let Some(index) = self.survey.members.get(member) else {
            return Ok(Page { documents: Vec::new(), unreadable: 0, last: None });
        };
        let rows = self.search().scan_rows(&index.name, &Scan { fields: &COLUMNS, ..scan.clone() }).await?;
        let (many, last) = (rows.len(), rows.last().map(|row| row.seq_no));
        let new = rows.iter().filter(|row| self.seen.add(member, scan.shard, row.seq_no)).count();
        self.found.documents += new as u64;
        self.ctx.progress.advance(many as u64);
        let documents: Vec<Listed> = rows.into_iter().filter_map(|row| Listed::read(member, row)).collect();
        let unreadable = (many - documents.len()) as u64;
        Ok(Page { documents, unreadable, last: last.filter(|_| many == scan.size) })
    }

    /// Where else documents of these ids are.
    pub(super) async fn find(&self, indices: &[&str], ids: &[&str]) -> Result<Vec<Listed>, VisibilityError> {
        let mut found = Vec::new();
        for ids in ids.chunks((PAGE / indices.len().max(1)).max(1)) {
            let rows = self.search().find_rows(indices, ids, &COLUMNS).await?;
            found.extend(rows.into_iter().filter_map(|row| Listed::read(self.survey.rank(&row.index)?, row)));
        }
        Ok(found)
    }

    /// Documents of one shard of a member by what became of their runs. Documents that changed meanwhile are left out.
    pub(super) async fn split(
        &mut self,
        (member, shard): (usize, usize),
        documents: Vec<Listed>,
    ) -> Result<Split, VisibilityError> {
        let mut split = Split::default();
        let shards = u32::try_from(self.bounds.len()).unwrap_or(u32::MAX);
        let (mut likely, mut suspects) = (Vec::new(), Vec::new());
        for document in documents {
            match document.likely_run(shards) {
                Some(key) => likely.push((document, key)),
                None => suspects.push(document),
            }
        }
        let (documents, keys): (Vec<Listed>, Vec<RunKey>) = likely.into_iter().unzip();
        for (document, exists) in documents.into_iter().zip(self.session.exist(&keys).await?) {
            if exists {
                split.there.push(document.into());
            } else {
                suspects.push(document);
            }
        }
        self.judge((member, shard), suspects, &mut split).await?;
        if !split.gone.is_empty() && split.there.is_empty() {
            self.not_strangers().await?;
        }
        Ok(split)
    }

    /// Looks each document's run up in the shard that the document itself says.
    async fn judge(
        &mut self,
        (member, shard): (usize, usize),
        suspects: Vec<Listed>,
        split: &mut Split,
    ) -> Result<(), VisibilityError> {
        let Some(index) = self.survey.members.get(member).filter(|_| !suspects.is_empty()) else { return Ok(()) };
        let mut versions: BTreeMap<String, Listed> =
            suspects.into_iter().map(|document| (document.id.clone(), document)).collect();
        let ids: Vec<String> = versions.keys().cloned().collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let (mut documents, mut keys) = (Vec::new(), Vec::new());
        for ids in ids.chunks(PAGE) {
            for hit in self.search().find(&[&index.name], ids, &KEY, false).await? {
                let unchanged = versions.remove(&hit.id).filter(|document| document.version == hit.version);
                match (unchanged, run_of(&hit)) {
                    (Some(document), Some(key)) => {
                        documents.push(document);
                        keys.push(key);
                    }
                    (Some(_), None) => split.unreadable += 1,
                    (None, _) => {}
                }
            }
        }
        split.unreadable += self.still_there(&index.name, shard, versions.values()).await?;
        let exist = self.session.exist(&keys).await?;
        for ((document, key), exists) in documents.into_iter().zip(keys).zip(exist) {
            if exists {
                split.there.push(document.into());
            } else {
                self.written_by_this_cluster(&document, &key).await?;
                split.gone.push(document.into());
            }
        }
        Ok(())
    }

    /// How many of the documents that are not found under the id of their run are there all the same: Temporal did not
    /// write them.
    async fn still_there(
        &self,
        index: &str,
        shard: usize,
        documents: impl Iterator<Item = &Listed>,
    ) -> Result<u64, VisibilityError> {
        let (runs, places): (Vec<&str>, BTreeSet<u64>) =
            documents.map(|document| (document.run.as_str(), document.seq_no)).unzip();
        let (Some(first), Some(last)) = (places.first(), places.last()) else { return Ok(0) };
        let filter = json!({"terms": {"RunId": runs}});
        let (from, below) = (*first, Some(last.saturating_add(1)));
        let scan = Scan { shard, filter, from, below, size: PAGE, fields: &[], source: false };
        let rows = self.search().scan_rows(index, &scan).await?;
        Ok(rows.iter().filter(|row| places.contains(&row.seq_no)).count() as u64)
    }

    /// A run that is not in the database is gone only if the database could have known it: the version of its document
    /// is a task id that its shard has handed out. A restored or a foreign database has not come that far.
    async fn written_by_this_cluster(&mut self, document: &Listed, key: &RunKey) -> Result<(), VisibilityError> {
        let handed_out = |bounds: &BTreeMap<i32, u64>| bounds.get(&key.shard).is_some_and(|b| document.version < *b);
        if handed_out(&self.bounds) {
            return Ok(());
        }
        // A shard may have begun a new range since the bounds were read.
        self.bounds = self.session.task_id_bounds().await?;
        if handed_out(&self.bounds) {
            return Ok(());
        }
        let index = self.survey.members.get(document.member).map(|member| member.name.clone()).unwrap_or_default();
        Err(Refusal::Behind { index, id: document.id.clone(), shard: key.shard }.into())
    }

    /// The index and the database have to know a namespace in common. A database that knows none was set up anew.
    async fn not_strangers(&mut self) -> Result<(), VisibilityError> {
        let known: BTreeSet<Uuid> = self.session.namespaces().await?.into_keys().filter(|id| *id != SYSTEM).collect();
        let alias = &self.survey.alias;
        let named = self.search().terms(alias, "NamespaceId", 1_000).await?;
        let named: BTreeSet<Uuid> =
            named.keys().filter_map(|id| Uuid::parse_str(id).ok()).filter(|id| *id != SYSTEM).collect();
        if named.is_empty() || !named.is_disjoint(&known) {
            return Ok(());
        }
        let database = self.ground.persistence.database().to_owned();
        Err(Refusal::Strangers { index: alias.clone(), database }.into())
    }
}

#[cfg(test)]
mod tests {
    use super::Seen;

    #[test]
    fn a_document_counts_once_and_those_beside_it_count() {
        let mut seen = Seen::default();
        let all = [(0, 0, 0), (0, 0, 63), (0, 0, 64), (0, 1, 0), (1, 0, 0), (0, 0, u64::MAX)];
        for (member, shard, seq_no) in all {
            assert!(seen.add(member, shard, seq_no) && !seen.add(member, shard, seq_no));
        }
    }
}
