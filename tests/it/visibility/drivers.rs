//! One set of checks for every way of rolling: ILM on a real Elasticsearch, the daemon on a real Elasticsearch and a
//! real OpenSearch, and ISM on a real OpenSearch behind a stand-in for the plugin (`support::ism`), since none with
//! the plugin can be had here. The judge is the engine's own answer, and for ISM's policies the stand-in's.

mod checks;
mod deletion;
mod policies;

use serde_json::{Value, json};
use sexton::clients::search::{Search, SearchError};
use sexton::context::Context;
use sexton::policy::visibility::{Deletion, DriverChoice, VisibilityPolicy};
use sexton::units::Span;
use sexton::visibility::reconcile::Ground;
use sexton::visibility::{self, DriverKind, Refusal, VisibilityError, VisibilityPlan, VisibilityReport};

use crate::support::executions::Executions;
use crate::support::ism::Ism;
use crate::support::search::{Engine, Scratch, eventually};

/// An engine, an alias on it, and who is to roll it.
#[derive(Debug)]
struct Bench {
    // First, so that nothing rolls any more while the indices are removed.
    ism: Option<Ism>,
    scratch: Scratch,
    /// Temporal has the one workflow that is open in the first index.
    executions: Executions,
    driver: DriverKind,
}

impl Bench {
    fn new(engine: Engine, ism: Option<Ism>, driver: DriverKind) -> Self {
        let executions = Executions::new();
        executions.run("first", true);
        Self { ism, scratch: super::begun(engine), executions, driver }
    }

    fn ilm_on_elasticsearch() -> Self {
        Self::new(Engine::elasticsearch6(), None, DriverKind::Ilm)
    }

    fn daemon_on_elasticsearch() -> Self {
        Self::new(Engine::elasticsearch6(), None, DriverKind::Daemon)
    }

    fn daemon_on_opensearch() -> Self {
        Self::new(Engine::opensearch(), None, DriverKind::Daemon)
    }

    fn ism_on_opensearch() -> Self {
        Self::new(Engine::opensearch(), Some(Ism::start(Engine::opensearch())), DriverKind::Ism)
    }

    /// The daemon on an engine that has ISM.
    fn daemon_beside_ism() -> Self {
        Self { driver: DriverKind::Daemon, ..Self::ism_on_opensearch() }
    }

    /// Rolls at one age, deletes at another.
    fn policy(&self, max_age: Span, after: Span) -> VisibilityPolicy {
        let driver = match self.driver {
            DriverKind::Ilm => DriverChoice::Ilm,
            DriverKind::Ism => DriverChoice::Ism,
            DriverKind::Daemon => DriverChoice::Daemon,
        };
        VisibilityPolicy { driver, ..super::policy(&self.scratch.alias, max_age, after) }
    }

    /// Rolls as soon as there is a document in the index, and so not again before one is written to the next.
    fn rolling(&self, after: Span) -> VisibilityPolicy {
        let mut policy = self.policy(Span::days(30), after);
        policy.rollover.max_docs = Some(1);
        policy
    }

    /// Far from rolling and from deleting.
    fn calm(&self) -> VisibilityPolicy {
        self.policy(Span::days(30), Span::days(90))
    }

    /// The engine as sexton sees it.
    fn engine(&self) -> Engine {
        self.ism.as_ref().map_or_else(|| self.scratch.engine.clone(), Ism::engine)
    }

    async fn client(&self) -> Search {
        self.engine().client().await
    }

    async fn try_plan(&self, policy: &VisibilityPolicy) -> Result<VisibilityPlan, VisibilityError> {
        policy.validate().unwrap();
        visibility::plan(&self.client().await, policy, Some(Span::seconds(1)), &Context::plain()).await
    }

    async fn plan(&self, policy: &VisibilityPolicy) -> VisibilityPlan {
        eventually("a plan", async || match self.try_plan(policy).await {
            // Right after the engine's rollover the new index's shard is not there yet.
            Err(VisibilityError::Search(SearchError::Red { .. }) | VisibilityError::Refused(Refusal::Red { .. })) => {
                None
            }
            other => Some(other.unwrap()),
        })
        .await
    }

