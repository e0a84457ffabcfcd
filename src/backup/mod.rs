//! Logical backups: each database from one exported snapshot, its schema by `pg_dump`, its rows by parallel COPY over
//! ranges of pages, cut into chunks that are stored once however many backups hold them.
//!
//! [`plan`] looks and decides, [`apply`] makes the backup; the manifest goes last and is what makes it one
//! ([`manifest`]). [`verify`] reads a backup back, [`restore`] puts it into an empty database and compares
//! every table's content hash ([`chunk::Content`]) with the manifest. A backup that passed a [`drill`] has a [`Proof`].

pub mod catalog;
pub mod chunk;
pub mod compare;
pub mod copy;
mod create;
pub mod drill;
mod error;
mod id;
mod known;
mod list;
mod live;
pub mod manifest;
mod plan;
mod proof;
mod restore;
pub mod rows;
mod schema;
mod snapshot;
pub mod store;
mod verify;

pub use create::{BackupReport, apply};
pub use error::BackupError;
pub use list::{Listed, Summary, list, show};
pub use manifest::{BackupId, Manifest};
pub use plan::{BackupPlan, DatabasePlan, Observed, decide, plan};
pub use proof::{Proof, newest_proof, proofs};
pub use restore::{RestoreReport, Target, restore};
pub use verify::{Finding, VerifyReport, verify};
