//! The integration tests, as one binary: real engines, judged by other programs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by its panic")]

mod k8s;
mod migrate;
mod support;
