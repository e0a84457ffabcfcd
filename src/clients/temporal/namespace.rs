//! Namespaces: reading, registering, changing.

use std::collections::BTreeMap;
use std::time::Duration;

use temporalio_protos::temporal::api::enums::v1::NamespaceState as WireState;
use temporalio_protos::temporal::api::namespace::v1::{NamespaceConfig, UpdateNamespaceInfo};
use temporalio_protos::temporal::api::workflowservice::v1::{
    CountWorkflowExecutionsRequest, DescribeNamespaceRequest, DescribeNamespaceResponse, ListNamespacesRequest,
    RegisterNamespaceRequest, UpdateNamespaceRequest,
};
use uuid::Uuid;

use super::{Temporal, TemporalError};

const PAGE_SIZE: i32 = 100;

/// A namespace as the server describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// Fixed for life; a namespace deleted and registered again under its name has another.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// Where it is in its life.
    pub state: NamespaceState,
    /// Free text; empty when none was given.
    pub description: String,
    /// The owner's e-mail address; empty when none was given.
    pub owner: String,
    /// How long a closed run is kept.
    pub retention: Duration,
    /// True for one that is replicated between clusters.
    pub is_global: bool,
    /// The cluster in which it is active; `None` when the server does not say.
    pub active_cluster: Option<String>,
    /// The user's own keys and values.
    pub data: BTreeMap<String, String>,
}

/// Where a namespace is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamespaceState {
    /// In use.
    Registered,
    /// No new workflows should start there.
    Deprecated,
    /// Being deleted.
    Deleted,
    /// A state this version does not know.
    Unknown,
}

/// A namespace to register. It is local to its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNamespace {
    /// Its name.
    pub name: String,
    /// How long a closed run is kept.
    pub retention: Duration,
    /// The owner's e-mail address.
    pub owner: Option<String>,
    /// Free text.
    pub description: Option<String>,
    /// The user's own keys and values.
    pub data: BTreeMap<String, String>,
}

/// The fields to change; `None` leaves a field as it is. Temporal cannot set a text back to empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NamespaceUpdate {
    /// How long a closed run is kept.
    pub retention: Option<Duration>,
    /// The owner's e-mail address.
    pub owner: Option<String>,
    /// Free text.
    pub description: Option<String>,
    /// Of the user's own keys those to set. Temporal merges them into what is there
    /// (`service/frontend/namespace_handler.go`, `mergeNamespaceData`): it cannot remove a key.
    pub data: BTreeMap<String, String>,
}

impl NamespaceUpdate {
    /// True when it would change nothing. Sent all the same, it would still count up the namespace's `config_version`.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// True when the namespace has all these values.
    #[must_use]
    pub fn is_met_by(&self, namespace: &Namespace) -> bool {
        self.retention.is_none_or(|retention| retention == namespace.retention)
            && self.owner.as_ref().is_none_or(|owner| *owner == namespace.owner)
            && self.description.as_ref().is_none_or(|description| *description == namespace.description)
            && self.data.iter().all(|(key, value)| namespace.data.get(key) == Some(value))
    }
}

impl Temporal {
    /// Every namespace but those being deleted, by name.
    ///
    /// # Errors
    /// See [`TemporalError`].
    pub async fn list_namespaces(&self) -> Result<Vec<Namespace>, TemporalError> {
        // Keyed by id: a page boundary that moves while namespaces come and go may show one twice.
        let mut found = BTreeMap::new();
        let mut token = Vec::new();
        loop {
            let page = self
                .read("ListNamespaces", None, |mut frontend| {
                    let message = ListNamespacesRequest {
                        page_size: PAGE_SIZE,
                        next_page_token: token.clone(),
                        ..Default::default()
                    };
                    let request = self.request(message);
                    async move { frontend.list_namespaces(request).await }
                })
                .await?;
            for answer in page.namespaces {
                let namespace = self.parse("ListNamespaces", answer)?;
                found.insert(namespace.id, namespace);
            }
            if page.next_page_token.is_empty() {
                break;
            }
            if page.next_page_token == token {
                return Err(self.odd("ListNamespaces", "two pages have the same continuation"));
            }
            token = page.next_page_token;
        }
        let mut namespaces: Vec<Namespace> = found.into_values().collect();
        namespaces.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(namespaces)
    }

    /// One namespace, read through to the server's database.
    ///
    /// # Errors
    /// [`TemporalError::NamespaceNotFound`], or see there.
    pub async fn describe_namespace(&self, name: &str) -> Result<Namespace, TemporalError> {
        let answer = self
            .read("DescribeNamespace", Some(name), |mut frontend| {
                let message = DescribeNamespaceRequest { namespace: name.into(), ..Default::default() };
                let request = self.request(message);
                async move { frontend.describe_namespace(request).await }
            })
            .await?;
        self.parse("DescribeNamespace", answer)
    }

