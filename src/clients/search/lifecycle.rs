//! Index lifecycle management (Elasticsearch) and legacy templates.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::error::SearchError;
use super::indices::{entries, millis};
use super::transport::{Call, Search, segment};

/// Where an index stands in its lifecycle, from `_ilm/explain`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifecycleState {
    /// The policy.
    pub policy: String,
    /// From when ILM counts: creation, and after its rollover the instant of that.
    pub counted_from: Option<Timestamp>,
    /// The step; `ERROR` when it is stuck.
    pub step: String,
    /// Which step failed and why, when it is stuck.
    pub failure: Option<String>,
}

/// A lifecycle policy as the engine keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPolicy {
    /// Its body: `{"phases": …}` of ILM, `{"states": …}` and more of ISM.
    pub body: Value,
    /// Counted up by every change.
    pub version: u64,
    /// When it was last changed.
    pub modified: Option<Timestamp>,
    /// ISM: what an update has to name, so that it replaces this one and no other.
    pub guard: Option<Guard>,
}

/// Sequence number and primary term of a stored policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Guard {
    /// `_seq_no`.
    pub seq_no: u64,
    /// `_primary_term`.
    pub primary_term: u64,
}

/// A legacy index template (`_template`), with flat settings.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Template {
    /// Templates of a higher order win.
    pub order: i64,
    /// The names it applies to.
    pub index_patterns: Vec<String>,
    /// Settings by full name: `index.lifecycle.name`.
    pub settings: BTreeMap<String, String>,
    /// The mapping, without a type name.
    pub mappings: Value,
}

impl Search {
    /// True when the engine has ILM (Elasticsearch 6.6 and later, not its OSS flavour, not OpenSearch).
    ///
    /// # Errors
    /// Any [`SearchError`] but the one that says there is no such call.
    pub async fn has_lifecycle(&self) -> Result<bool, SearchError> {
        match self.call(Call::get("/_ilm/status")).await {
            Ok(_) => Ok(true),
            // "no handler found", or `_ilm` taken for the name of an index.
            Err(SearchError::Unexpected { status: 400 | 405, .. } | SearchError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// True while ILM works; false when it was stopped (`POST _ilm/stop`).
    ///
    /// # Errors
    /// Any [`SearchError`].
    pub async fn lifecycle_running(&self) -> Result<bool, SearchError> {
        Ok(self.call(Call::get("/_ilm/status")).await?["operation_mode"] == "RUNNING")
    }

    /// An ILM policy, if there is one of this name.
    ///
    /// # Errors
    /// Any [`SearchError`] but not-found.
    pub async fn lifecycle_policy(&self, name: &str) -> Result<Option<StoredPolicy>, SearchError> {
        let body = match self.call(Call::get(format!("/_ilm/policy/{}", segment(name)))).await {
            Ok(body) => body,
            Err(SearchError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(body.get(name).map(|entry| {
            let date = &entry["modified_date"];
            StoredPolicy {
                body: entry["policy"].clone(),
                version: entry["version"].as_u64().unwrap_or(0),
                modified: millis(date).or_else(|| date.as_str()?.parse().ok()),
                guard: None,
            }
        }))
    }

    /// Creates or replaces an ILM policy.
    ///
    /// # Errors
    /// Any [`SearchError`].
    pub async fn put_lifecycle_policy(&self, name: &str, policy: &Value) -> Result<(), SearchError> {
        self.call(Call::put(format!("/_ilm/policy/{}", segment(name)), json!({ "policy": policy }))).await.map(drop)
    }

    /// Where each managed index behind the name stands.
    ///
    /// # Errors
    /// Any [`SearchError`].
    pub async fn lifecycle_states(&self, name: &str) -> Result<BTreeMap<String, LifecycleState>, SearchError> {
        let body = self.call(Call::get(format!("/{}/_ilm/explain", segment(name)))).await?;
        let managed = entries(&body["indices"]).filter(|(_, entry)| entry["managed"] == true);
        let states = managed.map(|(index, entry)| {
            let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
            let failure = entry["failed_step"].as_str().map(|step| {
                let info = &entry["step_info"];
                let reason = info["reason"].as_str().or_else(|| info["message"].as_str()).unwrap_or("no reason given");
                format!("{step}: {reason}")
            });
            let counted_from = millis(&entry["lifecycle_date_millis"]);
            (index.clone(), LifecycleState { policy: text("policy"), counted_from, step: text("step"), failure })
        });
        Ok(states.collect())
    }

    /// A legacy template, if there is one of this name.
    ///
    /// # Errors
    /// Any [`SearchError`] but not-found.
    pub async fn template(&self, name: &str) -> Result<Option<Template>, SearchError> {
        let call = self.typeless(Call::get(format!("/_template/{}", segment(name))).query("flat_settings", "true"));
        let body = match self.call(call).await {
            Ok(body) => body,
            Err(SearchError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(body.get(name).map(read_template))
    }

    /// The names and mappings of the legacy templates, by their patterns; composable templates are not among them.
    ///
    /// # Errors
    /// Any [`SearchError`].
    pub async fn templates(&self) -> Result<Vec<(String, Template)>, SearchError> {
        let body = self.call(self.typeless(Call::get("/_template").query("flat_settings", "true"))).await?;
        Ok(entries(&body).map(|(name, entry)| (name.clone(), read_template(entry))).collect())
    }

    /// Creates or replaces a legacy template.
    ///
    /// # Errors
    /// Any [`SearchError`].
    pub async fn put_template(&self, name: &str, template: &Template) -> Result<(), SearchError> {
        let call = Call::put(format!("/_template/{}", segment(name)), json!(template));
        self.call(self.typeless(call)).await.map(drop)
    }
}

fn read_template(entry: &Value) -> Template {
    let patterns = entry["index_patterns"].as_array().into_iter().flatten();
    let settings = entries(&entry["settings"])
        .map(|(key, value)| (key.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)));
    Template {
        order: entry["order"].as_i64().unwrap_or(0),
        index_patterns: patterns.filter_map(Value::as_str).map(str::to_owned).collect(),
        settings: settings.collect(),
        mappings: entry["mappings"].clone(),
    }
}

impl Template {
    /// Whether an index of this name gets the template: patterns know `*` alone.
    #[must_use]
    pub fn applies_to(&self, index: &str) -> bool {
        self.index_patterns.iter().any(|pattern| matches(pattern, index))
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, between)) = parts.split_last() else { return rest.is_empty() };
    let mut rest = rest;
    for part in between {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_the_engines_do() {
        let check =
            |pattern: &str, name: &str, expect: bool| assert_eq!(matches(pattern, name), expect, "{pattern} {name}");
        check("temporal_visibility_v1*", "temporal_visibility_v1-000001", true);
        check("temporal_visibility_v1*", "temporal_visibility_v1", true);
        check("temporal_visibility_v1*", "temporal_visibility_v", false);
        check("a", "a", true);
        check("a", "ab", false);
        check("*b*d", "abcd", true);
        check("*b*d", "abc", false);
        check("ab*ba", "aba", false);
        check("*", "anything", true);
    }
}
