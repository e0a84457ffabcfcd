use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;

use super::{Kubernetes, KubernetesError};

/// A Deployment, as far as it matters for stopping and starting it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// Its name.
    pub name: String,
    /// Replicas that are wanted.
    pub replicas: i32,
    /// The labels its pods have, as a selector.
    pub selector: String,
    /// True when every wanted replica is of its newest template and available.
    pub is_rolled_out: bool,
}

/// An autoscaler of a Deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Autoscaler {
    /// Its name.
    pub name: String,
    /// The Deployment it scales.
    pub deployment: String,
    /// The fewest replicas it leaves.
    pub least: i32,
}

impl Kubernetes {
    fn deployments_api(&self) -> Api<apps::Deployment> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// A Deployment.
    ///
    /// # Errors
    /// When it is not there or may not be read.
    pub async fn deployment(&self, name: &str) -> Result<Deployment, KubernetesError> {
        let what = format!("Deployment `{name}`");
        let found = self.deployments_api().get(name).await;
        let found =
            found.map_err(|error| KubernetesError::of(&format!("reading {what}"), &what, &self.namespace, &error))?;
        let failed = |why: &str| KubernetesError::Failed { doing: format!("reading {what}"), why: why.to_owned() };
        let spec = found.spec;
        let labels = spec.selector.match_labels.unwrap_or_default();
        if labels.is_empty() || spec.selector.match_expressions.is_some_and(|all| !all.is_empty()) {
            return Err(failed("its selector is not a list of labels"));
        }
        let status = found.status.unwrap_or_default();
        // Left out it is one (apps/v1, DeploymentSpec).
        let replicas = spec.replicas.unwrap_or(1);
        let observed = status.observed_generation >= found.metadata.generation;
        let is_rolled_out = observed
            && status.updated_replicas.unwrap_or(0) == replicas
            && status.available_replicas.unwrap_or(0) == replicas
            && status.replicas.unwrap_or(0) == replicas;
        Ok(Deployment { name: name.to_owned(), replicas, selector: selector(&labels), is_rolled_out })
    }

    /// Sets how many replicas are wanted.
    ///
    /// # Errors
    /// When it may not be scaled.
    pub async fn scale(&self, name: &str, replicas: i32) -> Result<(), KubernetesError> {
        let what = format!("Deployment `{name}`");
        let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
        let scaled = self.deployments_api().patch_scale(name, &PatchParams::default(), &patch).await;
        let doing = format!("scaling {what} to {replicas}");
        scaled.map(drop).map_err(|error| KubernetesError::of(&doing, &what, &self.namespace, &error))
    }

    /// Makes every pod of a Deployment anew, as `kubectl rollout restart` does.
    ///
    /// # Errors
    /// When it may not be changed.
    pub async fn restart(&self, name: &str, at: &str) -> Result<(), KubernetesError> {
        let what = format!("Deployment `{name}`");
        let annotations = json!({ "kubectl.kubernetes.io/restartedAt": at });
        let patch = Patch::Merge(json!({ "spec": { "template": { "metadata": { "annotations": annotations } } } }));
        let done = self.deployments_api().patch(name, &PatchParams::default(), &patch).await;
        let doing = format!("restarting {what}");
        done.map(drop).map_err(|error| KubernetesError::of(&doing, &what, &self.namespace, &error))
    }

    /// The pods that have these labels, whatever state they are in.
    ///
    /// # Errors
    /// When they may not be listed.
    pub async fn pods(&self, selector: &str) -> Result<Vec<String>, KubernetesError> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let doing = format!("listing the pods of {selector}");
        let found = pods.list(&ListParams::default().labels(selector)).await;
        let found = found.map_err(|error| KubernetesError::of(&doing, "pods", &self.namespace, &error))?;
        Ok(found.items.into_iter().filter_map(|pod| pod.metadata.name).collect())
    }

    /// The autoscalers of Deployments.
    ///
    /// # Errors
    /// When they may not be listed.
    pub async fn autoscalers(&self) -> Result<Vec<Autoscaler>, KubernetesError> {
        let all: Api<HorizontalPodAutoscaler> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = all.list(&ListParams::default()).await;
        let doing = "listing the autoscalers";
        let found = found.map_err(|error| KubernetesError::of(doing, "autoscalers", &self.namespace, &error))?;
        let of = |one: HorizontalPodAutoscaler| {
            let spec = one.spec;
            let is_deployment = spec.scale_target_ref.kind == "Deployment";
            let (name, deployment) = (one.metadata.name?, spec.scale_target_ref.name);
            is_deployment.then(|| Autoscaler { name, deployment, least: spec.min_replicas.unwrap_or(1) })
        };
        Ok(found.items.into_iter().filter_map(of).collect())
    }
}

fn selector(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}
