//! Elasticsearch rolls by index lifecycle management; sexton keeps the policy, the template and the attachment.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Driver, DriverState, conditions, own_name, own_template, template_step};
use crate::clients::search::{Search, SearchError};
use crate::policy::visibility::{CountedFrom, Deletion, VisibilityPolicy};
use crate::units::{Size, Span};
use crate::visibility::observe::{AliasState, IndexState};
use crate::visibility::step::Step;
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
            return Ok(DriverState { template: None, policy: None, lifecycle_running: false, dry_run: None });
        }
        Ok(DriverState {
            template: search.template(&name).await?,
            policy: search.lifecycle_policy(&name).await?,
            lifecycle_running: search.lifecycle_running().await?,
            dry_run: None,
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
        let existing = state.policy.as_ref().map(Phases::read);
        if existing != Some(Some(wanted)) {
            steps.push(Step::PutLifecyclePolicy {
                name: name.clone(),
                policy: wanted.body(),
                exists: existing.is_some(),
                from: existing.map(|found| found.map_or_else(|| "other phases".into(), |found| found.to_string())),
                to: wanted.to_string(),
            });
        }
        let settings = [("index.lifecycle.name", name.clone()), ("index.lifecycle.rollover_alias", alias.name.clone())];
        let template = own_template(&alias.name, &settings, &write.mapping);
        steps.extend(template_step(&alias.name, state.template.as_ref(), template));
        if write.policy.as_ref() != Some(&name) || write.rollover_alias.as_ref() != Some(&alias.name) {
            steps.push(Step::AttachPolicy {
                index: write.name.clone(),
                policy: name,
                alias: alias.name.clone(),
                from: write.policy.clone(),
            });
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

/// What sexton says in an ILM policy, read back in its own terms: engines write the same span in several ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Phases {
    max_age: Span,
    max_size: Option<Size>,
    max_docs: Option<u64>,
    /// Of the delete phase; it counts from the rollover.
    delete_after: Option<Span>,
}

impl Phases {
    fn wanted(policy: &VisibilityPolicy) -> Self {
        let conditions = conditions(policy);
        let after = match policy.delete.counted_from {
            CountedFrom::Rollover => policy.delete.after,
            // Rolled at max_age at the earliest (the policy allows no other condition here), so that an index is
            // never younger than `after` when it goes.
            CountedFrom::Creation => policy.shortest_life(),
        };
        Self {
            max_age: conditions.max_age,
            max_size: conditions.max_size,
            max_docs: conditions.max_docs,
            delete_after: (policy.deletion == Deletion::Engine).then_some(after),
        }
    }

    fn body(self) -> Value {
        let mut rollover = json!({ "max_age": self.max_age });
        if let Some(size) = self.max_size {
            rollover["max_size"] = json!(size);
        }
        if let Some(docs) = self.max_docs {
            rollover["max_docs"] = json!(docs);
        }
        let mut phases = json!({ "hot": { "min_age": "0ms", "actions": { "rollover": rollover } } });
        if let Some(after) = self.delete_after {
            phases["delete"] = json!({ "min_age": after, "actions": { "delete": {} } });
        }
        json!({ "phases": phases })
    }

    /// `None` when the policy says anything that sexton would not say.
    fn read(policy: &Value) -> Option<Self> {
        let phases = policy["phases"].as_object()?;
        let hot = phases.get("hot")?;
        let rollover = only(hot, "rollover")?;
        if phases.keys().any(|name| name != "hot" && name != "delete")
            || rollover.keys().any(|name| !["max_age", "max_size", "max_docs"].contains(&name.as_str()))
            || hot.get("min_age").is_some_and(|age| span(age).is_none_or(|age| age.as_millis() != 0))
        {
            return None;
        }
        let delete_after = match phases.get("delete") {
            None => None,
            Some(delete) => {
                only(delete, "delete")?;
                Some(span(delete.get("min_age")?)?)
            }
        };
        let max_size = match rollover.get("max_size") {
            None => None,
            Some(size) => Some(size.as_str()?.parse().ok()?),
        };
        let max_docs = match rollover.get("max_docs") {
            None => None,
            Some(docs) => Some(docs.as_u64()?),
        };
        Some(Self { max_age: span(rollover.get("max_age")?)?, max_size, max_docs, delete_after })
    }
}

impl std::fmt::Display for Phases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "rollover at {}", self.max_age)?;
        if let Some(size) = self.max_size {
            write!(f, " or {size}")?;
        }
        if let Some(docs) = self.max_docs {
            write!(f, " or {docs} documents")?;
        }
        match self.delete_after {
            Some(after) => write!(f, ", deletion {after} after it"),
            None => write!(f, ", no deletion"),
        }
    }
}

/// The one action of a phase, when it is this one and there is no other.
fn only<'a>(phase: &'a Value, action: &str) -> Option<&'a serde_json::Map<String, Value>> {
    let actions = phase.get("actions")?.as_object()?;
    if actions.len() == 1 { actions.get(action)?.as_object() } else { None }
}

fn span(value: &Value) -> Option<Span> {
    value.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::visibility::{Delete, Rollover};

    fn policy(deletion: Deletion, counted_from: CountedFrom) -> VisibilityPolicy {
        VisibilityPolicy { deletion, delete: Delete { after: Span::days(90), counted_from }, ..Default::default() }
    }

    #[test]
    fn the_delete_phase_counts_from_the_rollover() {
        let check = |deletion, counted_from, min_age: Option<&str>| {
            let body = Phases::wanted(&policy(deletion, counted_from)).body();
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
        let wanted = Phases::wanted(&policy);
        assert_eq!(Phases::read(&wanted.body()), Some(wanted));
    }

    #[test]
    fn other_words_for_the_same_are_no_difference_and_other_phases_are() {
        let wanted = Phases::wanted(&policy(Deletion::Engine, CountedFrom::Rollover));
        let check = |body: Value, same: bool| assert_eq!(Phases::read(&body) == Some(wanted), same, "{body}");
        let hot = json!({"actions": {"rollover": {"max_age": "720h"}}});
        let delete = json!({"min_age": "90d", "actions": {"delete": {"delete_searchable_snapshot": true}}});
        check(json!({"phases": {"hot": hot, "delete": delete}}), true);
        check(json!({"phases": {"hot": hot}}), false);
        check(json!({"phases": {"hot": hot, "delete": delete, "warm": {"actions": {}}}}), false);
        check(json!({"phases": {"hot": {"min_age": "1d", "actions": hot["actions"]}, "delete": delete}}), false);
        check(json!({}), false);
    }
}