    /// Registers a local namespace. Not retried.
    ///
    /// # Errors
    /// [`TemporalError::NamespaceExists`], or see there.
    pub async fn register_namespace(&self, new: &NewNamespace) -> Result<(), TemporalError> {
        let mut message = RegisterNamespaceRequest {
            namespace: new.name.clone(),
            description: new.description.clone().unwrap_or_default(),
            owner_email: new.owner.clone().unwrap_or_default(),
            data: new.data.clone().into_iter().collect(),
            ..Default::default()
        };
        message.workflow_execution_retention_period =
            Some(new.retention.try_into().map_err(|_| self.odd("RegisterNamespace", "the retention is out of range"))?);
        let request = self.request(message);
        let mut frontend = self.frontend();
        self.once("RegisterNamespace", Some(&new.name), frontend.register_namespace(request)).await?;
        Ok(())
    }

    /// Changes the given fields and returns the namespace as it is afterwards. Not retried.
    ///
    /// # Errors
    /// [`TemporalError::NamespaceNotFound`], [`TemporalError::Exhausted`] (about one change per second and namespace
    /// is allowed: dynamic config `frontend.namespaceRPS.namespaceReplicationInducingAPIs`), or see there.
    pub async fn update_namespace(&self, name: &str, update: &NamespaceUpdate) -> Result<Namespace, TemporalError> {
        let mut message = UpdateNamespaceRequest { namespace: name.into(), ..Default::default() };
        if let Some(retention) = update.retention {
            let ttl = retention.try_into().map_err(|_| self.odd("UpdateNamespace", "the retention is out of range"))?;
            message.config =
                Some(NamespaceConfig { workflow_execution_retention_ttl: Some(ttl), ..Default::default() });
        }
        if update.owner.is_some() || update.description.is_some() || !update.data.is_empty() {
            message.update_info = Some(UpdateNamespaceInfo {
                owner_email: update.owner.clone().unwrap_or_default(),
                description: update.description.clone().unwrap_or_default(),
                data: update.data.clone().into_iter().collect(),
                ..Default::default()
            });
        }
        let request = self.request(message);
        let mut frontend = self.frontend();
        let answer = self.once("UpdateNamespace", Some(name), frontend.update_namespace(request)).await?;
        let answer = DescribeNamespaceResponse {
            namespace_info: answer.namespace_info,
            config: answer.config,
            replication_config: answer.replication_config,
            is_global_namespace: answer.is_global_namespace,
            ..Default::default()
        };
        self.parse("UpdateNamespace", answer)
    }

    /// The number of runs that match a visibility query; an empty query counts all. Eventually consistent.
    ///
    /// # Errors
    /// See [`TemporalError`].
    pub async fn count_workflows(&self, namespace: &str, query: &str) -> Result<u64, TemporalError> {
        let answer = self
            .read("CountWorkflowExecutions", Some(namespace), |mut frontend| {
                let message = CountWorkflowExecutionsRequest { namespace: namespace.into(), query: query.into() };
                let request = self.request(message);
                async move { frontend.count_workflow_executions(request).await }
            })
            .await?;
        u64::try_from(answer.count).map_err(|_| self.odd("CountWorkflowExecutions", "the count is negative"))
    }

    fn parse(&self, call: &str, answer: DescribeNamespaceResponse) -> Result<Namespace, TemporalError> {
        let info = answer.namespace_info.ok_or_else(|| self.odd(call, "it holds no namespace"))?;
        let id = Uuid::parse_str(&info.id).map_err(|_| self.odd(call, "a namespace id is no UUID"))?;
        let ttl = answer.config.and_then(|config| config.workflow_execution_retention_ttl).unwrap_or_default();
        let retention = ttl.try_into().map_err(|_| self.odd(call, "a retention is negative"))?;
        let active_cluster = answer.replication_config.map(|replication| replication.active_cluster_name);
        Ok(Namespace {
            id,
            state: NamespaceState::of(info.state),
            name: info.name,
            description: info.description,
            owner: info.owner_email,
            retention,
            is_global: answer.is_global_namespace,
            active_cluster: active_cluster.filter(|name| !name.is_empty()),
            data: info.data.into_iter().collect(),
        })
    }

    fn odd(&self, call: &str, problem: &str) -> TemporalError {
        TemporalError::Answer { address: self.address().into(), call: call.into(), problem: problem.into() }
    }
}

impl NamespaceState {
    fn of(wire: i32) -> Self {
        match WireState::try_from(wire) {
            Ok(WireState::Registered) => Self::Registered,
            Ok(WireState::Deprecated) => Self::Deprecated,
            Ok(WireState::Deleted) => Self::Deleted,
            Ok(WireState::Unspecified) | Err(_) => Self::Unknown,
        }
    }
}

impl std::fmt::Display for NamespaceState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Registered => "registered",
            Self::Deprecated => "deprecated",
            Self::Deleted => "being deleted",
            Self::Unknown => "in a state unknown to this version",
        })
    }
}
