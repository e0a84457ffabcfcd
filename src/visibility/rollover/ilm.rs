//! Elasticsearch rolls by index lifecycle management; sexton keeps the policy, the template and the attachment.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::drift::{Fields, SET, differences, leaves};
use super::phases::Phases;
use super::{Driver, DriverState, own_name, own_template, policy_step, template_step};
use crate::clients::search::{Search, SearchError};
use crate::policy::visibility::VisibilityPolicy;
use crate::visibility::observe::{AliasState, IndexState};
use crate::visibility::step::{FieldChange, Step};
use crate::visibility::{DriverKind, Refusal};

/// The driver for Elasticsearch.
#[derive(Debug, Clone, Copy)]
pub struct Ilm;

#[async_trait]
impl Driver for Ilm {
    fn kind(&self) -> DriverKind {
        DriverKind::Ilm
    }

    async fn observe(
        &self,
        search: &Search,
        _: &VisibilityPolicy,
        alias: &AliasState,
    ) -> Result<DriverState, SearchError> {
        let name = own_name(&alias.name);
        if !alias.has_lifecycle {
            return Ok(DriverState::default());
        }
        Ok(DriverState {
            template: search.template(&name).await?,
            policy: search.lifecycle_policy(&name).await?,
            lifecycle_running: search.lifecycle_running().await?,
            ..DriverState::default()
        })
    }

    fn decide(
        &self,
        alias: &AliasState,
        write: &IndexState,
        policy: &VisibilityPolicy,
    ) -> Result<(Vec<Step>, Vec<String>), Refusal> {
        if !alias.has_lifecycle {
            return Err(Refusal::NoLifecycle { engine: alias.engine.to_string() });
        }
        let (mut steps, mut notes) = (Vec::new(), Vec::new());
        let Some(state) = &alias.driver else { return Ok((steps, notes)) };
        let name = own_name(&alias.name);
        let wanted = Phases::wanted(policy);
        let differs = state.policy.as_ref().map(|found| drift(&found.body, &body(wanted)));
        steps.extend(policy_step(self.kind(), &alias.name, state.policy.as_ref(), differs, wanted, body(wanted)));
        let settings = [("index.lifecycle.name", name.clone()), ("index.lifecycle.rollover_alias", alias.name.clone())];
        let template = own_template(&alias.name, &write.name, &settings, &write.mapping);
        steps.extend(template_step(&alias.name, state.template.as_ref(), template));
        let deletes = wanted.delete_after.is_some();
        for index in &alias.indices {
            let attached = index.policy.as_ref() == Some(&name);
            let wrong = if index.write {
                !attached || index.rollover_alias.as_ref() != Some(&alias.name)
            } else {
                // An old index is none of ILM's business unless ILM is to delete it.
                deletes && !attached
            };
            if wrong {
                steps.push(Step::AttachPolicy {
                    driver: self.kind(),
                    index: index.name.clone(),
                    policy: name.clone(),
                    alias: alias.name.clone(),
                    from: index.policy.clone(),
                    rolled: !index.write,
                    deletes,
                });
            }
        }
        if !state.lifecycle_running {
            notes.push("ILM is stopped on this cluster, so that nothing rolls: start it with `POST _ilm/start`".into());
        }
        for index in &alias.indices {
            if let Some(stuck) = &index.stuck {
                notes.push(format!("ILM is stuck on index {} at {stuck}", index.name));
            }
        }
        Ok((steps, notes))
    }
}

fn body(wanted: Phases) -> Value {
    let mut rollover = json!({ "max_age": wanted.max_age });
    if let Some(size) = wanted.max_size {
        rollover["max_size"] = json!(size);
    }
    if let Some(docs) = wanted.max_docs {
        rollover["max_docs"] = json!(docs);
    }
    let mut phases = json!({ "hot": { "min_age": "0ms", "actions": { "rollover": rollover } } });
    if let Some(after) = wanted.delete_after {
        phases["delete"] = json!({ "min_age": after, "actions": { "delete": {} } });
    }
    json!({ "phases": phases })
}

fn drift(found: &Value, wanted: &Value) -> Vec<FieldChange> {
    differences(&fields(found), &fields(wanted), &["delete.min_age", "delete.delete"])
}

/// `hot.rollover.max_age` and so on, without what engines add by themselves.
fn fields(policy: &Value) -> Fields {
    let mut fields = Fields::new();
    for (key, value) in policy.as_object().into_iter().flatten() {
        match value.as_object().filter(|_| key == "phases") {
            Some(phases) => phases.iter().for_each(|(phase, body)| read_phase(phase, body, &mut fields)),
            None => leaves(key, value, &mut fields),
        }
    }
    let ours = [("hot.min_age", "0s"), ("delete.delete.delete_searchable_snapshot", "true")];
    fields.retain(|name, value| !ours.contains(&(name.as_str(), value.as_str())));
    fields
}

