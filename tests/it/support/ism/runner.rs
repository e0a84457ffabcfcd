//! ISM's jobs: one step of its policy for each managed index at each run.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::shape::millis;
use super::{Managed, POLICY_ID, Shared};

/// What a step leads to.
enum Outcome {
    /// Its conditions are not met yet.
    Wait,
    /// The action is done.
    Done,
    /// The index goes on in another state.
    To(String),
    /// The policy has nothing more to do.
    Completed,
    /// The index is gone.
    Gone,
    Failed(String),
}

impl Managed {
    pub(super) fn new(policy_id: &str, policy: &Value) -> Self {
        Self {
            policy_id: policy_id.to_owned(),
            policy: policy.clone(),
            change: None,
            state: None,
            action: 0,
            completed: false,
            failed: None,
        }
    }

    /// The documentation's answer to an explain call.
    pub(super) fn explained(&self, index: &str, show_policy: bool) -> Value {
        let mut entry = json!({
            POLICY_ID: self.policy_id, "index.opendistro.index_state_management.policy_id": self.policy_id,
            "index": index, "index_uuid": "uuid", "policy_id": self.policy_id, "enabled": self.enabled(),
        });
        if self.completed {
            entry["policy_completed"] = json!(true);
        } else if let Some(state) = &self.state {
            let action = self.current().and_then(|action| action_name(&action)).unwrap_or("transition".into());
            let failed = self.failed.is_some();
            entry["state"] = json!({"name": state, "start_time": 1});
            entry["action"] = json!({"name": action, "start_time": 1, "index": self.action, "failed": failed, "consumed_retries": 0,
                "last_retry_time": 0});
            entry["retry_info"] = json!({"failed": failed, "consumed_retries": 0});
            entry["info"] = json!({"message": self.failed.as_deref().unwrap_or("Currently checking conditions")});
        }
        if show_policy {
            entry["policy"] = self.policy.clone();
        }
        entry
    }

    /// A job stops once its policy is through or has failed.
    fn enabled(&self) -> bool {
        !self.completed && self.failed.is_none()
    }

    fn state_of(policy: &Value, name: &str) -> Option<Value> {
        policy["states"].as_array()?.iter().find(|state| state["name"] == name).cloned()
    }

    fn current(&self) -> Option<Value> {
        Self::state_of(&self.policy, self.state.as_ref()?)?["actions"].get(self.action).cloned()
    }

    /// A policy can be exchanged at once when the state it is in has the same actions in both.
    fn safe_to_change(&self, to: &Value) -> bool {
        let Some(name) = &self.state else { return true };
        let actions = |policy: &Value| {
            let state = Self::state_of(policy, name)?;
            Some(state["actions"].as_array()?.iter().map(action_name).collect::<Vec<_>>())
        };
        actions(&self.policy) == actions(to) || self.current().is_none()
    }
}

fn action_name(action: &Value) -> Option<String> {
    action.as_object()?.keys().find(|key| !["retry", "timeout"].contains(&key.as_str())).cloned()
}

impl Shared {
    pub(super) fn run(&self) {
        while !self.stopped() {
            let managed: Vec<(String, Managed)> =
                self.state().managed.iter().map(|(index, managed)| (index.clone(), managed.clone())).collect();
            for (index, managed) in managed {
                if managed.enabled() && !self.stopped() {
                    self.job(&index, managed);
                }
            }
            std::thread::sleep(Duration::from_millis(250));
        }
    }

    fn job(&self, index: &str, seen: Managed) {
        if let Some(policy) = seen.change.as_ref().and_then(|id| self.state().policies.get(id).cloned())
            && seen.safe_to_change(&policy.body)
        {
            if let Some(managed) = self.state().managed.get_mut(index) {
                managed.policy = policy.body;
                managed.change = None;
            }
            return;
        }
        let Some(name) = seen.state.clone() else {
            let default = seen.policy["default_state"].as_str().map(str::to_owned);
            if let Some(managed) = self.state().managed.get_mut(index) {
                managed.state = default;
            }
            return;
        };
        let outcome = match seen.current() {
            Some(action) if action.get("rollover").is_some() => self.rollover(index, &action["rollover"]),
            Some(action) if action.get("delete").is_some() => {
                match self.engine.http("DELETE", &format!("/{index}"), None).0 {
                    200 | 404 => Outcome::Gone,
                    _ => Outcome::Failed("Failed to delete index".into()),
                }
            }
            Some(_) => Outcome::Done,
            None => self.transition(index, &Managed::state_of(&seen.policy, &name).unwrap_or_default()),
        };
        let mut state = self.state();
        let Some(managed) = state.managed.get_mut(index) else { return };
        match outcome {
            Outcome::Wait => {}
            Outcome::Done => managed.action += 1,
            Outcome::To(name) => {
                managed.state = Some(name);
                managed.action = 0;
            }
            Outcome::Completed => managed.completed = true,
            Outcome::Failed(why) => managed.failed = Some(why),
            Outcome::Gone => drop(state.managed.remove(index)),
        }
    }

