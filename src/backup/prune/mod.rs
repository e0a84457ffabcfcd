//! Prune: backups that the policy does not keep go, and chunks that nothing names any more are swept.
//!
//! # What may be deleted, and when
//!
//! [`plan`] chooses the backups ([`gfs`]); [`apply`] removes them and sweeps. Nothing at all is deleted while one
//! manifest cannot be read: what it names is not known.
//!
//! - **A backup** goes by its manifest first: without `manifest.json` it is none, and none is left half. Right before,
//!   the choice is made again over what is there by then.
//! - **A chunk** that neither a manifest nor a claim names is marked ([`marks`]) and stays for the grace period, so that
//!   a backup that runs beside, whose new chunks have no manifest yet and which reuses chunks of a backup that goes now,
//!   finds them when it ends. It is old enough when three say so: the time since its mark by this host's clock, the same
//!   by the store's clock, and the time since it was written by the store's clock. A clock that went back makes chunks
//!   stay for longer; marks from the future begin anew.
//! - **The rest of what was ended** (a backup's folder without manifest, temporary files, uploads in parts, lists of a
//!   sweep that died) goes when it is as old.
//!
//! # Why no manifest ever names a chunk that is swept
//!
//! The grace period makes that rare, for clocks and for processes that hang; this makes it impossible:
//!
//! | a backup that ends | a sweep |
//! |---|---|
//! | 1. writes its claim: all names | 1. writes its list of condemned chunks |
//! | 2. waits until no list has one of them | 2. reads all claims and manifests, and spares what they name |
//! | 3. looks whether all are there | 3. removes the others |
//! | 4. writes its manifest | 4. removes its list |
//! | 5. removes its claim | |
//!
//! Writes and listings of the store are in one order (S3 and local file systems give that). If the claim comes before
//! the sweep's second step, the chunk is spared. If it comes after, the list is older than the claim, so the backup
//! sees either the list, and waits until it is gone, or that it is gone already; then every removal is done, and the
//! third step sees what is missing. The backup fails then, says which chunks went, and leaves no manifest. No clock
//! takes part. Several hosts may prune at once without a common ledger: each has a list of its own.
//!
//! A process may be halted at any instant and go on much later. A backup whose claim was forgotten meanwhile sees that
//! right after its manifest and takes the manifest back, or leaves it unreadable where the store does not let it. A sweep
//! ends an hour after it has written its list, by either of its clocks, and removes nothing once its list is gone; others
//! forget the list after three hours by the store's clock. What remains: a sweep that is halted for three hours between
//! its last look at the clock and the removal itself, of a chunk that a backup has stored anew in that time. (S3 refuses a
//! request that was signed more than 15 minutes before.)

mod apply;
pub mod gfs;
mod leftovers;
mod marks;
mod plan;
mod references;
mod sweep;
#[cfg(test)]
mod tests;

pub use apply::{PruneReport, apply, mark};
pub use plan::{Freed, Going, Kept, PrunePlan, plan};

/// Backups that one run removes at most, the oldest first.
const MOST_BACKUPS: usize = 100;
/// Chunks that one run removes at most.
const MOST_CHUNKS: usize = 100_000;
/// Leftovers that one run removes at most.
const MOST_LEFTOVERS: usize = 10_000;
