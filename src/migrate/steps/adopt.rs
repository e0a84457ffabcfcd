//! The `adopt` operation: the live visibility index turned into an alias that can be rolled over.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Act, Ran, Reversal, StepError};
use crate::failure::Kind;
use crate::migrate::hands::Hands;
use crate::migrate::world::Adoption;
use crate::units::Span;

/// An adoption of the index that the policy `visibility` names. It undoes itself when it does not come to its end; once
/// the alias has been swapped, Temporal writes to the new index, and there is no way back.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AdoptStep {
    /// How long writes may be blocked; past it everything is undone.
    #[serde(default = "default_deadline")]
    pub deadline: Span,
}

const fn default_deadline() -> Span {
    Span::seconds(60)
}

impl AdoptStep {
    /// The bounds of `sexton adopt --deadline`.
    pub(super) fn validate(&self) -> Result<(), String> {
        match (Span::seconds(1)..=Span::minutes(30)).contains(&self.deadline) {
            true => Ok(()),
            false => Err("`deadline` is out of bounds; write a duration from 1s to 30m".to_owned()),
        }
    }
}

fn adoption<'a>(hands: &Hands<'a>) -> Result<&'a dyn Adoption, StepError> {
    hands.world.adoption.as_deref().ok_or_else(|| {
        let message =
            "the recipe adopts the visibility index, and the configuration has no `search:` or no policy `visibility`";
        StepError::new(Kind::Config, message, "sexton.example.yaml shows the section")
    })
}

#[async_trait]
impl Act for AdoptStep {
    fn reversal(&self) -> Reversal {
        Reversal::Never
    }

    fn is_repeatable(&self) -> bool {
        true
    }

    fn undoes_itself(&self) -> bool {
        true
    }

    async fn check(&self, hands: &mut Hands<'_>) -> Result<Option<bool>, StepError> {
        adoption(hands)?.is_adopted().await.map(Some).map_err(StepError::Failed)
    }

    async fn run(&self, hands: &mut Hands<'_>, _: &Value) -> Result<Ran, StepError> {
        match adoption(hands)?.adopt(self.deadline, &hands.ctx).await {
            Ok(found) => Ok(Ran::once(found)),
            Err(failure) if failure.kind == Kind::Cancelled => Err(StepError::Cancelled),
            Err(failure) => Err(StepError::Failed(failure)),
        }
    }
}