fn read_phase(phase: &str, body: &Value, fields: &mut Fields) {
    let Some(body) = body.as_object() else { return leaves(phase, body, fields) };
    if body.is_empty() {
        fields.insert(phase.to_owned(), SET.to_owned());
    }
    for (key, value) in body {
        match value.as_object().filter(|_| key == "actions") {
            Some(actions) => {
                for (action, settings) in actions {
                    let name = format!("{phase}.{action}");
                    fields.insert(name.clone(), SET.to_owned());
                    leaves(&name, settings, fields);
                }
            }
            None => leaves(&format!("{phase}.{key}"), value, fields),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::visibility::{CountedFrom, Delete, Deletion, Rollover};
    use crate::units::{Size, Span};

    fn policy(deletion: Deletion, counted_from: CountedFrom) -> VisibilityPolicy {
        VisibilityPolicy { deletion, delete: Delete { after: Span::days(90), counted_from }, ..Default::default() }
    }

    fn wanted() -> Value {
        body(Phases::wanted(&policy(Deletion::Engine, CountedFrom::Rollover)))
    }

    /// One line per difference; `!` marks a destructive one.
    fn shown(found: &Value, wanted: &Value) -> Vec<String> {
        let text = |value: Option<String>| value.unwrap_or_else(|| "none".into());
        let line = |change: FieldChange| {
            let mark = if change.destructive { "!" } else { "" };
            format!("{} {} -> {}{mark}", change.field, text(change.from), text(change.to))
        };
        drift(found, wanted).into_iter().map(line).collect()
    }

    #[test]
    fn the_delete_phase_counts_from_the_rollover() {
        let check = |deletion, counted_from, min_age: Option<&str>| {
            let body = body(Phases::wanted(&policy(deletion, counted_from)));
            assert_eq!(body.pointer("/phases/delete/min_age").and_then(Value::as_str), min_age, "{body}");
        };
        check(Deletion::Gated, CountedFrom::Rollover, None);
        check(Deletion::Engine, CountedFrom::Rollover, Some("90d"));
        check(Deletion::Engine, CountedFrom::Creation, Some("60d"));
    }

    #[test]
    fn a_policy_reads_back_as_it_was_said() {
        let rollover = Rollover { max_age: Span::days(30), max_size: Some(Size::bytes(50 << 30)), max_docs: Some(7) };
        let policy = VisibilityPolicy { rollover, deletion: Deletion::Engine, ..Default::default() };
        let body = body(Phases::wanted(&policy));
        assert_eq!(shown(&body, &body), Vec::<String>::new());
    }

    #[test]
    fn other_words_for_the_same_are_no_difference() {
        let hot = json!({"actions": {"rollover": {"max_age": "720h"}}});
        let delete = json!({"min_age": "90d", "actions": {"delete": {"delete_searchable_snapshot": true}}});
        assert_eq!(shown(&json!({"phases": {"hot": hot, "delete": delete}}), &wanted()), Vec::<String>::new());
    }

    #[test]
    fn every_difference_is_named_and_a_deletion_is_destructive() {
        let check = |found: Value, expect: &[&str]| assert_eq!(shown(&found, &wanted()), expect, "{found}");
        let hot = json!({"min_age": "0ms", "actions": {"rollover": {"max_age": "40d"}}});
        let delete = |age: &str| json!({"min_age": age, "actions": {"delete": {}}});
        let late = json!({"phases": {"hot": hot, "delete": delete("120d")}});
        check(late, &["delete.min_age 120d -> 90d!", "hot.rollover.max_age 40d -> 30d"]);
        let hot =
            json!({"min_age": "1d", "actions": {"rollover": {"max_age": "30d"}, "set_priority": {"priority": 9}}});
        let warm = json!({"min_age": "7d", "actions": {"readonly": {}}});
        check(
            json!({"phases": {"hot": hot, "warm": warm}}),
            &[
                "delete.delete none -> set!",
                "delete.min_age none -> 90d!",
                "hot.min_age 1d -> none",
                "hot.set_priority.priority 9 -> none",
                "warm.min_age 7d -> none",
                "warm.readonly set -> none",
            ],
        );
        let gated = body(Phases::wanted(&policy(Deletion::Gated, CountedFrom::Rollover)));
        assert_eq!(shown(&wanted(), &gated), ["delete.delete set -> none", "delete.min_age 90d -> none"]);
        assert_eq!(shown(&json!({}), &gated), ["hot.rollover.max_age none -> 30d"]);
    }
}
