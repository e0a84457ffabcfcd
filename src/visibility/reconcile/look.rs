//! What every part of the look shares: the systems, the survey, and the questions asked of each document.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::Ground;
use super::document::run_of;
use super::plan::{Found, Item};
use super::survey::Survey;
use crate::clients::persistence::{RunKey, Session};
use crate::clients::search::{Hit, PAGE, Search};
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
    bounds: BTreeMap<i32, u64>,
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
        let (found, stale, bounds) = (Found::default(), BTreeSet::new(), BTreeMap::new());
        Ok(Self { ground, session, survey, ctx, found, most, ghosts: true, stale, bounds })
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

    pub(super) fn item(&self, hit: &Hit) -> Option<Item> {
        Some(Item { member: self.survey.rank(&hit.index)?, id: hit.id.clone(), version: hit.version })
    }

    /// Where else documents of these ids are.
    pub(super) async fn find(
        &self,
        indices: &[&str],
        ids: &[&str],
        fields: &[&str],
    ) -> Result<Vec<Hit>, VisibilityError> {
        let mut found = Vec::new();
        for ids in ids.chunks((PAGE / indices.len().max(1)).max(1)) {
            found.extend(self.search().find(indices, ids, fields, false).await?);
        }
        Ok(found)
    }

    /// Those whose run exists, and those whose run is gone. Documents that name no run are in neither.
    pub(super) async fn split(&mut self, hits: Vec<Hit>) -> Result<(Vec<Hit>, Vec<Hit>), VisibilityError> {
        let keyed: Vec<(Hit, RunKey)> = hits.into_iter().filter_map(|hit| run_of(&hit).map(|key| (hit, key))).collect();
        let keys: Vec<RunKey> = keyed.iter().map(|(_, key)| key.clone()).collect();
        let exist = self.session.exist(&keys).await?;
        let (mut there, mut gone) = (Vec::new(), Vec::new());
        for ((hit, key), exists) in keyed.into_iter().zip(exist) {
            if exists {
                there.push(hit);
            } else {
                self.written_by_this_cluster(&hit, &key).await?;
                gone.push(hit);
            }
        }
        if !gone.is_empty() && there.is_empty() {
            self.not_strangers().await?;
        }
        Ok((there, gone))
    }

    /// A run that is not in the database is gone only if the database could have known it: the version of its document
    /// is a task id that its shard has handed out. A restored or a foreign database has not come that far.
    async fn written_by_this_cluster(&mut self, hit: &Hit, key: &RunKey) -> Result<(), VisibilityError> {
        let handed_out = |bounds: &BTreeMap<i32, u64>| bounds.get(&key.shard).is_some_and(|b| hit.version < *b);
        if handed_out(&self.bounds) {
            return Ok(());
        }
        // A shard may have begun a new range since the bounds were read.
        self.bounds = self.session.task_id_bounds().await?;
        if handed_out(&self.bounds) {
            return Ok(());
        }
        Err(Refusal::Behind { index: hit.index.clone(), id: hit.id.clone(), shard: key.shard }.into())
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
