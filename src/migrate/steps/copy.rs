//! The `copy` operation: the source's databases streamed to the target, with no store between.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Act, Ran, Reversal, StepError, made};
use crate::backup::{self, Target};
use crate::migrate::hands::Hands;
use crate::migrate::world::Server;

/// A copy on the target of every database of Temporal's, each of one instant, read back and compared. The databases must
/// not be there yet.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CopyStep {
    /// Tables that are copied at once.
    #[serde(default = "default_jobs")]
    pub jobs: usize,
}

const fn default_jobs() -> usize {
    2
}

#[async_trait]
impl Act for CopyStep {
    fn reversal(&self) -> Reversal {
        Reversal::Undo
    }

    fn is_repeatable(&self) -> bool {
        true
    }

    /// What is there already and is not of this migration keeps it from beginning.
    async fn check(&self, hands: &mut Hands<'_>) -> Result<Option<bool>, StepError> {
        made::refuse_foreign(hands).await?;
        Ok(None)
    }

    async fn run(&self, hands: &mut Hands<'_>, _: &Value) -> Result<Ran, StepError> {
        let (source, target) = (hands.place(Server::Source)?, hands.place(Server::Target)?);
        made::drop_own(hands).await?;
        let (mut rows, mut bytes) = (0, 0);
        for (name, into) in source.all().iter().zip(target.all()) {
            made::create(hands, &into).await?;
            let to = Target { postgres: target.postgres.clone(), database: into, jobs: self.jobs };
            let report = backup::transfer(&source.postgres, name, &to, &hands.ctx).await?;
            report.verdict()?;
            (rows, bytes) = (rows + report.rows, bytes + report.bytes);
        }
        Ok(Ran::once(json!({ "rows": rows, "bytes": bytes })))
    }

    async fn verify(&self, _: &mut Hands<'_>) -> Result<Option<bool>, StepError> {
        // Its own comparison was the verification.
        Ok(None)
    }

    /// Drops the databases that it made.
    async fn undo(&self, hands: &mut Hands<'_>, _: &Value) -> Result<(), StepError> {
        made::undo(hands).await
    }
}
