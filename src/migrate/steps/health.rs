//! The `health` operation: Temporal's frontend answering that it serves.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Act, Ran, Reversal, StepError};
use crate::clients::temporal::{Health, Settings, Temporal};
use crate::failure::{Kind, chain};
use crate::migrate::hands::Hands;
use crate::units::{Span, millis_since};

/// How often it is asked.
const POLL: Duration = Duration::from_millis(500);

/// Waits until `grpc.health.v1` says SERVING.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HealthStep {
    /// For how long it is waited for.
    #[serde(default = "default_patience")]
    pub within: Span,
}

const fn default_patience() -> Span {
    Span::minutes(5)
}

impl HealthStep {
    pub(super) fn validate(&self) -> Result<(), String> {
        super::is_some_time("within", self.within)
    }
}

fn whom<'a>(hands: &Hands<'a>) -> Result<&'a Settings, StepError> {
    hands.world.temporal.as_ref().ok_or_else(|| {
        let message = "the recipe asks Temporal for its health, and none is configured";
        StepError::new(Kind::Config, message, "add `temporal:`")
    })
}

#[async_trait]
impl Act for HealthStep {
    fn reversal(&self) -> Reversal {
        Reversal::Nothing
    }

    fn is_repeatable(&self) -> bool {
        true
    }

    /// Whom to ask is known before Temporal is stopped.
    async fn check(&self, hands: &mut Hands<'_>) -> Result<Option<bool>, StepError> {
        whom(hands).map(|_| None)
    }

    async fn verify(&self, _: &mut Hands<'_>) -> Result<Option<bool>, StepError> {
        Ok(None)
    }

    async fn run(&self, hands: &mut Hands<'_>, _: &Value) -> Result<Ran, StepError> {
        let settings = whom(hands)?;
        let clock = Instant::now();
        loop {
            let said = match Temporal::connect(settings).await {
                Ok(temporal) => match temporal.health().await {
                    Ok(Health::Serving) => {
                        let waited = millis_since(clock);
                        return Ok(Ran::once(json!({ "milliseconds": waited })));
                    }
                    Ok(other) => format!("it says {other:?}"),
                    Err(error) => chain(&error),
                },
                Err(error) => chain(&error),
            };
            if clock.elapsed() >= Duration::from(self.within) {
                let message = format!("Temporal at {} did not serve within {}: {said}", settings.address, self.within);
                return Err(StepError::new(Kind::Failed, message, "look at the server's log"));
            }
            tokio::select! {
                () = hands.ctx.cancel.cancelled() => return Err(StepError::Cancelled),
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }
}
