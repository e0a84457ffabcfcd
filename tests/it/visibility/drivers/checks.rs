//! Setting up and rolling over.

use serde_json::json;
use sexton::units::Span;
use sexton::visibility::{DriverKind, Step, VisibilityError};

use super::Bench;
use crate::support::search::eventually;

pub(super) async fn it_is_set_up_once_and_then_left_alone(bench: Bench) {
    let policy = bench.calm();
    let first = bench.plan(&policy).await;
    assert_eq!(first.driver, Some(bench.driver));
    assert_eq!((bench.template(), bench.stored(&bench.own())), (None, None), "a plan writes nothing");
    assert!(first.plan().changes.iter().all(|change| !change.destructive), "{first:?}");
    let report = bench.apply(&first).await;
    assert_eq!(report.changed, if bench.driver == DriverKind::Daemon { 1 } else { 3 }, "{report:?}");

    let template = bench.template().unwrap();
    assert_eq!(template["order"], 10);
    assert_eq!(template["mappings"]["properties"]["OrderId"]["type"], "keyword");
    let stored = bench.stored(&bench.own());
    assert_eq!(stored.is_some(), bench.driver != DriverKind::Daemon);
    let age = ["/phases/hot/actions/rollover/max_age", "/states/0/actions/0/rollover/min_index_age"];
    if let Some((body, _)) = &stored {
        assert_eq!(age.iter().find_map(|path| body.pointer(path)), Some(&json!("30d")), "{body}");
    }

    let second = bench.plan(&policy).await;
    assert!(second.plan().is_empty(), "{second:?}");
    assert_eq!(bench.apply(&second).await.changed, 0);
    assert_eq!(bench.stored(&bench.own()), stored, "neither body nor version moved");
    assert_eq!(bench.scratch.write_index(), bench.scratch.index(1));
    bench.well_formed();
}

pub(super) async fn search_attributes_are_there_before_the_first_write(bench: Bench) {
    let policy = bench.rolling(Span::days(90));
    let due = eventually("set up, and due where sexton rolls", async || {
        let plan = bench.plan(&policy).await;
        let rolls = plan.steps.iter().any(|step| matches!(step, Step::Rollover { .. }));
        (rolls || bench.driver != DriverKind::Daemon).then_some(plan)
    })
    .await;
    assert_eq!(bench.scratch.write_index(), bench.scratch.index(1), "a plan writes nothing");
    let by_sexton = bench.driver == DriverKind::Daemon;
    if by_sexton {
        // An attribute that comes between plan and apply is carried along too.
        bench.scratch.add_search_attribute("Late");
    }
    let report = bench.apply(&due).await;
    assert_eq!(report.rolled.is_some(), by_sexton, "{report:?}");
    // Nothing of sexton's runs from here on: it would add a lost attribute afterwards.
    let write = eventually("a rollover", async || {
        Some(bench.scratch.write_index()).filter(|write| *write != bench.scratch.index(1))
    })
    .await;

    bench.scratch.engine.ok("GET", &format!("/_cluster/health/{write}?wait_for_status=yellow&timeout=30s"), None);
    let mapped = bench.mapped(&write);
    assert!(mapped.contains(&"OrderId".to_owned()), "{mapped:?}");
    // sexton carries what is open forward right after its own rollover; else nothing was written there yet.
    assert_eq!(bench.scratch.count(&write), u64::from(by_sexton));
    super::super::attribute_is_indexed(&bench.scratch, &write);
    if by_sexton {
        bench.scratch.document(&bench.scratch.alias, "third", 30, true, json!({"Late": "c"}));
        assert_eq!(bench.scratch.found(&write, "Late", "c"), 1);
        let stale = bench.try_apply(&due).await;
        let cause = match stale.unwrap_err() {
            VisibilityError::Partly { cause, .. } => *cause,
            other => other,
        };
        assert!(matches!(cause, VisibilityError::Stale(_)), "{cause:?}");
    }
    assert_eq!(bench.scratch.found(&bench.scratch.alias, "OrderId", "a"), 1, "the old index is still read");
    bench.run(&bench.calm()).await;
    bench.settles(&bench.calm()).await;
    bench.well_formed();
}

/// Documents that are in an index before a search attribute is in its mapping are found by it after the next run, also
/// when the run that added it was stopped in between; what notes that is carried nowhere.
pub(super) async fn a_stopped_addition_of_search_attributes_is_finished(bench: Bench) {
    bench.run(&bench.calm()).await;
    bench.settles(&bench.calm()).await;
    let (first, engine) = (bench.scratch.index(1), &bench.scratch.engine);
    bench.scratch.document(&first, "early", 20, true, json!({"Late": "x"}));
    bench.scratch.add_search_attribute("Late");
    engine.put_mapping(&first, json!({"_meta": {"of": "others", "sexton_unfiled": ["Late"]}}));
    assert_eq!(bench.scratch.found(&first, "Late", "x"), 0);
    let plan = bench.plan(&bench.calm()).await;
    let again = Step::FileAgain { index: first.clone(), fields: vec!["Late".to_owned()] };
    assert!(plan.steps.contains(&again), "{plan:?}");
    bench.apply(&plan).await;
    assert_eq!(bench.scratch.found(&first, "Late", "x"), 1);
    assert_eq!(bench.scratch.version(&first, "early"), Some(20));
    assert_eq!(engine.mapping(&first)["_meta"], json!({"of": "others"}));
    assert!(!bench.template().is_some_and(|template| template.to_string().contains("sexton_unfiled")));
    bench.settles(&bench.calm()).await;
    bench.well_formed();
}

pub(super) async fn temporals_template_stays_as_it_is(bench: Bench) {
    let before = bench.temporals_template();
    assert!(before.contains("VisibilityTaskKey"), "{before}");
    bench.rolled(&bench.rolling(Span::days(90))).await;
    bench.run(&bench.calm()).await;
    assert_eq!(bench.temporals_template(), before);
}

/// An index whose name begins like the alias's, made by somebody for himself.
pub(super) async fn an_index_outside_the_alias_gets_nothing(bench: Bench) {
    bench.run(&bench.calm()).await;
    let copy = format!("{}-copy", bench.scratch.alias);
    bench.scratch.create(&copy, json!({}));
    let settings = bench.scratch.engine.ok("GET", &format!("/{copy}/_settings"), None);
    assert_eq!(settings.pointer(&format!("/{copy}/settings/index/lifecycle")), None, "{settings}");
    assert!(!bench.mapped(&copy).contains(&"OrderId".to_owned()), "Temporal's template reaches it, sexton's does not");
    assert!(bench.plan(&bench.calm()).await.plan().is_empty());
}
