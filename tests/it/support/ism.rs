//! A stand-in for OpenSearch's index state management, in front of the real OpenSearch, which comes without the plugin.
//!
//! It answers `_plugins/_ism/*` in the shapes of OpenSearch's documentation ("ISM API", "ISM policies"), refuses a
//! request of another shape, and does what the policies say. All other calls go to the real engine, but for the one
//! index setting that only the plugin knows: that is taken out of what goes in and put into what comes back.

mod http;
mod runner;
mod shape;

use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use serde_json::{Value, json};

use self::http::Request;
use super::search::Engine;

const POLICY_ID: &str = "index.plugins.index_state_management.policy_id";
const ROLLOVER_ALIAS: &str = "index.plugins.index_state_management.rollover_alias";

/// The stand-in; it ends with the value.
#[derive(Debug)]
pub struct Ism {
    shared: Arc<Shared>,
    address: String,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    /// The real engine.
    engine: Engine,
    state: Mutex<State>,
    stop: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    policies: BTreeMap<String, Policy>,
    /// By index name.
    managed: BTreeMap<String, Managed>,
    /// The rollover alias by index name.
    aliases: BTreeMap<String, String>,
    /// The rollover alias by template name.
    template_aliases: BTreeMap<String, String>,
    /// The last sequence number given.
    seq_no: u64,
    /// Requests of a wrong shape.
    refused: Vec<String>,
    /// Every changing call to the plugin.
    calls: Vec<String>,
}

#[derive(Debug, Clone)]
struct Policy {
    body: Value,
    version: u64,
    seq_no: u64,
}

/// An index and its own copy of the policy.
#[derive(Debug, Clone)]
struct Managed {
    policy_id: String,
    policy: Value,
    /// The policy it is to change to at its next run.
    change: Option<String>,
    /// The state it is in; `None` before its first run.
    state: Option<String>,
    /// Which of the state's actions comes next.
    action: usize,
    completed: bool,
    failed: Option<String>,
}

impl Ism {
    /// Starts on a port of its own, with jobs that run four times a second where ISM's run every 5 minutes.
    pub fn start(engine: Engine) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared { engine, state: Mutex::default(), stop: AtomicBool::new(false) });
        let (serving, running) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads =
            vec![std::thread::spawn(move || serving.serve(&listener)), std::thread::spawn(move || running.run())];
        Self { shared, address, threads }
    }

    /// The engine as its clients see it: with ISM.
    pub fn engine(&self) -> Engine {
        let mut engine = self.shared.engine.clone();
        engine.url.clone_from(&self.address);
        engine
    }

    /// The requests that had another shape than the documentation's, and why.
    pub fn refused(&self) -> Vec<String> {
        self.shared.state().refused.clone()
    }

    /// Every changing call to the plugin: `POST add/index`.
    pub fn calls(&self) -> Vec<String> {
        self.shared.state().calls.clone()
    }
}

impl Drop for Ism {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // Wakes the listener.
        drop(TcpStream::connect(self.address.trim_start_matches("http://")));
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Answers a request: status and body.
    fn answer(&self, request: &Request) -> (u16, String) {
        let segments: Vec<&str> = request.path.trim_matches('/').split('/').collect();
        let (status, body) = match segments[..] {
            ["_plugins", "_ism", ref rest @ ..] => self.plugin(request, rest),
            [index, "_settings"] if request.method == "PUT" => self.put_settings(request, index),
            ["_template", name] if request.method == "PUT" => self.put_template(request, name),
            ["_template", name] if request.method == "GET" => self.get_template(request, name),
            ["_cluster", "state", "metadata", _] => self.get_metadata(request),
            _ => return self.engine.send(&request.method, &request.target(), request.body.as_deref()),
        };
        (status, body.to_string())
    }

