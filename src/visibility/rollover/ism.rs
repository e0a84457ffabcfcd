//! OpenSearch rolls by index state management; sexton keeps the policy, the template and the attachments.
//!
//! Written from OpenSearch's documentation and the plugin's source; not run against a real ISM.

use async_trait::async_trait;
use serde_json::{Map, Value, json};

use super::drift::{Fields, SET, differences, leaves};
use super::phases::Phases;
use super::{Driver, DriverState, own_name, own_template, pattern, policy_step, template_step};
use crate::clients::search::{ManagedIndex, Search, SearchError};
use crate::policy::visibility::VisibilityPolicy;
use crate::visibility::observe::{AliasState, IndexState};
use crate::visibility::step::{FieldChange, Step};
use crate::visibility::{DriverKind, Refusal};

/// ISM's rollover action takes the alias from this setting of the index (docs: "ISM policies", rollover).
pub(in crate::visibility) const ROLLOVER_ALIAS: &str = "index.plugins.index_state_management.rollover_alias";

/// Among the policies whose templates match a new index, the highest priority wins.
const TEMPLATE_PRIORITY: u64 = 100;

/// The driver for OpenSearch with its index management plugin.
#[derive(Debug, Clone, Copy)]
pub struct Ism;

#[async_trait]
impl Driver for Ism {
    fn kind(&self) -> DriverKind {
        DriverKind::Ism
    }

    async fn observe(
        &self,
        search: &Search,
        _: &VisibilityPolicy,
        alias: &AliasState,
    ) -> Result<DriverState, SearchError> {
        let Some(managed) = search.state_management(&alias.name).await? else { return Ok(DriverState::default()) };
        let name = own_name(&alias.name);
        Ok(DriverState {
            template: search.template(&name).await?,
            policy: search.state_policy(&name).await?,
            managed: Some(managed),
            ..DriverState::default()
        })
    }

    fn decide(
        &self,
        alias: &AliasState,
        write: &IndexState,
        policy: &VisibilityPolicy,
    ) -> Result<(Vec<Step>, Vec<String>), Refusal> {
        let (mut steps, mut notes) = (Vec::new(), Vec::new());
        let Some(state) = &alias.driver else { return Ok((steps, notes)) };
        let Some(managed) = &state.managed else {
            return Err(Refusal::NoStateManagement { engine: alias.engine.to_string() });
        };
        let name = own_name(&alias.name);
        let wanted = Phases::wanted(policy);
        let body = body(wanted, &alias.name, &pattern(&alias.name, &write.name));
        let differs = state.policy.as_ref().map(|found| drift(&found.body, &body));
        let settings = [(ROLLOVER_ALIAS, alias.name.clone())];
        let template = own_template(&alias.name, &write.name, &settings, &write.mapping);
        let put = policy_step(self.kind(), &alias.name, state.policy.as_ref(), differs, wanted, body.clone());
        let is_put = put.is_some();
        steps.extend(put);
        steps.extend(template_step(&alias.name, state.template.as_ref(), template));
        let deletes = wanted.delete_after.is_some();
        for index in &alias.indices {
            let (index_name, alias_name, policy) = (index.name.clone(), alias.name.clone(), name.clone());
            match managed.get(&index.name) {
                Some(managed) if index.write && index.rollover_alias.as_ref() != Some(&alias.name) => {
                    let from = Some(managed.policy.clone());
                    steps.push(attach(index, policy, alias_name, from, deletes));
                }
                Some(managed) => {
                    if let Some(restart) = behind(managed, &body, is_put, deletes) {
                        let (index, alias) = (index_name, alias_name);
                        steps.push(Step::ChangePolicy { index, policy, alias, restart, deletes });
                    }
                }
                // An old index is none of ISM's business unless ISM is to delete it.
                None if index.write || deletes => steps.push(attach(index, policy, alias_name, None, deletes)),
                None => {}
            }
            notes.extend(trouble(index, managed.get(&index.name)));
        }
        Ok((steps, notes))
    }
}

fn attach(index: &IndexState, policy: String, alias: String, from: Option<String>, deletes: bool) -> Step {
    let (driver, name, rolled) = (DriverKind::Ism, index.name.clone(), !index.write);
    Step::AttachPolicy { driver, index: name, policy, alias, from, rolled, deletes }
}

/// Whether the index follows an older version of the policy: `Some(true)` when it has to be taken out of ISM and put
/// back, because an index that is through with its policy or has failed at it takes no other (the plugin's runner
/// stops before it looks for a change).
fn behind(managed: &ManagedIndex, wanted: &Value, is_put: bool, deletes: bool) -> Option<bool> {
    let behind = match &managed.applied {
        // The description and the template for new indices do nothing to this one.
        Some(applied) => drift(applied, wanted)
            .iter()
            .any(|change| change.field != "description" && !change.field.starts_with("ism_template")),
        None => is_put,
    };
    if !behind {
        return None;
    }
    // One that is through deletes nothing any more; it has to follow only if it is to delete now.
    if managed.completed { deletes.then_some(true) } else { Some(managed.failure.is_some()) }
}

