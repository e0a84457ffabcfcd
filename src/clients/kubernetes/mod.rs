//! Kubernetes, in one namespace: Deployments and their replicas, pods, one Secret. The only place that knows its API.

mod error;
mod secret;
mod workloads;

use std::path::PathBuf;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};

pub use error::KubernetesError;
pub use secret::SecretValues;
pub use workloads::{Autoscaler, Deployment};

/// Which cluster, and what namespace of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The namespace of Temporal's Deployments and Secret.
    pub namespace: String,
    /// A kubeconfig; `None` takes the pod's ServiceAccount, else `KUBECONFIG` or `~/.kube/config`.
    pub kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context; `None` takes its current one.
    pub context: Option<String>,
    /// No call takes longer.
    pub timeout: Duration,
}

/// A client in one namespace.
#[derive(Clone)]
pub struct Kubernetes {
    client: kube::Client,
    namespace: String,
}

impl std::fmt::Debug for Kubernetes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kubernetes").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Kubernetes {
    /// Reads how to log in. Nothing is asked yet.
    ///
    /// # Errors
    /// [`KubernetesError::Login`].
    pub async fn connect(settings: &Settings) -> Result<Self, KubernetesError> {
        let login = |why: String| KubernetesError::Login { why };
        let options = KubeConfigOptions { context: settings.context.clone(), ..KubeConfigOptions::default() };
        let mut config = match &settings.kubeconfig {
            Some(file) => {
                let read = Kubeconfig::read_from(file).map_err(|error| login(error.to_string()))?;
                kube::Config::from_custom_kubeconfig(read, &options).await.map_err(|error| login(error.to_string()))?
            }
            None => kube::Config::infer().await.map_err(|error| login(error.to_string()))?,
        };
        config.connect_timeout = Some(settings.timeout);
        config.read_timeout = Some(settings.timeout);
        config.write_timeout = Some(settings.timeout);
        let client = kube::Client::try_from(config).map_err(|error| login(error.to_string()))?;
        Ok(Self { client, namespace: settings.namespace.clone() })
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }
}
