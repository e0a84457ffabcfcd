//! What somebody else did to the policy or the template.

use serde_json::{Value, json};
use sexton::units::Span;
use sexton::visibility::{DriverKind, Refusal, Step, VisibilityError};

use super::{Bench, lines};
use crate::support::search::eventually;

pub(super) async fn an_edited_template_is_shown_and_put_right(bench: Bench) {
    let policy = bench.calm();
    bench.run(&policy).await;
    let mut edited = bench.template().unwrap();
    edited["order"] = json!(5);
    edited["settings"]["index"]["number_of_replicas"] = json!("1");
    edited["mappings"]["properties"].as_object_mut().unwrap().remove("OrderId");
    // Through what sexton sees, so that ISM's setting in it stays known; ILM's is still in the body.
    let engine = bench.engine();
    if bench.driver == DriverKind::Ism {
        edited["settings"]["index.plugins.index_state_management.rollover_alias"] = json!(bench.scratch.alias);
    }
    engine.ok("PUT", &engine.typeless(&format!("/_template/{}", bench.own())), Some(edited));

    let drift = bench.plan(&policy).await;
    let fields = bench.mapped(&bench.scratch.index(1)).len();
    let expect = [
        "index.number_of_replicas 1 -> none".to_owned(),
        "order 5 -> 10".to_owned(),
        format!("mapping {} fields -> {fields} fields, new: OrderId", fields - 1),
    ];
    assert_eq!(lines(&drift, &format!("template {}", bench.own())), expect);
    assert_eq!(bench.template().unwrap()["order"], 5, "a plan writes nothing");
    bench.apply(&drift).await;
    let template = bench.template().unwrap();
    assert_eq!((&template["order"], template.pointer("/settings/index/number_of_replicas")), (&json!(10), None));
    assert!(bench.plan(&policy).await.plan().is_empty());
    bench.well_formed();
}

/// sexton's own policy, rolling later, deleting soon, and with something in it that sexton would not say.
fn edited(bench: &Bench) -> (Value, Vec<&'static str>) {
    match bench.driver {
        DriverKind::Ilm => {
            let hot = json!({"actions": {"rollover": {"max_age": "40d"}}});
            let warm = json!({"min_age": "7d", "actions": {"readonly": {}}});
            let delete = json!({"min_age": "10d", "actions": {"delete": {}}});
            let lines = vec![
                "delete.delete set -> none",
                "delete.min_age 10d -> none",
                "hot.rollover.max_age 40d -> 30d",
                "warm.min_age 7d -> none",
                "warm.readonly set -> none",
            ];
            (json!({"phases": {"hot": hot, "warm": warm, "delete": delete}}), lines)
        }
        _ => {
            let to = |state: &str, age: &str| json!({"state_name": state, "conditions": {"min_rollover_age": age}});
            let hot = json!({"name": "hot", "actions": [{"rollover": {"min_index_age": "40d"}}],
                "transitions": [to("warm", "7d")]});
            let warm = json!({"name": "warm", "actions": [{"read_only": {}}], "transitions": [to("delete", "10d")]});
            let delete = json!({"name": "delete", "actions": [{"delete": {}}], "transitions": []});
            let body = json!({
                "description": format!("kept by sexton for the alias {}", bench.scratch.alias), "default_state": "hot",
                "states": [hot, warm, delete],
                "ism_template": {"index_patterns": [format!("{}-0*", bench.scratch.alias)], "priority": 100},
            });
            let lines = vec![
                "delete.delete set -> none",
                "hot.rollover.min_index_age 40d -> 30d",
                "hot.to warm.min_rollover_age 7d -> none",
                "warm.read_only set -> none",
                "warm.to delete.min_rollover_age 10d -> none",
            ];
            (body, lines)
        }
    }
}