    async fn try_apply(&self, plan: &VisibilityPlan) -> Result<VisibilityReport, VisibilityError> {
        let persistence = self.executions.persistence();
        let ground = Ground { search: self.client().await, persistence, temporal: None };
        visibility::apply(plan, &ground, &Context::plain()).await
    }

    async fn apply(&self, plan: &VisibilityPlan) -> VisibilityReport {
        self.try_apply(plan).await.unwrap()
    }

    async fn run(&self, policy: &VisibilityPolicy) -> VisibilityReport {
        let plan = self.plan(policy).await;
        self.apply(&plan).await
    }

    /// Nothing to do, at the latest when the engine has taken over what it was told.
    async fn settles(&self, policy: &VisibilityPolicy) {
        eventually("an empty plan", async || self.plan(policy).await.plan().is_empty().then_some(())).await;
    }

    /// Runs until there is nothing to do.
    async fn runs_until_settled(&self, policy: &VisibilityPolicy) {
        eventually("an empty plan", async || {
            let plan = self.plan(policy).await;
            if plan.plan().is_empty() {
                return Some(());
            }
            self.apply(&plan).await;
            None
        })
        .await;
    }

    /// Runs until another index than the first one is written to, whoever rolls, and names it.
    async fn rolled(&self, policy: &VisibilityPolicy) -> String {
        eventually("a rollover", async || {
            self.run(policy).await;
            Some(self.scratch.write_index()).filter(|write| *write != self.scratch.index(1))
        })
        .await
    }

    fn own(&self) -> String {
        format!("sexton-{}", self.scratch.alias)
    }

    fn deletes_by_engine(policy: VisibilityPolicy) -> VisibilityPolicy {
        VisibilityPolicy { deletion: Deletion::Engine, ..policy }
    }

    /// The lifecycle policy in the engine and its version; `None` where there is none.
    fn stored(&self, name: &str) -> Option<(Value, u64)> {
        let (path, body) = match self.driver {
            DriverKind::Ilm => ("/_ilm/policy", format!("/{name}/policy")),
            DriverKind::Ism => ("/_plugins/_ism/policies", "/policy".to_owned()),
            DriverKind::Daemon => return None,
        };
        let (status, answer) = self.engine().http("GET", &format!("{path}/{name}"), None);
        let version = answer.get(name).unwrap_or(&answer);
        let version = version["version"].as_u64().or_else(|| version["_version"].as_u64());
        (status == 200).then(|| (answer.pointer(&body).unwrap().clone(), version.unwrap()))
    }

    /// What somebody else does to a lifecycle policy.
    fn put(&self, name: &str, body: &Value) {
        let engine = self.engine();
        if self.driver == DriverKind::Ilm {
            engine.ok("PUT", &format!("/_ilm/policy/{name}"), Some(json!({"policy": body})));
            return;
        }
        let path = format!("/_plugins/_ism/policies/{name}");
        let (status, there) = engine.http("GET", &path, None);
        let guard = format!("?if_seq_no={}&if_primary_term={}", there["_seq_no"], there["_primary_term"]);
        engine.ok("PUT", &format!("{path}{}", if status == 200 { &guard } else { "" }), Some(json!({"policy": body})));
    }

    fn template(&self) -> Option<Value> {
        let path = self.scratch.engine.typeless(&format!("/_template/{}", self.own()));
        let (status, body) = self.scratch.engine.http("GET", &path, None);
        (status == 200).then(|| body[self.own()].clone())
    }

    /// The template like Temporal's, as the engine sends it.
    fn temporals_template(&self) -> String {
        let path = self.scratch.engine.typeless(&format!("/_template/{}", self.scratch.template()));
        self.scratch.engine.send("GET", &path, None).1
    }

    /// The fields an index has in its mapping.
    fn mapped(&self, index: &str) -> Vec<String> {
        let path = self.scratch.engine.typeless(&format!("/{index}/_mapping"));
        let body = self.scratch.engine.ok("GET", &path, None);
        body[index]["mappings"]["properties"].as_object().unwrap().keys().cloned().collect()
    }

