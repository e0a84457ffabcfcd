//! The drill's own databases on the scratch server: made, recognised, dropped. Nothing else there is ever touched.
//!
//! A database is the drill's own when its name begins with [`PREFIX`], its comment with [`MARK`], and nobody holds its
//! lock: a drill holds it for as long as it works. So is its draft, which has no comment yet.

use crate::backup::error::BackupError;
use crate::backup::manifest::{BackupId, Database};
use crate::clients::postgres::{Databases, NewDatabase, Postgres, becomes, draft};

const PREFIX: &str = "sexton_drill_";
const MARK: &str = "a sexton drill at work";
const KEPT: &str = "kept from a failed sexton drill";

/// What earlier drills have left.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Databases that the next drill drops.
    pub(super) leftovers: Vec<String>,
    /// What looks like a drill's and is left alone, and why.
    pub(super) notes: Vec<String>,
}

/// Looks for what earlier drills have left. Writes nothing.
///
/// # Errors
/// When the query fails.
pub(super) async fn found(databases: &mut Databases) -> Result<Found, BackupError> {
    let mut found = Found::default();
    for (name, said) in databases.named(PREFIX).await? {
        if said.starts_with(KEPT) {
            found.notes.push(format!("database {name} is {said}"));
        } else if !said.starts_with(MARK) {
            found.notes.push(format!(
                "database {name} is named as a drill's but lacks its comment; it is left alone: drop it by hand if it is"
            ));
        } else if is_free(databases, &name).await? {
            found.leftovers.push(name);
        } else {
            found.notes.push(format!("database {name} is of a drill at work elsewhere"));
        }
    }
    for (name, said) in databases.named(&draft(PREFIX)).await? {
        if (said.is_empty() || said.starts_with(MARK)) && is_free(databases, &name).await? {
            found.leftovers.push(name);
        }
    }
    Ok(found)
}

/// Whether nobody works in it: its lock can be had.
async fn is_free(databases: &mut Databases, name: &str) -> Result<bool, BackupError> {
    let free = databases.lock(name).await?;
    if free {
        databases.unlock(name).await?;
    }
    Ok(free)
}

/// Drops a left-over that still is one.
///
/// # Errors
/// When it cannot be dropped; `false` when it is no left-over any more.
pub(super) async fn drop_leftover(databases: &mut Databases, name: &str) -> Result<bool, BackupError> {
    if !databases.lock(name).await? {
        return Ok(false);
    }
    let dropped = drop_marked(databases, name).await;
    let _ = databases.unlock(name).await;
    dropped
}

async fn drop_marked(databases: &mut Databases, name: &str) -> Result<bool, BackupError> {
    Ok(databases.drop_own(name, |said| becomes(name).starts_with(PREFIX) && said.starts_with(MARK)).await?)
}

/// A database that a drill has made and works in.
#[derive(Debug)]
pub(super) struct Made {
    /// Its name.
    pub(super) name: String,
    databases: Databases,
}

impl Made {
    /// Makes an empty database, marks it and takes its lock.
    ///
    /// # Errors
    /// When the role may not, or the server cannot.
    pub(super) async fn create(postgres: &Postgres, id: &BackupId, of: &Database) -> Result<Self, BackupError> {
        let mut databases = Databases::open(postgres).await?;
        let name = free_name(&mut databases, id).await?;
        // Before there is anything to find: from its first instant on it is of a drill at work.
        if !databases.lock(&name).await? {
            let reasons = vec![format!("another drill is making the database {name}")];
            return Err(BackupError::Unverified { subject: format!("backup `{id}`"), reasons });
        }
        let comment = &format!("{MARK}: backup {id}; the next drill drops what a killed one leaves");
        let (name, draft, encoding) = (name.as_str(), &draft(&name), Some(of.encoding.as_str()));
        databases.create(NewDatabase { name, draft, comment, encoding, owner: None }).await?;
        Ok(Self { name: name.to_owned(), databases })
    }

    /// Drops it.
    ///
    /// # Errors
    /// When it cannot be dropped; the next drill tries again.
    pub(super) async fn remove(mut self) -> Result<(), BackupError> {
        let dropped = drop_marked(&mut self.databases, &self.name).await;
        self.databases.close().await;
        dropped.map(drop)
    }

    /// Leaves it for a person, who drops it.
    ///
    /// # Errors
    /// When the comment cannot be set; the next drill drops it then.
    pub(super) async fn keep(mut self, id: &BackupId, at: jiff::Timestamp) -> Result<(), BackupError> {
        let said = format!("{KEPT} of backup {id} at {}; drop it by hand", at.strftime("%FT%TZ"));
        self.databases.say(&self.name, &said).await?;
        self.databases.close().await;
        Ok(())
    }
}

/// A name that is not taken; a backup's identifier has no capitals there, so that it needs no quotes.
async fn free_name(databases: &mut Databases, id: &BackupId) -> Result<String, BackupError> {
    let stem = format!("{PREFIX}{}_", id.as_str().to_ascii_lowercase().replace('-', "_"));
    let mut taken: Vec<String> = databases.named(&stem).await?.into_iter().map(|(name, _)| name).collect();
    let drafts = databases.named(&draft(&stem)).await?;
    taken.extend(drafts.into_iter().map(|(name, _)| becomes(&name)));
    let mut names = (1..=taken.len() + 1).map(|n| format!("{stem}{n}"));
    Ok(names.find(|name| !taken.contains(name)).unwrap_or_else(|| format!("{stem}0")))
}
