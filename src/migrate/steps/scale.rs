//! The operations on Deployments: `scale` (stop them, and start them with as many replicas as they had), `wait_pods_gone`
//! and `restart`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Act, Ran, Reversal, StepError};
use crate::clients::kubernetes::Kubernetes;
use crate::failure::Kind;
use crate::migrate::hands::Hands;
use crate::migrate::names::{Name, Text};
use crate::migrate::parameters::{ParameterError, Values};
use crate::units::Span;

/// How often Kubernetes is asked while something is waited for.
const POLL: Duration = Duration::from_secs(1);

/// Names of Deployments, divided by commas.
fn names(deployments: &Text) -> Vec<&str> {
    deployments.as_str().split(',').map(str::trim).filter(|name| !name.is_empty()).collect()
}

/// Deployments brought to a number of replicas.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ScaleStep {
    /// Which, divided by commas.
    pub deployments: Text,
    /// To what.
    pub to: ScaleTo,
}

/// A number of replicas.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ScaleTo {
    /// None. Each had some, which are remembered.
    Zero,
    /// As many as each had before that step.
    Before(Name),
}

impl ScaleStep {
    pub(super) fn render(&self, values: &Values) -> Result<Self, ParameterError> {
        Ok(Self { deployments: self.deployments.render(values)?, to: self.to.clone() })
    }

    /// The replicas of each, all read before any is changed.
    async fn counts(&self, kubernetes: &Kubernetes) -> Result<BTreeMap<String, i32>, StepError> {
        let mut counts = BTreeMap::new();
        for name in names(&self.deployments) {
            counts.insert(name.to_owned(), kubernetes.deployment(name).await?.replicas);
        }
        if counts.is_empty() {
            return Err(StepError::new(Kind::Config, "the step names no Deployment", "name them, divided by commas"));
        }
        Ok(counts)
    }

    /// What is wanted of each; `None` while the earlier step has not been done.
    fn wanted(&self, hands: &Hands<'_>, counts: &BTreeMap<String, i32>) -> Option<BTreeMap<String, i32>> {
        match &self.to {
            ScaleTo::Zero => Some(counts.keys().map(|name| (name.clone(), 0)).collect()),
            ScaleTo::Before(step) => {
                let kept = hands.evidence.get(step.as_str())?.get("replicas")?.clone();
                serde_json::from_value(kept).ok()
            }
        }
    }
}

#[async_trait]
impl Act for ScaleStep {
    fn reversal(&self) -> Reversal {
        Reversal::Undo
    }

    fn is_repeatable(&self) -> bool {
        true
    }

    async fn check(&self, hands: &mut Hands<'_>) -> Result<Option<bool>, StepError> {
        self.counts(hands.kubernetes().await?).await.map(|_| None)
    }

    /// How many each has.
    async fn prepare(&self, hands: &mut Hands<'_>) -> Result<Value, StepError> {
        let kubernetes = hands.kubernetes().await?;
        let counts = self.counts(kubernetes).await?;
        if self.to != ScaleTo::Zero {
            return Ok(json!({ "replicas": counts }));
        }
        if counts.values().all(|replicas| *replicas == 0) {
            let message = "every Deployment has 0 replicas already: how many to start again is not known";
            return Err(StepError::new(
                Kind::Refused,
                message,
                "scale them to what they should have, then run it again",
            ));
        }
        // An autoscaler leaves a Deployment of 0 replicas alone, unless 0 is what it may choose itself.
        for scaler in kubernetes.autoscalers().await? {
            if scaler.least == 0 && counts.contains_key(&scaler.deployment) {
                let message = format!("autoscaler `{}` may scale `{}` from 0", scaler.name, scaler.deployment);
                return Err(StepError::new(Kind::Refused, message, "set its minReplicas to 1, or remove it meanwhile"));
            }
        }
        Ok(json!({ "replicas": counts }))
    }

    fn found_again(&self, kept: &Value) -> Value {
        kept.clone()
    }

    async fn run(&self, hands: &mut Hands<'_>, kept: &Value) -> Result<Ran, StepError> {
        let kubernetes = hands.kubernetes().await?.clone();
        let counts = self.counts(&kubernetes).await?;
        let wanted = self.wanted(hands, &counts).ok_or_else(|| {
            StepError::new(Kind::Failed, "how many replicas there were is not known", "name the step that stopped them")
        })?;
        for (name, replicas) in &wanted {
            if counts.get(name) != Some(replicas) {
                kubernetes.scale(name, *replicas).await?;
            }
        }
        Ok(Ran::once(kept.clone()))
    }

