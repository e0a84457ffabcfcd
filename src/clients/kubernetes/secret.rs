use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Map, Value, json};

use super::{Kubernetes, KubernetesError};

/// A Secret's values, as they were at one moment. They do not print.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValues {
    /// What a change names, so that somebody else's change in between is noticed.
    pub version: String,
    values: BTreeMap<String, Vec<u8>>,
}

impl std::fmt::Debug for SecretValues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretValues").field("version", &self.version).finish_non_exhaustive()
    }
}

impl SecretValues {
    /// The value of a key; `None` when there is no such key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.values.get(key).map(Vec::as_slice)
    }
}

impl Kubernetes {
    /// The values of a Secret.
    ///
    /// # Errors
    /// When it is not there or may not be read.
    pub async fn secret(&self, name: &str) -> Result<SecretValues, KubernetesError> {
        let what = format!("Secret `{name}`");
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = api.get(name).await;
        let found =
            found.map_err(|error| KubernetesError::of(&format!("reading {what}"), &what, &self.namespace, &error))?;
        let values = found.data.unwrap_or_default().into_iter().map(|(key, ByteString(value))| (key, value)).collect();
        Ok(SecretValues { version: found.metadata.resource_version.unwrap_or_default(), values })
    }

    /// Sets keys of a Secret, or removes those without a value, provided that it is as it was at `version`.
    ///
    /// # Errors
    /// [`KubernetesError::Conflict`] when it is not.
    pub async fn set_secret(
        &self,
        name: &str,
        version: &str,
        values: &BTreeMap<String, Option<Vec<u8>>>,
    ) -> Result<(), KubernetesError> {
        let what = format!("Secret `{name}`");
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut data = Map::new();
        for (key, value) in values {
            let value = value.as_ref().map_or(Value::Null, |value| json!(ByteString(value.clone())));
            data.insert(key.clone(), value);
        }
        let patch = Patch::Merge(json!({ "metadata": { "resourceVersion": version }, "data": data }));
        let set = api.patch(name, &PatchParams::default(), &patch).await;
        set.map(drop).map_err(|error| KubernetesError::of(&format!("setting {what}"), &what, &self.namespace, &error))
    }
}
