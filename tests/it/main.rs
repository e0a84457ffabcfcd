//! The integration tests: real engines, one binary.
#![allow(unreachable_pub, reason = "one binary: nothing here is reachable from outside")]
#![allow(clippy::unwrap_used, reason = "helpers are tests as well")]

mod audit;
mod backup;
mod bad_input;
mod cat;
mod compare;
mod daemon;
mod databases;
mod delivery;
mod docs;
mod drill;
mod encryption;
mod faults;
mod http;
mod incremental;
mod k8s;
mod kills;
mod migrate;
mod monitoring;
mod orphans;
mod output;
mod overdue;
mod prune;
mod restored;
mod retention;
mod single;
mod store;
mod support;
mod temporal;
mod visibility;
mod webhooks;
