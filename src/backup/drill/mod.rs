//! The drill: the newest backup is restored on a server that is there for it, compared, looked over, and dropped again.
//! What passes gets a mark in the store ([`super::Proof`]): a backup counts when it has been proven.
//!
//! [`plan`] looks at store and server, [`apply`] restores one database after the other into databases of the drill's own
//! making ([`scratch`]), asks whether Temporal's tables go together ([`checks`]), has a Temporal server read workflows
//! from them where the policy names one ([`server`]), and gives a report with a verdict.

mod apply;
mod checks;
mod scratch;
mod server;

use serde::Serialize;

use super::compare::{TableVerdict, Verdict};
use super::error::BackupError;
use super::manifest::{BackupId, Manifest};
use super::store::{Store, StoreError};
use crate::clients::postgres::{Databases, MAINTENANCE, Postgres};
use crate::context::Context;
use crate::failure::{Explain, Kind, chain};
use crate::plan::{Action, Change, Plan};
use crate::policy::drill::DrillPolicy;
use crate::units::{counted, human_bytes};

pub use apply::apply;
pub use checks::Check;
pub use server::Served;

/// A drill that would be made.
#[derive(Debug, Clone)]
pub struct DrillPlan {
    /// What is restored; the run works from exactly this.
    manifest: Manifest,
    policy: DrillPolicy,
    server: String,
    version: u32,
    leftovers: Vec<String>,
    notes: Vec<String>,
}

/// One database of a drill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Drilled {
    /// Its name in the backup.
    pub database: String,
    /// The database it was restored into.
    pub target: String,
    /// Rows in the backup.
    pub rows: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// How long it took, in milliseconds.
    pub milliseconds: u64,
    /// How each table compares with the manifest; empty when the restore did not come so far.
    pub tables: Vec<TableVerdict>,
    /// Whether Temporal's tables go together.
    pub checks: Vec<Check>,
    /// What is wrong with the backup.
    pub findings: Vec<String>,
    /// What could not be told.
    pub untold: Vec<String>,
    /// True when the restored database was kept for a look.
    pub kept: bool,
}

/// What a drill came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DrillReport {
    /// The backup.
    pub id: BackupId,
    /// True when it passed and the store has the mark.
    pub proven: bool,
    /// `server_version_num` of the scratch server.
    pub server_version: u32,
    /// How long it took, in milliseconds.
    pub milliseconds: u64,
    /// Databases of earlier drills that were dropped.
    pub dropped: Vec<String>,
    /// The databases.
    pub databases: Vec<Drilled>,
    /// What a Temporal server started on them made of them; `None` when there was none, or it was not well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<Served>,
    /// What else there is to know.
    pub notes: Vec<String>,
}

impl DrillReport {
    /// `Ok` only when nothing was found and everything could be told.
    ///
    /// # Errors
    /// [`BackupError::Differs`] when something is wrong, else [`BackupError::Unverified`].
    pub fn verdict(&self) -> Result<(), BackupError> {
        let subject = format!("backup `{}`", self.id);
        let of = |lines: fn(&Drilled) -> &Vec<String>| -> Vec<String> {
            let one = |drilled| lines(drilled).iter().map(|line| format!("{}: {line}", drilled.database));
            self.databases.iter().flat_map(one).collect()
        };
        let (findings, reasons) = (of(|drilled| &drilled.findings), of(|drilled| &drilled.untold));
        if !findings.is_empty() {
            return Err(BackupError::Differs { subject, findings });
        }
        if !reasons.is_empty() {
            return Err(BackupError::Unverified { subject, reasons });
        }
        Ok(())
    }

    /// One line for people.
    #[must_use]
    pub fn summary(&self) -> String {
        let rows: u64 = self.databases.iter().map(|drilled| drilled.rows).sum();
        let bytes: u64 = self.databases.iter().map(|drilled| drilled.bytes).sum();
        let outcome = if self.proven { "proven" } else { "NOT proven" };
        let read = match &self.server {
            Some(served) => format!(", a Temporal server read {}", counted(served.workflows, "workflow", "workflows")),
            None => String::new(),
        };
        // How far it came by then, the findings say.
        let done = match self.verdict() {
            Ok(()) => format!(": {rows} rows, {} restored and compared{read}", human_bytes(bytes)),
            Err(_) => String::new(),
        };
        format!("backup {} {outcome}{done}", self.id)
    }
}

/// Looks at the newest backup and at the scratch server, writing nothing.
///
/// # Errors
/// [`BackupError::NoneYet`]; the refusals [`BackupError::TargetOlder`] and [`BackupError::NoRoom`];
/// [`BackupError::Differs`] when the newest manifest is damaged; [`BackupError::Unverified`] when store or server do
/// not answer.
pub async fn plan(
    scratch: &Postgres,
    store: &dyn Store,
    policy: &DrillPolicy,
    ctx: &Context,
) -> Result<DrillPlan, BackupError> {
    if ctx.is_cancelled() {
        return Err(BackupError::Cancelled);
    }
    let manifest = super::show(store, "latest").await.map_err(|error| told("the newest backup", error))?;
    observe(scratch, manifest, policy).await
}