    async fn verify(&self, hands: &mut Hands<'_>) -> Result<Option<bool>, StepError> {
        let kubernetes = hands.kubernetes().await?.clone();
        let counts = self.counts(&kubernetes).await?;
        Ok(self.wanted(hands, &counts).map(|wanted| wanted == counts))
    }

    async fn undo(&self, hands: &mut Hands<'_>, kept: &Value) -> Result<(), StepError> {
        let kubernetes = hands.kubernetes().await?.clone();
        let before: BTreeMap<String, i32> = super::kept(&kept["replicas"])?;
        for (name, replicas) in before {
            kubernetes.scale(&name, replicas).await?;
        }
        // Started back here, Temporal must be gone before anything else is taken back.
        if self.to != ScaleTo::Zero {
            gone(&kubernetes, &names(&self.deployments), Span::minutes(5), hands).await?;
        }
        Ok(())
    }
}

/// Waits until no pod of Deployments is left. A rollout's own status says so earlier.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WaitPodsGoneStep {
    /// Which, divided by commas.
    pub deployments: Text,
    /// For how long it is waited.
    #[serde(default = "default_patience")]
    pub within: Span,
}

const fn default_patience() -> Span {
    Span::minutes(5)
}

impl WaitPodsGoneStep {
    pub(super) fn render(&self, values: &Values) -> Result<Self, ParameterError> {
        Ok(Self { deployments: self.deployments.render(values)?, within: self.within })
    }
}

async fn gone(kubernetes: &Kubernetes, deployments: &[&str], within: Span, hands: &Hands<'_>) -> Result<(), StepError> {
    let until = Instant::now() + Duration::from(within);
    let mut selectors = Vec::new();
    for name in deployments {
        selectors.push(kubernetes.deployment(name).await?.selector);
    }
    loop {
        let mut left = Vec::new();
        for selector in &selectors {
            left.extend(kubernetes.pods(selector).await?);
        }
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() >= until {
            let message = format!("pods are still there after {within}: {}", left.join(", "));
            return Err(StepError::new(Kind::Failed, message, "look why they do not end (kubectl describe pod)"));
        }
        tokio::select! {
            () = hands.ctx.cancel.cancelled() => return Err(StepError::Cancelled),
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

#[async_trait]
impl Act for WaitPodsGoneStep {
    fn reversal(&self) -> Reversal {
        Reversal::Nothing
    }

    fn is_repeatable(&self) -> bool {
        true
    }

    async fn run(&self, hands: &mut Hands<'_>, _: &Value) -> Result<Ran, StepError> {
        let kubernetes = hands.kubernetes().await?.clone();
        gone(&kubernetes, &names(&self.deployments), self.within, hands).await?;
        Ok(Ran::once(json!({})))
    }
}

/// Every pod of Deployments made anew, so that they read their configuration again.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RestartStep {
    /// Which, divided by commas.
    pub deployments: Text,
    /// For how long it is waited until they are all available.
    #[serde(default = "default_patience")]
    pub within: Span,
}

impl RestartStep {
    pub(super) fn render(&self, values: &Values) -> Result<Self, ParameterError> {
        Ok(Self { deployments: self.deployments.render(values)?, within: self.within })
    }

    async fn restart(&self, hands: &mut Hands<'_>) -> Result<(), StepError> {
        let kubernetes = hands.kubernetes().await?.clone();
        let at = jiff::Timestamp::now().to_string();
        for name in names(&self.deployments) {
            kubernetes.restart(name, &at).await?;
        }
        let until = Instant::now() + Duration::from(self.within);
        for name in names(&self.deployments) {
            while !kubernetes.deployment(name).await?.is_rolled_out {
                if Instant::now() >= until {
                    let message = format!("Deployment `{name}` is not rolled out after {}", self.within);
                    return Err(StepError::new(Kind::Failed, message, "look at its pods (kubectl describe)"));
                }
                tokio::select! {
                    () = hands.ctx.cancel.cancelled() => return Err(StepError::Cancelled),
                    () = tokio::time::sleep(POLL) => {}
                }
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Act for RestartStep {
    fn reversal(&self) -> Reversal {
        Reversal::Undo
    }

    fn is_repeatable(&self) -> bool {
        true
    }

    async fn run(&self, hands: &mut Hands<'_>, _: &Value) -> Result<Ran, StepError> {
        self.restart(hands).await?;
        Ok(Ran::once(json!({})))
    }

    /// With what was set before taken back, they must read that.
    async fn undo(&self, hands: &mut Hands<'_>, _: &Value) -> Result<(), StepError> {
        self.restart(hands).await
    }
}
