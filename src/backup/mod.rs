//! Logical backups: each database from one exported snapshot, its schema by `pg_dump`, its rows by parallel COPY over
//! ranges of pages, cut into chunks that are stored once however many backups hold them.
//!
//! [`plan`] looks and decides, [`apply`] makes the backup; the manifest goes last and is what makes it one
//! ([`manifest`]). [`verify`] reads a backup back, [`restore`] puts it into an empty database and compares
//! every table's content hash ([`chunk::Content`]) with the manifest.

pub mod catalog;
pub mod check;
pub mod chunk;
mod claim;
pub mod compare;
pub mod copy;
mod create;
mod error;
mod id;
mod known;
mod list;
pub mod manifest;
mod names;
mod plan;
pub mod proven;
pub mod prune;
mod restore;
pub mod rows;
mod schema;
pub mod seal;
mod snapshot;
pub mod stats;
pub mod store;
mod verify;

pub use create::{BackupReport, apply};
pub use error::BackupError;
pub use list::{Listed, Summary, list, show};
pub use manifest::{BackupId, Manifest};
pub use plan::{BackupPlan, DatabasePlan, Observed, decide, plan};
pub use restore::{RestoreReport, Target, restore};
pub use verify::{Finding, VerifyReport, verify};
