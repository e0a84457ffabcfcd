//! The `wait` operation: a pause.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Act, Ran, Reversal, StepError};
use crate::migrate::hands::Hands;
use crate::units::Span;

/// A pause, for what settles by itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub struct WaitStep {
    /// How long.
    #[serde(rename = "for")]
    pub duration: Span,
}

#[async_trait]
impl Act for WaitStep {
    fn reversal(&self) -> Reversal {
        Reversal::Nothing
    }

    fn is_repeatable(&self) -> bool {
        true
    }

    async fn run(&self, hands: &mut Hands<'_>, _: &Value) -> Result<Ran, StepError> {
        tokio::select! {
            () = hands.ctx.cancel.cancelled() => Err(StepError::Cancelled),
            () = tokio::time::sleep(Duration::from(self.duration)) => Ok(Ran::once(json!({}))),
        }
    }
}
