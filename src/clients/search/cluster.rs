//! What is asked of the cluster as a whole: its settings, the room on its disks, the login's privileges.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::error::SearchError;
use super::indices::entries;
use super::transport::{Call, Search};

/// The disk of one node that holds shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeDisk {
    /// The node's name.
    pub node: String,
    /// Bytes in all.
    pub total: u64,
    /// Bytes free for the engine.
    pub available: u64,
}

impl Search {
    /// The cluster's settings by full name, defaults included; what was set for the time being wins.
    ///
    /// # Errors
    /// Any [`SearchError`].
    pub async fn cluster_settings(&self) -> Result<BTreeMap<String, Value>, SearchError> {
        let call = Call::get("/_cluster/settings").query("include_defaults", "true").query("flat_settings", "true");
        let body = self.call(call).await?;
        let mut settings = BTreeMap::new();
        for level in ["defaults", "persistent", "transient"] {
            settings.extend(entries(&body[level]).map(|(key, value)| (key.clone(), value.clone())));
        }
        Ok(settings)
    }

    /// The disks of the nodes that hold shards.
    ///
    /// # Errors
    /// Any [`SearchError`].
    pub async fn disks(&self) -> Result<Vec<NodeDisk>, SearchError> {
        let fields = "nodes.*.name,nodes.*.roles,nodes.*.fs.total";
        let body = self.call(Call::get("/_nodes/stats/fs").query("filter_path", fields)).await?;
        let nodes = entries(&body["nodes"]).filter(|(_, node)| {
            let mut roles = node["roles"].as_array().into_iter().flatten().filter_map(Value::as_str);
            roles.any(|role| role.starts_with("data"))
        });
        let disk = |(id, node): (&String, &Value)| {
            let total = &node["fs"]["total"];
            Some(NodeDisk {
                node: node["name"].as_str().unwrap_or(id).to_owned(),
                total: total["total_in_bytes"].as_u64()?,
                available: total["available_in_bytes"].as_u64()?,
            })
        };
        Ok(nodes.filter_map(disk).collect())
    }

    /// Bytes of an open index: of its primary shards, and of all copies.
    ///
    /// # Errors
    /// Any [`SearchError`].
    pub async fn store_bytes(&self, index: &str) -> Result<(u64, u64), SearchError> {
        let path = format!("/{}/_stats/store", super::transport::segment(index));
        let body = self.call(Call::get(path)).await?;
        let bytes = |part: &str| body["_all"][part]["store"]["size_in_bytes"].as_u64().unwrap_or(0);
        Ok((bytes("primaries"), bytes("total")))
    }

    /// The privileges that the login lacks, as `cluster monitor` and `manage on <index>`; `None` where the engine
    /// cannot be asked: without X-Pack's security there is no such call.
    ///
    /// # Errors
    /// Any [`SearchError`] but the one that says there is no such call.
    pub async fn missing_privileges(
        &self,
        cluster: &[&str],
        indices: &[&str],
        privileges: &[&str],
    ) -> Result<Option<Vec<String>>, SearchError> {
        let body = json!({"cluster": cluster, "index": [{"names": indices, "privileges": privileges}]});
        let call = Call::post("/_security/user/_has_privileges", Some(body)).repeatable();
        let answer = match self.call(call).await {
            Ok(answer) => answer,
            Err(SearchError::Unexpected { status: 400 | 405 | 500 | 501, .. } | SearchError::NotFound { .. }) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let denied = |of: &Value| -> Vec<String> {
            entries(of).filter(|(_, granted)| **granted == false).map(|(name, _)| name.clone()).collect()
        };
        let mut missing: Vec<String> =
            denied(&answer["cluster"]).into_iter().map(|name| format!("`{name}` on the cluster")).collect();
        for (index, granted) in entries(&answer["index"]) {
            missing.extend(denied(granted).into_iter().map(|name| format!("`{name}` on {index}")));
        }
        Ok(Some(missing))
    }
}
