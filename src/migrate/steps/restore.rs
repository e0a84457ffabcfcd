//! The `restore` operation: a backup of an earlier step, put into databases that it makes on the target.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::backup::backups;
use super::{Act, Ran, Reversal, StepError, made};
use crate::backup::{self, BackupId, Chunks, Manifest, Target, manifest, store};
use crate::failure::Kind;
use crate::migrate::hands::Hands;
use crate::migrate::names::Name;
use crate::migrate::world::Server;

/// A restore on the target of every database of Temporal's. The databases must not be there yet.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreStep {
    /// The step that made the backup.
    pub from: Name,
    /// Tables that are filled at once.
    #[serde(default = "default_jobs")]
    pub jobs: usize,
}

const fn default_jobs() -> usize {
    2
}

#[async_trait]
impl Act for RestoreStep {
    fn reversal(&self) -> Reversal {
        Reversal::Undo
    }

    fn is_repeatable(&self) -> bool {
        true
    }

    /// What is there already and is not of this migration keeps it from beginning.
    async fn check(&self, hands: &mut Hands<'_>) -> Result<Option<bool>, StepError> {
        backups(hands)?;
        made::refuse_foreign(hands).await?;
        Ok(None)
    }

    async fn run(&self, hands: &mut Hands<'_>, _: &Value) -> Result<Ran, StepError> {
        let backups = backups(hands)?;
        let target = hands.place(Server::Target)?;
        let store = store::open(&backups.store).await?;
        let id = hands.found(self.from.as_str(), "backup").and_then(|id| id.parse::<BackupId>().ok());
        let id = id.ok_or_else(|| {
            let message = format!("step `{}` has left no backup to restore", self.from);
            StepError::new(Kind::Failed, message, "name the step that makes the backup under `from`")
        })?;
        let manifest: Manifest = manifest::load(&*store, &id).await?;
        let chunks = Chunks { store, identities: Arc::clone(&backups.identities) };
        made::drop_own(hands).await?;
        let mut rows = 0;
        for (source, into) in hands.world.source.all().iter().zip(target.all()) {
            made::create(hands, &into).await?;
            let to = Target { postgres: target.postgres.clone(), database: into, jobs: self.jobs };
            let report = backup::restore(&chunks, &manifest, source, &to, &hands.ctx).await?;
            report.verdict()?;
            rows += report.rows;
        }
        Ok(Ran::once(json!({ "backup": id, "rows": rows })))
    }

    async fn verify(&self, _: &mut Hands<'_>) -> Result<Option<bool>, StepError> {
        // Its own comparison with the manifest was the verification.
        Ok(None)
    }

    /// Drops the databases that it made.
    async fn undo(&self, hands: &mut Hands<'_>, _: &Value) -> Result<(), StepError> {
        made::undo(hands).await
    }
}