    /// The rollover action, with its checks in the order of the plugin's.
    fn rollover(&self, index: &str, conditions: &Value) -> Outcome {
        let Some(alias) = self.state().aliases.get(index).cloned() else {
            return Outcome::Failed(format!("Missing rollover_alias index setting [index={index}]"));
        };
        let Some(metadata) = self.metadata(index) else { return Outcome::Gone };
        if metadata["rollover_info"].get(&alias).is_some() {
            return Outcome::Done;
        }
        let (status, aliases) = self.engine.http("GET", &format!("/{index}/_alias/{alias}"), None);
        // Refused for any index of the cluster whose metadata is blocked.
        if status == 403 {
            return Outcome::Wait;
        }
        if aliases[index]["aliases"][&alias]["is_write_index"] != true {
            return Outcome::Failed(format!("Missing alias or not the write index when rollover [index={index}]"));
        }
        let (_, stats) = self.engine.http("GET", &format!("/{index}/_stats/docs"), None);
        let docs = stats["_all"]["primaries"]["docs"]["count"].as_u64().unwrap_or(0);
        let age = since(&metadata["settings"]["index"]["creation_date"]);
        let aged = millis(&conditions["min_index_age"]).zip(age).is_some_and(|(limit, age)| age >= limit);
        let full = conditions["min_doc_count"].as_u64().is_some_and(|limit| docs >= limit);
        if !aged && !full {
            return Outcome::Wait;
        }
        let (status, answer) = self.engine.http("POST", &format!("/{alias}/_rollover"), None);
        let Some(new) = answer["new_index"].as_str().filter(|_| status == 200) else {
            return Outcome::Failed(format!("Failed to rollover index [index={index}]: {answer}"));
        };
        self.begin(new);
        Outcome::Done
    }

    /// A new index gets the setting of the index template and the policy of the ISM template that match it.
    fn begin(&self, index: &str) {
        let mut state = self.state();
        let mut templates = state.template_aliases.iter().filter(|(name, _)| {
            let (_, template) = self.engine.http("GET", &format!("/_template/{name}"), None);
            matches(&template[name.as_str()]["index_patterns"], index)
        });
        let alias = templates.next().map(|(_, alias)| alias.clone());
        if let Some(alias) = alias {
            state.aliases.insert(index.to_owned(), alias);
        }
        let managed = state.policies.iter().find_map(|(id, policy)| {
            let mut templates = policy.body["ism_template"].as_array().into_iter().flatten();
            templates.any(|t| matches(&t["index_patterns"], index)).then(|| Managed::new(id, &policy.body))
        });
        if let Some(managed) = managed {
            state.managed.insert(index.to_owned(), managed);
        }
    }

    fn transition(&self, index: &str, state: &Value) -> Outcome {
        let transitions = state["transitions"].as_array().cloned().unwrap_or_default();
        if transitions.is_empty() {
            return Outcome::Completed;
        }
        let Some(metadata) = self.metadata(index) else { return Outcome::Gone };
        let rolled = metadata["rollover_info"].as_object().into_iter().flatten().next().map(|(_, info)| &info["time"]);
        for transition in transitions {
            let to = Outcome::To(transition["state_name"].as_str().unwrap_or_default().to_owned());
            let conditions = &transition["conditions"];
            if let Some(limit) = millis(&conditions["min_rollover_age"]) {
                let Some(age) = rolled.and_then(since) else {
                    let why = "min_rollover_age condition was used, but the index has never been rolled over";
                    return Outcome::Failed(format!("Failed to transition index as {why} [index={index}]"));
                };
                if age >= limit {
                    return to;
                }
            } else if let Some(limit) = millis(&conditions["min_index_age"]) {
                if since(&metadata["settings"]["index"]["creation_date"]).is_some_and(|age| age >= limit) {
                    return to;
                }
            } else {
                return to;
            }
        }
        Outcome::Wait
    }

    fn metadata(&self, index: &str) -> Option<Value> {
        let (_, body) = self.engine.http("GET", &format!("/_cluster/state/metadata/{index}"), None);
        body.pointer(&format!("/metadata/indices/{index}")).cloned()
    }
}

/// Milliseconds since an instant given in milliseconds.
fn since(instant: &Value) -> Option<u64> {
    let instant = instant.as_u64().or_else(|| instant.as_str()?.parse().ok())?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_millis();
    u64::try_from(now).ok()?.checked_sub(instant)
}

fn matches(patterns: &Value, index: &str) -> bool {
    let mut patterns = patterns.as_array().into_iter().flatten().filter_map(Value::as_str);
    patterns
        .any(|pattern| pattern.strip_suffix('*').is_some_and(|prefix| index.starts_with(prefix)) || pattern == index)
}
