//! The integration tests, as one binary: real engines, judged by other programs.

mod k8s;
mod migrate;
mod support;