    fn plugin(&self, request: &Request, path: &[&str]) -> (u16, Value) {
        if request.method != "GET" {
            self.state().calls.push(format!("{} {}", request.method, path.join("/")));
        }
        let checked = shape::check(request, path);
        let body = match checked {
            Ok(body) => body,
            Err(why) => {
                self.state().refused.push(format!("{} {}: {why}", request.method, request.target()));
                return error(400, "illegal_argument_exception", &why);
            }
        };
        match (request.method.as_str(), path) {
            ("GET", ["policies", name]) => self.get_policy(name),
            ("PUT", ["policies", name]) => self.put_policy(name, request, &body["policy"]),
            ("DELETE", ["policies", name]) => self.delete_policy(name),
            ("GET", ["explain", name]) => self.explain(name, request.query("show_policy") == Some("true")),
            ("POST", ["add", name]) => self.add(name, &body),
            ("POST", ["change_policy", name]) => self.change(name, &body),
            ("POST", ["remove", name]) => self.remove(name),
            _ => error(405, "illegal_argument_exception", "no such call"),
        }
    }

    fn get_policy(&self, name: &str) -> (u16, Value) {
        let state = self.state();
        let Some(policy) = state.policies.get(name) else { return not_found("Policy not found") };
        (200, wrapped(name, policy, policy.body.clone()))
    }

    fn put_policy(&self, name: &str, request: &Request, body: &Value) -> (u16, Value) {
        let mut state = self.state();
        let guard = request.query("if_seq_no").zip(request.query("if_primary_term"));
        let existing = state.policies.get(name);
        let fits = match (guard, existing) {
            (None, None) => true,
            (Some((seq_no, term)), Some(policy)) => seq_no == policy.seq_no.to_string() && term == "1",
            _ => false,
        };
        if !fits {
            let why = format!("[{name}]: version conflict, required seqNo [{guard:?}]");
            return error(409, "version_conflict_engine_exception", &why);
        }
        let (version, status) = existing.map_or((1, 201), |policy| (policy.version + 1, 200));
        state.seq_no += 1;
        let policy = Policy { body: shape::stored(name, body), version, seq_no: state.seq_no };
        let answer = wrapped(name, &policy, json!({"policy": policy.body}));
        state.policies.insert(name.to_owned(), policy);
        (status, answer)
    }

    fn delete_policy(&self, name: &str) -> (u16, Value) {
        match self.state().policies.remove(name) {
            Some(_) => (200, json!({"_index": ".opendistro-ism-config", "_id": name, "result": "deleted"})),
            None => not_found("Policy not found"),
        }
    }

    fn explain(&self, name: &str, show_policy: bool) -> (u16, Value) {
        let indices = match self.indices(name) {
            Ok(indices) => indices,
            Err(answer) => return answer,
        };
        let state = self.state();
        let mut answer = json!({});
        let mut total = 0;
        for index in indices {
            let managed = state.managed.get(&index);
            total += usize::from(managed.is_some());
            answer[&index] = managed.map_or_else(
                || json!({POLICY_ID: null, "index.opendistro.index_state_management.policy_id": null, "enabled": null}),
                |managed| managed.explained(&index, show_policy),
            );
        }
        answer["total_managed_indices"] = json!(total);
        (200, answer)
    }

    fn add(&self, name: &str, body: &Value) -> (u16, Value) {
        let policy_id = body["policy_id"].as_str().unwrap_or_default();
        self.update(name, |state, index| {
            let policy = state.policies.get(policy_id).ok_or("Could not find policy")?;
            let managed = Managed::new(policy_id, &policy.body);
            if state.managed.contains_key(index) {
                return Err("This index already has a policy, use the update policy API to update index policies");
            }
            state.managed.insert(index.to_owned(), managed);
            Ok(())
        })
    }

