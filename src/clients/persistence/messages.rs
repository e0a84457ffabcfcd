//! The fields that are read of the server's messages. Unknown fields are skipped, so that a server that adds some
//! changes nothing here.

use prost::Message;

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
    #[prost(message, optional, tag = "54")]
    pub version_histories: Option<VersionHistories>,
    #[prost(message, optional, tag = "66")]
    pub close_time: Option<Timestamp>,
    /// Set once memo and search attributes were moved out of the execution into the visibility store
    /// (`history.visibilityProcessorEnableCloseWorkflowCleanup`).
    #[prost(bool, tag = "67")]
    pub relocatable_attributes_removed: bool,
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
