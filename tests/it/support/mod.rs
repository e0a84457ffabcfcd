//! What the integration tests share: where the engines are, and hands on them that are not sexton's own.

pub mod cluster;
pub mod executions;
pub mod histories;
pub mod intercept;
pub mod ism;
pub mod judge;
pub mod load;
pub mod own_server;
pub mod postgres;
pub mod prometheus;
pub mod proxy;
pub mod receiver;
pub mod s3;
pub mod search;
pub mod site;
pub mod temporal;
pub mod wire;
pub mod workflows;

use std::collections::BTreeMap;
use std::sync::OnceLock;

/// The environment that `tests/stack/env` prints.
#[derive(Debug)]
pub struct Stack(BTreeMap<String, String>);

impl Stack {
    /// The value of `STACK_<name>`.
    pub fn get(&self, name: &str) -> &str {
        match self.0.get(name) {
            Some(value) => value,
            None => panic!("STACK_{name} is not set: run tests/stack/up, then eval \"$(tests/stack/env)\""),
        }
    }
}

/// The running stack.
pub fn stack() -> &'static Stack {
    static STACK: OnceLock<Stack> = OnceLock::new();
    STACK.get_or_init(|| {
        let vars = std::env::vars().filter_map(|(name, value)| Some((name.strip_prefix("STACK_")?.to_owned(), value)));
        let stack = Stack(vars.collect());
        assert!(!stack.0.is_empty(), "the stack is not up: run tests/stack/up, then eval \"$(tests/stack/env)\"");
        stack
    })
}

/// Twelve characters that no other test has.
pub fn suffix() -> String {
    uuid::Uuid::new_v4().simple().to_string().chars().take(12).collect()
}
