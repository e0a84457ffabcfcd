//! Reconcile on indices and runs that a test makes itself: each class, each race, what must not be touched. What a test
//! does between two steps of sexton is what Temporal, the engine or a kill would do there.
//!
//! Indices refresh only when they are told to, so that nothing here is seen by searches by luck.

mod alone;
mod bounds;
mod classes;
mod deletion;
mod guards;
mod ids;
mod kills;
mod races;
mod readers;
mod stragglers;
mod sweep;
mod untouched;
mod versions;

use std::sync::Arc;

use serde_json::{Value, json};
use sexton::clients::search::Search;
use sexton::context::Context;
use sexton::policy::visibility::{Ghosts, IndexName, Reconcile, VisibilityPolicy};
use sexton::visibility::VisibilityError;
use sexton::visibility::reconcile::{Bookmarks, Ground, ReconcilePlan, ReconcileReport, apply, plan};

use crate::support::executions::Executions;
use crate::support::intercept::Intercept;
use crate::support::search::{Engine, Scratch};

/// An alias, and Temporal's tables beside it.
struct Stage {
    scratch: Scratch,
    temporal: Executions,
    indices: u32,
}

/// What is the same on both engines is tried on both.
fn engines() -> [Engine; 2] {
    [Engine::opensearch(), Engine::elasticsearch6()]
}

impl Stage {
    /// So many indices behind the alias, the last of them its write index.
    fn new(engine: Engine, indices: u32) -> Arc<Self> {
        Self::with(engine, indices, |_| json!({}))
    }

    /// The same with settings for each index by its number, from 1.
    fn with(engine: Engine, indices: u32, settings: impl Fn(u32) -> Value) -> Arc<Self> {
        let stage = Self { scratch: Scratch::new(engine), temporal: Executions::new(), indices };
        for number in 1..=indices {
            let mut all = json!({"index.refresh_interval": "-1"});
            for (key, value) in settings(number).as_object().into_iter().flatten() {
                all[key] = value.clone();
            }
            let aliases = json!({&stage.scratch.alias: {"is_write_index": number == indices}});
            stage.scratch.create(&stage.index(number), json!({"settings": all, "aliases": aliases}));
        }
        Arc::new(stage)
    }

    fn index(&self, number: u32) -> String {
        self.scratch.index(number)
    }

    fn write_index(&self) -> String {
        self.index(self.indices)
    }

    /// A document of a workflow in the index of this number.
    fn document(&self, number: u32, workflow: &str, version: u64, open: bool) {
        self.scratch.document(&self.index(number), workflow, version, open, json!({}));
    }

    /// The versions of a workflow's documents, index by index.
    fn versions(&self, workflow: &str) -> Vec<Option<u64>> {
        (1..=self.indices).map(|number| self.scratch.version(&self.index(number), workflow)).collect()
    }

    /// How many documents of a workflow a list through the alias shows.
    fn listed(&self, workflow: &str) -> u64 {
        self.scratch.found(&self.scratch.alias, "WorkflowId", workflow)
    }

    fn policy(&self) -> VisibilityPolicy {
        let index = IndexName::try_from(self.scratch.alias.clone()).unwrap();
        VisibilityPolicy { index, ..VisibilityPolicy::default() }
    }

    fn policy_with(&self, reconcile: Reconcile) -> VisibilityPolicy {
        VisibilityPolicy { reconcile, ..self.policy() }
    }

    async fn ground(&self) -> Ground {
        self.temporal.ground(&self.scratch).await
    }

    /// The ground behind a door where the test waits.
    async fn ground_behind(&self, door: &Intercept) -> Ground {
        Ground { search: Search::connect(&door.settings()).await.unwrap(), ..self.ground().await }
    }

    async fn try_plan(&self, policy: &VisibilityPolicy, marks: &Bookmarks) -> Result<ReconcilePlan, VisibilityError> {
        plan(&self.ground().await, policy, marks, &Context::plain()).await
    }

    async fn plan(&self) -> ReconcilePlan {
        self.try_plan(&self.policy(), &Bookmarks::default()).await.unwrap()
    }

    async fn apply(&self, plan: &ReconcilePlan) -> ReconcileReport {
        apply(plan, &self.ground().await, &Context::plain()).await.unwrap()
    }

    async fn apply_behind(&self, door: &Intercept, plan: &ReconcilePlan) -> ReconcileReport {
        let report = apply(plan, &self.ground_behind(door).await, &Context::plain()).await.unwrap();
        door.all_happened();
        report
    }

    /// A whole run, from the beginning.
    async fn reconcile(&self) -> ReconcileReport {
        self.apply(&self.plan().await).await
    }

    /// A whole run that goes on where the last one stopped.
    async fn go_on(&self, policy: &VisibilityPolicy, marks: &mut Bookmarks) -> (ReconcilePlan, ReconcileReport) {
        let plan = self.try_plan(policy, marks).await.unwrap();
        let report = self.apply(&plan).await;
        *marks = plan.bookmarks.clone();
        (plan, report)
    }

    /// Nothing is left to do for a run that looks at everything.
    async fn is_settled(&self) {
        let plan = self.plan().await;
        assert_eq!(plan.found.changes(), 0, "{:?}", plan.found);
    }
}

fn keep_ghosts() -> Reconcile {
    Reconcile { ghosts: Ghosts::Keep, ..Reconcile::default() }
}