pub(super) async fn an_edited_policy_is_shown_and_put_right(bench: Bench) {
    let policy = bench.calm();
    bench.run(&policy).await;
    let (body, expect) = edited(&bench);
    let own = bench.own();
    let wanted = bench.stored(&own).unwrap().0;
    bench.put(&own, &body);
    let there = bench.stored(&own).unwrap();

    let drift = bench.plan(&policy).await;
    let subject = format!("{} policy {own}", bench.driver.short().to_lowercase());
    assert_eq!(lines(&drift, &subject), expect);
    let reason = &drift.plan().changes[0].reason;
    assert!(reason.contains("version 2 of 20"), "it says which version, and of when: {reason}");
    assert_eq!(bench.stored(&own).unwrap(), there, "a plan writes nothing");
    bench.apply(&drift).await;
    assert_eq!(without_dates(bench.stored(&own).unwrap().0), without_dates(wanted));
    bench.settles(&policy).await;

    // A change of sexton's own policy is shown in the same way.
    let sooner = bench.plan(&bench.policy(Span::days(7), Span::days(90))).await;
    let [line] = &lines(&sooner, &subject)[..] else { panic!("{sooner:?}") };
    assert!(line.ends_with(" 30d -> 7d"), "{line}");
    bench.well_formed();
}

fn without_dates(mut policy: Value) -> Value {
    policy.as_object_mut().unwrap().remove("last_updated_time");
    if let Some(template) = policy.pointer_mut("/ism_template/0") {
        template.as_object_mut().unwrap().remove("last_updated_time");
    }
    policy
}

pub(super) async fn a_policy_edited_after_the_plan_is_not_overwritten(bench: Bench) {
    bench.run(&bench.calm()).await;
    let (body, _) = edited(&bench);
    let due = bench.plan(&bench.policy(Span::days(7), Span::days(90))).await;
    assert!(due.steps.iter().any(|step| matches!(step, Step::PutLifecyclePolicy { .. })), "{due:?}");
    bench.put(&bench.own(), &body);
    let there = bench.stored(&bench.own());
    let outcome = bench.try_apply(&due).await;
    assert!(matches!(outcome, Err(VisibilityError::Stale(_))), "{outcome:?}");
    assert_eq!(bench.stored(&bench.own()), there);
}

pub(super) async fn a_foreign_policy_is_refused(bench: Bench) {
    let theirs = format!("{}-theirs", bench.scratch.alias);
    let index = bench.scratch.index(1);
    let engine = bench.engine();
    if bench.ism.is_some() {
        let state = json!({"name": "x", "actions": [], "transitions": []});
        let body = json!({"policy": {"description": "theirs", "default_state": "x", "states": [state]}});
        engine.ok("PUT", &format!("/_plugins/_ism/policies/{theirs}"), Some(body));
        let added = engine.ok("POST", &format!("/_plugins/_ism/add/{index}"), Some(json!({"policy_id": theirs})));
        assert_eq!(added["updated_indices"], 1);
    } else {
        engine.ok("PUT", &format!("/_ilm/policy/{theirs}"), Some(json!({"policy": {"phases": {}}})));
        engine.ok("PUT", &format!("/{index}/_settings"), Some(json!({"index.lifecycle.name": &theirs})));
    }
    let refused = eventually("a refusal", async || bench.try_plan(&bench.calm()).await.err()).await;
    if bench.ism.is_none() {
        engine.ok("DELETE", &format!("/{index}"), None);
        engine.ok("DELETE", &format!("/_ilm/policy/{theirs}"), None);
    }
    assert_eq!(refused, VisibilityError::Refused(Refusal::ForeignPolicy { index, policy: theirs }));
    assert_eq!(bench.template(), None);
    bench.well_formed();
}

/// The policy goes on rolling and may delete: who wants the daemon has to end it first.
pub(super) async fn the_daemon_stands_back_from_a_policy_of_sextons(bench: Bench) {
    let write = bench.rolled(&bench.rolling(Span::days(90))).await;
    let bench = Bench { driver: DriverKind::Daemon, ..bench };
    let refused = bench.try_plan(&bench.calm()).await.unwrap_err();
    let manager = if bench.ism.is_some() { DriverKind::Ism } else { DriverKind::Ilm };
    let index = bench.scratch.index(1);
    let expect = Refusal::TwoDrivers { index, policy: bench.own(), manager };
    assert_eq!(refused, VisibilityError::Refused(expect), "also for an index older than {write}");
    bench.well_formed();
}
