//! The `backup` operation: a backup of the source's databases, in the store of the configuration.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Act, Ran, Reversal, StepError};
use crate::backup;
use crate::backup::store::{self, Store};
use crate::failure::Kind;
use crate::migrate::hands::Hands;
use crate::migrate::world::Backups;

/// A backup. Its identifier is what a later `restore` takes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BackupStep {}

/// Where backups go.
pub(super) fn backups<'a>(hands: &Hands<'a>) -> Result<&'a Backups, StepError> {
    hands.world.backups.as_ref().ok_or_else(|| {
        let message = "the recipe makes a backup, and the configuration has no `store:` or no policy `backup`";
        StepError::new(
            Kind::Config,
            message,
            "sexton.example.yaml shows the section; policies/backup.yaml is the policy",
        )
    })
}

#[async_trait]
impl Act for BackupStep {
    fn reversal(&self) -> Reversal {
        Reversal::Nothing
    }

    fn is_repeatable(&self) -> bool {
        true
    }

    async fn check(&self, hands: &mut Hands<'_>) -> Result<Option<bool>, StepError> {
        backups(hands).map(|_| None)
    }

    async fn run(&self, hands: &mut Hands<'_>, _: &Value) -> Result<Ran, StepError> {
        let (backups, source) = (backups(hands)?, &hands.world.source);
        let store: Arc<dyn Store> = store::open(&backups.store).await?;
        let plan = backup::plan(&source.postgres, &source.all(), &*store, &backups.policy, &hands.ctx).await?;
        let report = backup::apply(&plan, &source.postgres, &store, None, &hands.ctx).await?;
        Ok(Ran::once(json!({ "backup": report.id, "rows": report.rows, "bytes": report.raw_bytes })))
    }

    async fn verify(&self, _: &mut Hands<'_>) -> Result<Option<bool>, StepError> {
        Ok(None)
    }
}
