//! What the tests share: where the engines are, and scratch things on them.

pub(crate) mod postgres;

/// A variable of the stack's environment.
pub(crate) fn stack(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run tests/stack/up, then eval \"$(tests/stack/env)\""))
}
