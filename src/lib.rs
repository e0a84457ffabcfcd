//! sexton keeps the ground of a self-hosted Temporal cluster. This file is the map.
//!
//! Dependencies point one way: [`cli`] and [`daemon`] use the domains ([`retention`], [`visibility`], [`backup`],
//! [`migrate`]), the domains use [`clients`]. A domain never sees clap or the scheduler: it gets its clients, a
//! [`context::Context`] and its policy passed in, computes a plan, and applies that same plan.

pub mod backup;
pub mod cli;
pub mod clients;
pub mod config;
pub mod context;
pub mod daemon;
pub mod doctor;
pub mod exit;
pub mod failure;
pub mod job;
pub mod migrate;
pub mod plan;
pub mod policy;
pub mod progress;
pub mod retention;
pub mod units;
pub mod visibility;
