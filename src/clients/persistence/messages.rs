//! The fields that are read of the server's messages. Unknown fields are skipped, so that a server that adds some
//! changes nothing here.

use prost::{DecodeError, Message};

use super::sieve;

/// `WorkflowExecutionState`, the column `executions.state`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct WorkflowExecutionState {
    /// `WorkflowExecutionState` of the server's enums.
    #[prost(int32, tag = "3")]
    pub state: i32,
    /// `WorkflowExecutionStatus` of the public API.
    #[prost(int32, tag = "4")]
    pub status: i32,
    #[prost(message, optional, tag = "6")]
    pub start_time: Option<Timestamp>,
}

/// `WorkflowExecutionInfo`, the column `executions.data`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct WorkflowExecutionInfo {
    #[prost(string, tag = "10")]
    pub workflow_type_name: String,
    #[prost(message, optional, tag = "54")]
    pub version_histories: Option<VersionHistories>,
    #[prost(message, optional, tag = "56")]
    pub execution_stats: Option<ExecutionStats>,
    #[prost(message, optional, tag = "66")]
    pub close_time: Option<Timestamp>,
    /// Set once memo and search attributes were moved out of the execution into the visibility store
    /// (`history.visibilityProcessorEnableCloseWorkflowCleanup`).
    #[prost(bool, tag = "67")]
    pub relocatable_attributes_removed: bool,
}

impl WorkflowExecutionInfo {
    /// The one message with many fields that are not read. It is decoded for every run of a cluster.
    pub(super) fn of(bytes: &[u8]) -> Result<Self, DecodeError> {
        sieve::decode(bytes, Self::reads)
    }

    /// Whether a field is one of those above.
    #[inline]
    pub(super) fn reads(tag: u32) -> bool {
        matches!(tag, 10 | 54 | 56 | 66 | 67)
    }

    /// True for a workflow: other archetypes have no history.
    pub(super) fn has_history(&self) -> bool {
        let mut histories = self.version_histories.iter().flat_map(|all| &all.histories);
        histories.any(|history| !history.branch_token.is_empty())
    }

    /// The branches that hold this run's history, one for each version of it; an unreadable token gives `None`.
    pub(super) fn branches(&self) -> impl Iterator<Item = Option<HistoryBranch>> {
        let histories = self.version_histories.iter().flat_map(|all| &all.histories);
        let tokens = histories.map(|history| &history.branch_token).filter(|token| !token.is_empty());
        tokens.map(|token| HistoryBranch::decode(&**token).ok())
    }
}

/// `ExecutionStats`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct ExecutionStats {
    /// Bytes of the run's history.
    #[prost(int64, tag = "1")]
    pub history_size: i64,
}

/// `TimerTaskInfo`, the column `timer_tasks.data`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TimerTaskInfo {
    #[prost(string, tag = "1")]
    pub namespace_id: String,
    #[prost(string, tag = "2")]
    pub workflow_id: String,
    #[prost(string, tag = "3")]
    pub run_id: String,
    /// `TaskType` of the server's enums.
    #[prost(int32, tag = "4")]
    pub task_type: i32,
}

/// `HistoryTreeInfo`, the column `history_tree.data`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct HistoryTreeInfo {
    #[prost(message, optional, tag = "1")]
    pub branch_info: Option<HistoryBranch>,
    #[prost(message, optional, tag = "2")]
    pub fork_time: Option<Timestamp>,
    /// `namespaceId:workflowId:runId`.
    #[prost(string, tag = "3")]
    pub info: String,
    /// The branch again, where `branch_info` is empty.
    #[prost(bytes = "vec", tag = "4")]
    pub branch_token: Vec<u8>,
}

/// `HistoryBranch`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct HistoryBranch {
    #[prost(string, tag = "1")]
    pub tree_id: String,
    #[prost(string, tag = "2")]
    pub branch_id: String,
    #[prost(message, repeated, tag = "3")]
    pub ancestors: Vec<HistoryBranchRange>,
}

/// `HistoryBranchRange`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct HistoryBranchRange {
    #[prost(string, tag = "1")]
    pub branch_id: String,
    #[prost(int64, tag = "2")]
    pub begin_node_id: i64,
    /// The first node that is not of the branch any more.
    #[prost(int64, tag = "3")]
    pub end_node_id: i64,
}

/// `temporal.api.history.v1.History`, the column `history_node.data`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct History {
    #[prost(message, repeated, tag = "1")]
    pub events: Vec<HistoryEvent>,
}

/// `temporal.api.history.v1.HistoryEvent`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct HistoryEvent {
    #[prost(message, optional, tag = "2")]
    pub event_time: Option<Timestamp>,
}

/// `NamespaceDetail`, the column `namespaces.data`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct NamespaceDetail {
    #[prost(message, optional, tag = "1")]
    pub info: Option<NamespaceInfo>,
    #[prost(message, optional, tag = "2")]
    pub config: Option<NamespaceConfig>,
}

/// `NamespaceInfo`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct NamespaceInfo {
    /// `NamespaceState` of the public API: registered 1, deprecated 2, deleted 3.
    #[prost(int32, tag = "2")]
    pub state: i32,
}

/// `NamespaceConfig`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct NamespaceConfig {
    #[prost(message, optional, tag = "1")]
    pub retention: Option<Duration>,
    /// `ArchivalState` of the public API: disabled 1, enabled 2.
    #[prost(int32, tag = "4")]
    pub history_archival_state: i32,
}

/// `google.protobuf.Duration`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Duration {
    #[prost(int64, tag = "1")]
    pub seconds: i64,
}

/// `ClusterMetadata`, the column `cluster_metadata_info.data`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct ClusterMetadata {
    #[prost(int32, tag = "2")]
    pub history_shard_count: i32,
}

/// `temporal.server.api.history.v1.VersionHistories`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct VersionHistories {
    #[prost(message, repeated, tag = "2")]
    pub histories: Vec<VersionHistory>,
}

/// `temporal.server.api.history.v1.VersionHistory`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct VersionHistory {
    #[prost(bytes = "vec", tag = "1")]
    pub branch_token: Vec<u8>,
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Timestamp {
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

impl Timestamp {
    pub(super) fn instant(self) -> Option<jiff::Timestamp> {
        jiff::Timestamp::new(self.seconds, self.nanos).ok()
    }
}