/// What the reader should know of an index. That ISM is through with a rolled index is as it should be.
fn trouble(index: &IndexState, managed: Option<&ManagedIndex>) -> Option<String> {
    let name = &index.name;
    if let Some(stuck) = &index.stuck {
        return Some(format!("ISM is stuck on index {name} at {stuck}; `POST _plugins/_ism/retry/{name}` tries again"));
    }
    let idle = managed.is_some_and(|managed| !managed.enabled && !managed.completed);
    idle.then(|| format!("ISM does not work on index {name}: it is disabled there or on the whole cluster"))
}

/// Both states are there only when ISM deletes. `min_rollover_age` fails on an index that was never rolled over (docs
/// are silent, the plugin's transition step says so); here it comes after the rollover action, so that it was.
fn body(wanted: Phases, alias: &str, pattern: &str) -> Value {
    let mut rollover = json!({ "min_index_age": wanted.max_age });
    if let Some(size) = wanted.max_size {
        rollover["min_size"] = json!(size);
    }
    if let Some(docs) = wanted.max_docs {
        rollover["min_doc_count"] = json!(docs);
    }
    let mut hot = json!({ "name": "hot", "actions": [{ "rollover": rollover }], "transitions": [] });
    let mut states = vec![];
    if let Some(after) = wanted.delete_after {
        hot["transitions"] = json!([{ "state_name": "delete", "conditions": { "min_rollover_age": after } }]);
        states.push(json!({ "name": "delete", "actions": [{ "delete": {} }], "transitions": [] }));
    }
    states.insert(0, hot);
    json!({
        "description": format!("kept by sexton for the alias {alias}"),
        "default_state": "hot",
        "states": states,
        "ism_template": [{ "index_patterns": [pattern], "priority": TEMPLATE_PRIORITY }],
    })
}

fn drift(found: &Value, wanted: &Value) -> Vec<FieldChange> {
    let deletion = ["delete.delete", "hot.to delete.min_rollover_age", "hot.to delete"];
    differences(&fields(found), &fields(wanted), &deletion)
}

/// `hot.rollover.min_index_age`, `hot.to delete.min_rollover_age` and so on, without what ISM adds by itself: its own
/// notes, and the defaults of an action (the plugin writes `retry` and `copy_alias` even where nobody set them).
fn fields(policy: &Value) -> Fields {
    let mut fields = Fields::new();
    let notes = ["policy_id", "last_updated_time", "schema_version", "user"];
    for (key, value) in policy.as_object().into_iter().flatten().filter(|(key, _)| !notes.contains(&key.as_str())) {
        match (key.as_str(), value) {
            ("states", Value::Array(states)) => states.iter().for_each(|state| read_state(state, &mut fields)),
            ("ism_template", value) => read_templates(value, &mut fields),
            _ => leaves(key, value, &mut fields),
        }
    }
    let defaults = [
        (".retry.count", "3"),
        (".retry.backoff", "exponential"),
        (".retry.delay", "1m"),
        (".rollover.copy_alias", "false"),
        (".rollover.prevent_empty_rollover", "false"),
    ];
    fields.retain(|name, value| !defaults.iter().any(|(end, default)| name.ends_with(end) && value == default));
    fields
}

fn read_state(state: &Value, fields: &mut Fields) {
    let name = state["name"].as_str().unwrap_or("unnamed");
    fields.insert(name.to_owned(), SET.to_owned());
    for action in state["actions"].as_array().into_iter().flatten() {
        let settings = action.as_object().cloned().unwrap_or_default();
        let (common, own): (Map<_, _>, Map<_, _>) =
            settings.into_iter().partition(|(key, _)| key == "retry" || key == "timeout");
        for (action, settings) in own {
            let mut field = format!("{name}.{action}");
            // The same action twice in one state is another thing than once.
            while fields.contains_key(&field) {
                field.push_str(" again");
            }
            fields.insert(field.clone(), SET.to_owned());
            leaves(&field, &settings, fields);
            common.iter().for_each(|(key, value)| leaves(&format!("{field}.{key}"), value, fields));
        }
    }
    for transition in state["transitions"].as_array().into_iter().flatten() {
        let field = format!("{name}.to {}", transition["state_name"].as_str().unwrap_or("unnamed"));
        fields.insert(field.clone(), SET.to_owned());
        leaves(&field, &transition["conditions"], fields);
    }
}

/// One template or a list of them; the documentation has both.
fn read_templates(value: &Value, fields: &mut Fields) {
    let one = [value.clone()];
    let templates = value.as_array().map_or(&one[..], Vec::as_slice);
    for (position, template) in templates.iter().enumerate() {
        let name = if position == 0 { "ism_template".to_owned() } else { format!("ism_template[{position}]") };
        let mut template = template.clone();
        if let Some(template) = template.as_object_mut() {
            template.remove("last_updated_time");
        }
        leaves(&name, &template, fields);
    }
}

#[cfg(test)]
mod tests;
