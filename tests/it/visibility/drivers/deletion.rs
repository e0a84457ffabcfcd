//! Who deletes, and what must stay.

use std::time::{Duration, Instant};

use serde_json::json;
use sexton::policy::visibility::{DriverChoice, VisibilityPolicy};
use sexton::units::Span;
use sexton::visibility::{Refusal, Step, VisibilityError};

use super::Bench;
use crate::support::search::eventually;

/// sexton deletes the old index, and what is open in it outlives it; the engine's policy deletes nothing.
pub(super) async fn gated_deletion_leaves_the_engine_none(bench: Bench) {
    let write = bench.rolled(&bench.rolling(Span::days(90))).await;
    if let Some((body, _)) = bench.stored(&bench.own()) {
        assert!(!body.to_string().contains("delete"), "{body}");
    }
    // From here on nothing rolls.
    bench.run(&bench.calm()).await;
    let due = bench.policy(Span::days(30), Span::seconds(1));
    let first = bench.scratch.index(1);
    let plan = eventually("old enough", async || {
        let plan = bench.plan(&due).await;
        plan.steps.iter().any(|step| matches!(step, Step::DeleteIndex { .. })).then_some(plan)
    })
    .await;
    assert!(plan.plan().changes.iter().any(|change| change.destructive), "{plan:?}");
    let report = bench.apply(&plan).await;
    assert!(report.deleted.iter().any(|deleted| deleted.index == first), "{report:?}");
    assert!(!bench.scratch.exists(&first));
    assert!(bench.scratch.exists(&bench.scratch.write_index()), "{write} is written to");
    assert_eq!(bench.scratch.found(&bench.scratch.alias, "OrderId", "a"), 1, "it is open");
    bench.well_formed();
}

/// The engine deletes on age alone, an open workflow or not, and the plan says so beforehand.
pub(super) async fn engine_deletion_is_destructive_and_happens(bench: Bench) {
    let policy = Bench::deletes_by_engine(bench.rolling(Span::seconds(3)));
    let plan = bench.plan(&policy).await;
    let destructive: Vec<_> = plan.plan().changes.into_iter().filter(|change| change.destructive).collect();
    let own = bench.own();
    let subjects: Vec<_> = destructive.iter().map(|change| change.subject.as_str()).collect();
    let (of_policy, of_index) =
        (format!("{} policy {own}", bench.driver.short().to_lowercase()), format!("index {}", bench.scratch.index(1)));
    assert_eq!(subjects, [&of_policy, &of_index]);
    assert_eq!(destructive[0].to.as_deref(), Some("rollover at 30d or 1 documents, deletion 3s after it"));
    bench.apply(&plan).await;
    let first = bench.scratch.index(1);
    eventually("the engine's deletion", async || (!bench.scratch.exists(&first)).then_some(())).await;
    assert!(bench.scratch.exists(&bench.scratch.write_index()));
    bench.well_formed();
}

/// An index that was rolled while sexton deleted, so that the engine is through with it, is deleted by the engine too.
pub(super) async fn a_deletion_asked_for_later_reaches_the_old_index(bench: Bench) {
    bench.rolled(&bench.rolling(Span::days(90))).await;
    let first = bench.scratch.index(1);
    if let Some(ism) = &bench.ism {
        let explain = format!("/_plugins/_ism/explain/{first}");
        eventually("through", async || {
            let body = ism.engine().ok("GET", &explain, None);
            (body[&first]["policy_completed"] == true).then_some(())
        })
        .await;
    }
    let plan = bench.plan(&Bench::deletes_by_engine(bench.policy(Span::days(30), Span::seconds(1)))).await;
    assert!(plan.plan().changes.iter().any(|change| change.destructive), "{plan:?}");
    bench.apply(&plan).await;
    eventually("the engine's deletion", async || (!bench.scratch.exists(&first)).then_some(())).await;
    assert!(bench.scratch.exists(&bench.scratch.write_index()));
    if let Some(ism) = &bench.ism {
        let (calls, again) = (ism.calls(), [format!("POST remove/{first}"), format!("POST add/{first}")]);
        assert!(calls.windows(2).any(|pair| pair == again), "{calls:?}");
    }
    bench.well_formed();
}

