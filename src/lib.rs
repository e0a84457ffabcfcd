//! sexton keeps the ground of a self-hosted Temporal cluster. This file is the map.
//!
//! Dependencies point one way: [`cli`], [`daemon`] and [`doctor`] use the domains ([`retention`], [`visibility`],
//! [`backup`], [`migrate`]), the domains use [`clients`]. A domain never sees clap or the scheduler: it gets its clients,
//! a [`context::Context`] and its policy passed in, computes a plan, and applies that same plan.
//!
//! - [`cli`]: the command line, one file per verb, and everything that is printed.
//! - [`daemon`]: the runner (one run, end to end), the ledger, leader and standby, the schedule; `daemon::jobs` ties each
//!   domain to the runner.
//! - [`doctor`]: what is examined by `sexton doctor`.
//! - [`retention`]: the namespaces' retentions. [`visibility`]: the index, rolled and deleted. [`backup`]: chunks, manifest,
//!   stores, restore, compare. [`migrate`]: recipes, applied once, with a journal.
//! - [`clients`]: Temporal, PostgreSQL, search engine: the only places that know a wire.
//! - [`config`]: where the systems are. [`policy`]: what is wanted of them. [`document`]: a YAML file with positions, which
//!   both and the recipes are read through.
//! - The words everything is said in: [`job`] (plan, then apply), [`plan`] (a list of changes), [`failure`] (kind and hint),
//!   [`exit`] (codes), [`progress`], [`context`], [`units`] (durations, sizes).

pub mod backup;
pub mod cli;
pub mod clients;
pub mod config;
pub mod context;
pub mod daemon;
pub mod doctor;
pub mod document;
pub mod exit;
pub mod failure;
pub mod http;
pub mod job;
pub mod migrate;
pub mod plan;
pub mod policy;
mod process;
pub mod progress;
pub mod retention;
mod text;
pub mod units;
pub mod visibility;