    fn change(&self, name: &str, body: &Value) -> (u16, Value) {
        let policy_id = body["policy_id"].as_str().unwrap_or_default();
        self.update(name, |state, index| {
            let managed = state.managed.get_mut(index).ok_or("This index is not being managed")?;
            managed.change = Some(policy_id.to_owned());
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> (u16, Value) {
        self.update(name, |state, index| {
            state.managed.remove(index).map(drop).ok_or("This index does not have a policy to remove")
        })
    }

    fn update(&self, name: &str, each: impl Fn(&mut State, &str) -> Result<(), &'static str>) -> (u16, Value) {
        let indices = match self.indices(name) {
            Ok(indices) => indices,
            Err(answer) => return answer,
        };
        let mut state = self.state();
        let (mut updated, mut failed) = (0, vec![]);
        for index in indices {
            match each(&mut state, &index) {
                Ok(()) => updated += 1,
                Err(why) => failed.push(json!({"index_name": index, "index_uuid": "uuid", "reason": why})),
            }
        }
        (200, json!({"updated_indices": updated, "failures": !failed.is_empty(), "failed_indices": failed}))
    }

    /// The indices that a name stands for, by the real engine's word.
    fn indices(&self, name: &str) -> Result<Vec<String>, (u16, Value)> {
        match self.engine.http("GET", &format!("/{name}/_alias"), None) {
            (200, body) => Ok(body.as_object().into_iter().flatten().map(|(index, _)| index.clone()).collect()),
            other => Err(other),
        }
    }

    /// Takes the plugin's setting out of a body's settings.
    fn put_settings(&self, request: &Request, index: &str) -> (u16, Value) {
        let mut body = request.json();
        if let Some(alias) = take(&mut body, ROLLOVER_ALIAS) {
            self.state().aliases.insert(index.to_owned(), alias);
        }
        if body.as_object().is_none_or(serde_json::Map::is_empty) {
            return (200, json!({"acknowledged": true}));
        }
        self.engine.http("PUT", &request.target(), Some(body))
    }

    fn put_template(&self, request: &Request, name: &str) -> (u16, Value) {
        let mut body = request.json();
        match take(&mut body["settings"], ROLLOVER_ALIAS) {
            Some(alias) => drop(self.state().template_aliases.insert(name.to_owned(), alias)),
            None => drop(self.state().template_aliases.remove(name)),
        }
        self.engine.http("PUT", &request.target(), Some(body))
    }

    fn get_template(&self, request: &Request, name: &str) -> (u16, Value) {
        let (status, mut body) = self.engine.http("GET", &request.target(), None);
        if let Some(alias) = self.state().template_aliases.get(name).filter(|_| status == 200) {
            body[name]["settings"][ROLLOVER_ALIAS] = json!(alias);
        }
        (status, body)
    }

    fn get_metadata(&self, request: &Request) -> (u16, Value) {
        let (status, mut body) = self.engine.http("GET", &request.target(), None);
        let indices = body.pointer_mut("/metadata/indices").and_then(Value::as_object_mut);
        for (index, entry) in indices.into_iter().flatten() {
            if let Some(alias) = self.state().aliases.get(index) {
                entry["settings"]["index"]["plugins"]["index_state_management"]["rollover_alias"] = json!(alias);
            }
        }
        (status, body)
    }
}

/// The documentation's answer about one policy.
fn wrapped(name: &str, policy: &Policy, body: Value) -> Value {
    json!({
        "_id": name, "_version": policy.version, "_seq_no": policy.seq_no, "_primary_term": 1, "policy": body,
    })
}

fn take(settings: &mut Value, key: &str) -> Option<String> {
    settings.as_object_mut()?.remove(key)?.as_str().map(str::to_owned)
}

fn not_found(why: &str) -> (u16, Value) {
    error(404, "status_exception", why)
}

fn error(status: u16, kind: &str, reason: &str) -> (u16, Value) {
    let cause = json!({"type": kind, "reason": reason});
    (status, json!({"error": {"root_cause": [cause], "type": kind, "reason": reason}, "status": status}))
}
