//! The `approve` operation: a person's agreement before what comes next, with everything before it done.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Act, Ran, Reversal, StepError};
use crate::migrate::hands::Hands;
use crate::migrate::names::Text;

/// Stops the run until somebody approves this step.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ApproveStep {
    /// What is agreed to.
    pub question: Text,
}

#[async_trait]
impl Act for ApproveStep {
    fn reversal(&self) -> Reversal {
        Reversal::Nothing
    }

    fn is_repeatable(&self) -> bool {
        true
    }

    async fn run(&self, hands: &mut Hands<'_>, _: &Value) -> Result<Ran, StepError> {
        match hands.journal.take_step_approval(hands.migration, &hands.step, hands.world, &hands.ctx).await? {
            Some(by) => Ok(Ran::once(json!({ "approved_by": by }))),
            None => Err(StepError::Awaits(self.question.as_str().to_owned())),
        }
    }
}
