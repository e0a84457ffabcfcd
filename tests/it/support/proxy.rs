//! A proxy in front of one of the stack's engines, whose traffic a test can hold up or break.

use serde_json::{Value, json};

use super::search::Engine;
use super::{stack, suffix};

/// A proxy of the stack's toxiproxy; dropped, it goes away.
#[derive(Debug)]
pub struct Proxy {
    api: Engine,
    name: String,
    /// `host:port`.
    pub address: String,
}

impl Proxy {
    /// In front of `host:port`.
    pub fn new(upstream: &str) -> Self {
        let mut api = Engine::opensearch();
        stack().get("TOXIPROXY_URL").clone_into(&mut api.url);
        let name = format!("it-{}", suffix());
        let body = json!({"name": name, "listen": "127.0.0.1:0", "upstream": upstream, "enabled": true});
        let made = api.ok("POST", "/proxies", Some(body));
        let address = made["listen"].as_str().unwrap().to_owned();
        Self { api, name, address }
    }

    /// From now on, on connections that are open as well: `latency`, `timeout`, `reset_peer` and so on, on what goes
    /// `upstream` or `downstream`.
    pub fn add(&self, kind: &str, stream: &str, attributes: Value) {
        let toxic = json!({"name": kind, "type": kind, "stream": stream, "attributes": attributes});
        self.api.ok("POST", &format!("/proxies/{}/toxics", self.name), Some(toxic));
    }

    /// Whether it takes connections; those that are open end when it no longer does.
    pub fn enable(&self, enabled: bool) {
        self.api.ok("POST", &format!("/proxies/{}", self.name), Some(json!({"enabled": enabled})));
    }

    /// No longer.
    pub fn remove(&self, kind: &str) {
        self.api.http("DELETE", &format!("/proxies/{}/toxics/{kind}", self.name), None);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.api.http("DELETE", &format!("/proxies/{}", self.name), None);
    }
}
