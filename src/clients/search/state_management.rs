//! Index state management (ISM), the lifecycle plugin of OpenSearch.
//!
//! Requests and answers have the shapes of OpenSearch's documentation ("ISM API", "ISM policies"); where that is
//! silent, those of the plugin's source (opensearch-project/index-management). Not run against a real ISM.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::error::SearchError;
use super::indices::{entries, millis};
use super::lifecycle::{Guard, StoredPolicy};
use super::transport::{Call, Search, segment};

/// What ISM says of an index that it manages (`_plugins/_ism/explain`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagedIndex {
    /// The policy.
    pub policy: String,
    /// The policy's body as this index follows it. ISM gives each index a copy: an edited policy reaches indices
    /// that are managed already only by [`Search::change_state_policy`]. `None` where the answer does not hold it.
    pub applied: Option<Value>,
    /// False when ISM has stopped working on the index: it was disabled, has failed, or is through.
    pub enabled: bool,
    /// True when the policy has nothing more to do with the index.
    pub completed: bool,
    /// Which action failed and why, when it is stuck.
    pub failure: Option<String>,
}

impl Search {
    /// The indices behind the name that ISM manages; `None` where the plugin is not installed.
    ///
    /// # Errors
    /// Any [`SearchError`] but the one that says there is no such call.
    pub async fn state_management(&self, name: &str) -> Result<Option<BTreeMap<String, ManagedIndex>>, SearchError> {
        let call = Call::get(format!("/_plugins/_ism/explain/{}", segment(name))).query("show_policy", "true");
        match self.call(call).await {
            Ok(body) => Ok(Some(managed(&body))),
            // "no handler found".
            Err(SearchError::Unexpected { status: 400 | 405, .. } | SearchError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// An ISM policy with what guards its update, if there is one of this name.
    ///
    /// # Errors
    /// Any [`SearchError`] but not-found; [`SearchError::Malformed`] without sequence number and primary term.
    pub async fn state_policy(&self, name: &str) -> Result<Option<StoredPolicy>, SearchError> {
        let call = Call::get(format!("/_plugins/_ism/policies/{}", segment(name)));
        let malformed =
            SearchError::Malformed { call: call.to_string(), cause: "no policy, _seq_no, _primary_term".into() };
        let body = match self.call(call).await {
            Ok(body) => body,
            Err(SearchError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let (Some(policy), Some(seq_no), Some(primary_term)) =
            (body.get("policy"), body["_seq_no"].as_u64(), body["_primary_term"].as_u64())
        else {
            return Err(malformed);
        };
        Ok(Some(StoredPolicy {
            version: body["_version"].as_u64().unwrap_or(0),
            modified: millis(&policy["last_updated_time"]),
            guard: Some(Guard { seq_no, primary_term }),
            body: policy.clone(),
        }))
    }

    /// Creates an ISM policy, or with a guard replaces the one that has exactly this sequence number and term.
    ///
    /// # Errors
    /// Any [`SearchError`]; [`SearchError::Unexpected`] with status 409 when there is one already, or another one.
    pub async fn put_state_policy(&self, name: &str, policy: &Value, guard: Option<Guard>) -> Result<(), SearchError> {
        let mut call = Call::put(format!("/_plugins/_ism/policies/{}", segment(name)), json!({ "policy": policy }));
        if let Some(guard) = guard {
            call = call.query("if_seq_no", guard.seq_no.to_string());
            call = call.query("if_primary_term", guard.primary_term.to_string());
        }
        // Made twice, the second would be refused for what the first did.
        self.call(call.once()).await.map(drop)
    }

    /// Puts an index that no policy manages under a policy.
    ///
    /// # Errors
    /// Any [`SearchError`]; [`SearchError::Unexpected`] with ISM's reason when the index has a policy already.
    pub async fn add_state_policy(&self, index: &str, policy: &str) -> Result<(), SearchError> {
        self.state_call("add", index, Some(json!({ "policy_id": policy }))).await
    }

    /// Has an index that ISM manages follow the policy as it is now. ISM does so at its next run, minutes later, and
    /// never for an index that is through with its policy or has failed at it.
    ///
    /// # Errors
    /// Any [`SearchError`]; [`SearchError::Unexpected`] with ISM's reason when it refuses.
    pub async fn change_state_policy(&self, index: &str, policy: &str) -> Result<(), SearchError> {
        self.state_call("change_policy", index, Some(json!({ "policy_id": policy }))).await
    }

    /// Takes an index away from ISM. What is in it stays.
    ///
    /// # Errors
    /// Any [`SearchError`]; [`SearchError::Unexpected`] with ISM's reason when it refuses.
    pub async fn remove_state_policy(&self, index: &str) -> Result<(), SearchError> {
        self.state_call("remove", index, None).await
    }

    /// ISM answers 200 and says in the body when it did not do it.
    async fn state_call(&self, verb: &str, index: &str, body: Option<Value>) -> Result<(), SearchError> {
        let call = Call::post(format!("/_plugins/_ism/{verb}/{}", segment(index)), body);
        let what = call.to_string();
        let answer = self.call(call).await?;
        if answer["failures"] == false && answer["updated_indices"].as_u64().is_some_and(|updated| updated > 0) {
            return Ok(());
        }
        let reason =
            answer.pointer("/failed_indices/0/reason").and_then(Value::as_str).unwrap_or("no index was updated");
        Err(SearchError::Unexpected { call: what, status: 200, kind: String::new(), reason: reason.to_owned() })
    }
}

fn managed(body: &Value) -> BTreeMap<String, ManagedIndex> {
    let managed = entries(body).filter_map(|(index, entry)| {
        // An index that is not managed has the key too, with null.
        let policy = entry
            .get("policy_id")
            .or_else(|| entry.get("index.plugins.index_state_management.policy_id"))
            .and_then(Value::as_str)?;
        let failed = entry.pointer("/action/failed") == Some(&Value::Bool(true))
            || entry.pointer("/retry_info/failed") == Some(&Value::Bool(true));
        let failure = failed.then(|| {
            let action = entry.pointer("/action/name").and_then(Value::as_str).unwrap_or("its policy");
            let reason = entry.pointer("/info/message").and_then(Value::as_str).unwrap_or("no reason given");
            format!("{action}: {reason}")
        });
        let managed = ManagedIndex {
            policy: policy.to_owned(),
            applied: entry.get("policy").filter(|applied| applied.is_object()).cloned(),
            enabled: entry["enabled"] != false,
            completed: entry["policy_completed"] == true,
            failure,
        };
        Some((index.clone(), managed))
    });
    managed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The documentation's three answers to an explain call, shortened.
    #[test]
    fn the_documented_answers_are_understood() {
        let key = "index.plugins.index_state_management.policy_id";
        let body = json!({
            "bare": {key: "policy_1"},
            "free": {key: null, "index.opendistro.index_state_management.policy_id": null, "enabled": null},
            "working": {
                key: "p", "policy_id": "p", "enabled": true, "policy": {"default_state": "ingest"},
                "action": {"name": "rollover", "failed": false}, "retry_info": {"failed": false, "consumed_retries": 0},
                "info": {"message": "Currently checking rollover conditions"},
            },
            "stuck": {
                key: "p", "policy_id": "p", "enabled": false, "action": {"name": "rollover", "failed": false},
                "retry_info": {"failed": true, "consumed_retries": 0}, "info": {"message": "Missing rollover_alias"},
            },
            "through": {key: "p", "policy_id": "p", "policy_completed": true, "enabled": false},
            "total_managed_indices": 4,
        });
        let found = managed(&body);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["bare", "stuck", "through", "working"]);
        assert_eq!((found["bare"].policy.as_str(), found["bare"].enabled), ("policy_1", true));
        assert_eq!(found["working"].applied, Some(json!({"default_state": "ingest"})));
        assert_eq!(found["working"].failure, None);
        assert_eq!(found["stuck"].failure.as_deref(), Some("rollover: Missing rollover_alias"));
        assert!(found["through"].completed && !found["through"].enabled);
    }
}