/// An index that was rolled before there was a policy, as the first one is after an adoption, is deleted too.
pub(super) async fn an_index_from_before_the_policy_is_deleted_too(bench: Bench) {
    let (first, alias) = (bench.scratch.index(1), &bench.scratch.alias);
    bench.scratch.engine.ok("POST", &format!("/{alias}/_rollover"), None);
    let policy = Bench::deletes_by_engine(bench.policy(Span::days(30), Span::seconds(2)));
    let plan = bench.plan(&policy).await;
    let subject = format!("index {first}");
    assert!(plan.plan().changes.iter().any(|change| change.subject == subject && change.destructive), "{plan:?}");
    bench.apply(&plan).await;
    eventually("the engine's deletion", async || (!bench.scratch.exists(&first)).then_some(())).await;
    assert!(bench.scratch.exists(&bench.scratch.write_index()));
    // The first run gave the write index the attributes that its rollover lost; the template follows with the next.
    bench.runs_until_settled(&policy).await;
    bench.well_formed();
}

/// It comes under the policy by the template, but its rollover fails, and the deletion comes after that only.
pub(super) async fn an_index_that_matches_outside_the_alias_is_not_deleted(bench: Bench) {
    let policy = Bench::deletes_by_engine(bench.rolling(Span::seconds(2)));
    bench.run(&policy).await;
    let copy = format!("{}-copy", bench.scratch.index(1));
    bench.scratch.create(&copy, json!({}));
    bench.scratch.document(&copy, "kept", 10, false, json!({}));
    let managed = bench.scratch.engine.ok("GET", &format!("/{copy}/_ilm/explain"), None);
    assert_eq!(managed["indices"][&copy]["policy"], json!(bench.own()), "{managed}");
    let first = bench.scratch.index(1);
    eventually("the engine's deletion", async || (!bench.scratch.exists(&first)).then_some(())).await;
    // The first index was there as long before it went.
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!(bench.scratch.count(&copy), 1);
}

/// Back to gated before the engine has deleted: it must not delete then, on any index behind the alias.
pub(super) async fn a_deletion_taken_back_spares_the_index(bench: Bench) {
    let after = Span::seconds(30);
    let policy = Bench::deletes_by_engine(bench.rolling(after));
    bench.rolled(&policy).await;
    let rolled = Instant::now();
    let first = bench.scratch.index(1);
    assert!(bench.scratch.exists(&first));
    let plan = bench.plan(&bench.calm()).await;
    assert!(plan.plan().changes.iter().all(|change| !change.destructive), "{plan:?}");
    bench.apply(&plan).await;
    // ISM takes no change from an index that has failed at its policy meanwhile; the next run puts it back under it.
    bench.runs_until_settled(&bench.calm()).await;
    // Long enough for either engine to delete what is due.
    let due = Duration::from(after) + Duration::from_secs(4);
    tokio::time::sleep(due.saturating_sub(rolled.elapsed())).await;
    assert!(bench.scratch.exists(&first), "its deletion was taken back");
    assert_eq!(bench.scratch.count(&first), 1);
    if let Some(ism) = &bench.ism {
        let changed = format!("POST change_policy/{first}");
        assert!(ism.calls().contains(&changed), "{:?}", ism.calls());
    }
    bench.well_formed();
}

/// `auto` leads to the daemon on OpenSearch, with ISM or without; the daemon has no lifecycle that could delete.
pub(super) async fn the_engine_is_not_asked_to_delete_without_a_lifecycle(bench: Bench) {
    let policy = Bench::deletes_by_engine(bench.calm());
    assert!(policy.validate().is_err(), "no policy can ask the daemon for it");
    let auto = VisibilityPolicy { driver: DriverChoice::Auto, ..policy };
    let refused = bench.try_plan(&auto).await.unwrap_err();
    assert!(matches!(refused, VisibilityError::Refused(Refusal::NoEngineDeletion { .. })), "{refused:?}");
    assert_eq!(bench.template(), None);
    bench.well_formed();
}