async fn observe(scratch: &Postgres, manifest: Manifest, policy: &DrillPolicy) -> Result<DrillPlan, BackupError> {
    let subject = format!("backup `{}`", manifest.id);
    let seen = async {
        let mut databases = Databases::open(scratch).await?;
        let version = scratch.server_version(MAINTENANCE, databases.session()).await?;
        let found = scratch::found(&mut databases).await?;
        databases.close().await;
        Ok((version, found))
    };
    let (version, found) = seen.await.map_err(|error: BackupError| told(&subject, error))?;
    let newest = manifest.databases.iter().map(|database| database.server_version / 10_000).max().unwrap_or(0);
    if version.major() < newest {
        return Err(BackupError::TargetOlder { source_major: newest, target_major: version.major() });
    }
    let size = |database: &super::manifest::Database| database.tables.iter().map(|table| table.bytes).sum::<u64>();
    let sizes = manifest.databases.iter().map(|database| (size(database), database.name.clone()));
    // A server needs all of them at once; else each is dropped before the next is made.
    let (needed, database) = match policy.server {
        Some(_) => sizes.reduce(|(sum, names), (bytes, name)| (sum + bytes, format!("{names}`, `{name}"))),
        None => sizes.max(),
    }
    .unwrap_or_default();
    let mut notes = found.notes;
    match policy.room {
        Some(room) if needed > room.as_bytes() => {
            let (id, room) = (manifest.id.to_string(), room.to_string());
            return Err(BackupError::NoRoom { id, database, needed: human_bytes(needed), room });
        }
        Some(_) => {}
        None => notes.push(format!(
            "PostgreSQL does not say how much room its disk has; the drill takes {} there, and room for the indexes",
            human_bytes(needed)
        )),
    }
    let (server, version) = (scratch.address(), version.0);
    Ok(DrillPlan { manifest, policy: policy.clone(), server, version, leftovers: found.leftovers, notes })
}

impl DrillPlan {
    /// The common form. A drill is always a change, since a backup can always be proven again.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let left = |name: &String| {
            Change::new(Action::Delete, format!("database {name}"), "left by a drill that did not end").destructive()
        };
        let mut changes: Vec<Change> = self.leftovers.iter().map(left).collect();
        let tables = || self.manifest.databases.iter().flat_map(|database| &database.tables);
        let read = match &self.policy.server {
            Some(server) => {
                let workflows = counted(u64::from(server.workflows.get()), "workflow", "workflows");
                format!("{workflows} read through a Temporal server at {}, ", server.address.as_str())
            }
            None => String::new(),
        };
        let reason = format!(
            "{} in {} tables, restored on {}, compared, {read}and dropped",
            human_bytes(tables().map(|table| table.bytes).sum()),
            tables().count(),
            self.server
        )
        .replace("compared, and", "compared and");
        changes.push(Change::new(Action::Run, format!("drill of backup {}", self.manifest.id), reason));
        Plan { changes, notes: self.notes.clone() }
    }

    /// The backup that is to be proven.
    #[must_use]
    pub fn backup(&self) -> &BackupId {
        &self.manifest.id
    }
}

/// What an error says about the backup: that it is bad, that nothing can be told of it, or something else.
fn told(subject: &str, error: BackupError) -> BackupError {
    let subject = subject.to_owned();
    match sort(error) {
        Sorted::Bad(finding) => BackupError::Differs { subject, findings: vec![finding] },
        Sorted::Untold(reason) => BackupError::Unverified { subject, reasons: vec![reason] },
        Sorted::Other(error) => error,
    }
}

enum Sorted {
    /// The backup is not what it should be.
    Bad(String),
    /// Nothing can be told.
    Untold(String),
    /// A refusal, a cancellation, or nothing to drill.
    Other(BackupError),
}

fn sort(error: BackupError) -> Sorted {
    let bad = match &error {
        BackupError::Chunk { .. } | BackupError::Manifest { .. } | BackupError::Differs { .. } => true,
        BackupError::Store(error) => {
            matches!(error, StoreError::NotFound { .. } | StoreError::Checksum { .. } | StoreError::TooLarge { .. })
        }
        BackupError::Postgres(error) => refuses_content(error),
        BackupError::Schema { cause, .. } => refuses_content(cause),
        _ => false,
    };
    match error {
        error if bad => Sorted::Bad(chain(&error)),
        error @ BackupError::NoneYet { .. } => Sorted::Other(error),
        error if matches!(error.kind(), Kind::Failed | Kind::CouldNotVerify) => Sorted::Untold(chain(&error)),
        error => Sorted::Other(error),
    }
}

/// The server takes the statement or the rows for wrong, rather than being short of something itself: full, stopped,
/// without an extension's package or a collation (PostgreSQL manual, appendix A). What is not known to come of the backup
/// says nothing against it.
fn refuses_content(error: &crate::clients::postgres::PostgresError) -> bool {
    // Data, constraints, names and syntax, RAISE.
    const CONTENT: [&str; 4] = ["22", "23", "42", "P0"];
    // No such collation, extension or type; not allowed.
    const OWN_TROUBLE: [&str; 2] = ["42704", "42501"];
    error.sqlstate().is_some_and(|state| {
        CONTENT.iter().any(|class| state.starts_with(class)) && !OWN_TROUBLE.contains(&state.as_str())
    })
}

/// The tables of a restore that are not as the manifest says, as findings and as what could not be told.
fn of_tables(tables: &[TableVerdict]) -> (Vec<String>, Vec<String>) {
    let line = |table: &TableVerdict| format!("{}: {}", table.table, table.detail.as_deref().unwrap_or("differs"));
    let of = |wanted: Verdict| tables.iter().filter(move |table| table.verdict == wanted).map(line).collect();
    (of(Verdict::Differs), of(Verdict::Unknown))
}