    /// Nothing that sexton asked of the plugin had another shape than the documentation's.
    fn well_formed(&self) {
        let refused = self.ism.as_ref().map(Ism::refused).unwrap_or_default();
        assert_eq!(refused, Vec::<String>::new());
    }
}

/// Lines of a plan as `field from -> to`, destructive ones with an exclamation mark.
fn lines(plan: &VisibilityPlan, subject: &str) -> Vec<String> {
    let changes = plan.plan().changes.into_iter().filter(|change| change.subject == subject);
    let line = |change: sexton::plan::Change| {
        let mark = if change.destructive { "!" } else { "" };
        let text = |value: Option<String>| value.unwrap_or_else(|| "-".into());
        format!("{} {} -> {}{mark}", text(change.field), text(change.from), text(change.to))
    };
    changes.map(line).collect()
}

/// A test of each check on each of its benches.
macro_rules! conformance {
    ($($check:ident in $module:ident on [$($bench:ident),+]),+ $(,)?) => {
        $(mod $check {
            use super::{$module, Bench};

            $(#[tokio::test]
            async fn $bench() {
                $module::$check(Bench::$bench()).await;
            })+
        })+
    };
}

conformance! {
    it_is_set_up_once_and_then_left_alone in checks
        on [ilm_on_elasticsearch, daemon_on_elasticsearch, daemon_on_opensearch, ism_on_opensearch],
    search_attributes_are_there_before_the_first_write in checks
        on [ilm_on_elasticsearch, daemon_on_elasticsearch, daemon_on_opensearch, ism_on_opensearch],
    a_stopped_addition_of_search_attributes_is_finished in checks on [ilm_on_elasticsearch, daemon_on_opensearch],
    temporals_template_stays_as_it_is in checks
        on [ilm_on_elasticsearch, daemon_on_elasticsearch, daemon_on_opensearch, ism_on_opensearch],
    an_index_outside_the_alias_gets_nothing in checks
        on [ilm_on_elasticsearch, daemon_on_elasticsearch, daemon_on_opensearch, ism_on_opensearch],
    an_edited_template_is_shown_and_put_right in policies
        on [ilm_on_elasticsearch, daemon_on_elasticsearch, daemon_on_opensearch, ism_on_opensearch],
    // An OpenSearch without ISM has nobody else who could manage an index.
    a_foreign_policy_is_refused in policies
        on [ilm_on_elasticsearch, daemon_on_elasticsearch, daemon_beside_ism, ism_on_opensearch],
    gated_deletion_leaves_the_engine_none in deletion
        on [ilm_on_elasticsearch, daemon_on_elasticsearch, daemon_on_opensearch, ism_on_opensearch],
    // The daemon keeps no policy in the engine.
    an_edited_policy_is_shown_and_put_right in policies on [ilm_on_elasticsearch, ism_on_opensearch],
    a_policy_edited_after_the_plan_is_not_overwritten in policies on [ilm_on_elasticsearch, ism_on_opensearch],
    engine_deletion_is_destructive_and_happens in deletion on [ilm_on_elasticsearch, ism_on_opensearch],
    an_index_from_before_the_policy_is_deleted_too in deletion on [ilm_on_elasticsearch, ism_on_opensearch],
    a_deletion_taken_back_spares_the_index in deletion on [ilm_on_elasticsearch, ism_on_opensearch],
    // Elasticsearch 6.8 is through with such an index for good.
    a_deletion_asked_for_later_reaches_the_old_index in deletion on [ism_on_opensearch],
    an_index_that_matches_outside_the_alias_is_not_deleted in deletion on [ilm_on_elasticsearch],
    the_daemon_stands_back_from_a_policy_of_sextons in policies on [ilm_on_elasticsearch, ism_on_opensearch],
    the_engine_is_not_asked_to_delete_without_a_lifecycle in deletion on [daemon_on_opensearch, daemon_beside_ism],
}
