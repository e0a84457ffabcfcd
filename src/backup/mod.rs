//! Logical backups: each database from one exported snapshot, its schema by `pg_dump`, its rows by parallel COPY over
//! ranges of pages, cut into chunks that are stored once however many backups hold them.
//!
//! [`plan`] looks and decides, [`apply`] makes the backup; the manifest goes last and is what makes it one
//! ([`manifest`]). [`verify`] reads a backup back, [`restore`] puts it into an empty database and compares
//! every table's content hash ([`chunk::Content`]) with the manifest. A backup that passed a [`drill`] has a [`Proof`].

mod aside;
mod cat;
pub mod catalog;
pub mod check;
pub mod chunk;
mod claim;
pub mod compare;
pub mod copy;
mod create;
pub mod difference;
pub mod drill;
mod dump;
mod error;
mod id;
mod indexes;
mod known;
mod lanes;
mod list;
mod live;
pub mod manifest;
mod name;
mod names;
mod outline;
mod plan;
mod preview;
mod proof;
pub mod prune;
mod restore;
pub mod rows;
mod schema;
pub mod seal;
mod single;
mod snapshot;
pub mod stats;
pub mod store;
pub mod track;
mod transfer;
mod verify;

pub use cat::{Cat, Output};
pub use create::{BackupReport, apply};
pub use error::BackupError;
pub use list::{Listed, Summary, list, list_beside, show, summary};
pub use live::Chunks;
pub use manifest::{BackupId, Manifest};
pub use names::ChunkName;
pub use plan::{BackupPlan, DatabasePlan, Observed, decide, plan};
pub use preview::{Preview, PreviewTable, preview};
pub use proof::{Proof, newest_proof, proofs};
pub use restore::{RestoreReport, Target, restore, restore_table};
pub use transfer::{TransferReport, transfer};
pub use verify::{Finding, VerifyReport, verify};
