//! The server's admin service, which stands behind the frontend's port. Its messages are in no published crate; the
//! fields that are sent are declared here, with the numbers of the server's source at 1.31.

use backon::Retryable;
use prost::Message;
use temporalio_protos::temporal::api::common::v1::WorkflowExecution;
use tonic::codegen::http::uri::PathAndQuery;
use tonic_prost::ProstCodec;
use uuid::Uuid;

use super::call::backoff;
use super::{Temporal, TemporalError};

const REFRESH: &str = "/temporal.server.api.adminservice.v1.AdminService/RefreshWorkflowTasks";

/// `temporal.server.api.adminservice.v1.RefreshWorkflowTasksRequest`.
#[derive(Clone, PartialEq, Message)]
struct RefreshWorkflowTasksRequest {
    #[prost(message, optional, tag = "2")]
    execution: Option<WorkflowExecution>,
    #[prost(string, tag = "3")]
    namespace_id: String,
}

/// `temporal.server.api.adminservice.v1.RefreshWorkflowTasksResponse`.
#[derive(Clone, PartialEq, Message)]
struct RefreshWorkflowTasksResponse {}

impl Temporal {
    /// Makes the server derive all tasks of a run anew from its state: among them the one that writes its visibility
    /// document, with a new and higher version. The write itself follows a moment later. Tasks that exist already
    /// are recognised by the server, so that a repetition is harmless: the call is retried while the server is busy.
    ///
    /// # Errors
    /// See [`TemporalError`]; a run that is gone is [`TemporalError::RunNotFound`].
    pub async fn refresh_workflow_tasks(
        &self,
        namespace: Uuid,
        workflow: &str,
        run: Uuid,
    ) -> Result<(), TemporalError> {
        let refresh = || self.refresh_once(namespace, workflow, run);
        refresh.retry(backoff()).when(TemporalError::is_passing).await
    }

    async fn refresh_once(&self, namespace: Uuid, workflow: &str, run: Uuid) -> Result<(), TemporalError> {
        let execution = WorkflowExecution { workflow_id: workflow.to_owned(), run_id: run.to_string() };
        let message = RefreshWorkflowTasksRequest { execution: Some(execution), namespace_id: namespace.to_string() };
        let request = self.request(message);
        let mut grpc = tonic::client::Grpc::new(self.wire.clone());
        let answer = async {
            grpc.ready().await.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
            let codec: ProstCodec<RefreshWorkflowTasksRequest, RefreshWorkflowTasksResponse> = ProstCodec::default();
            grpc.unary(request, PathAndQuery::from_static(REFRESH), codec).await
        };
        match self.once("RefreshWorkflowTasks", None, answer).await {
            Ok(_) => Ok(()),
            Err(TemporalError::Call { code, address, .. }) if code == "NotFound" => {
                Err(TemporalError::RunNotFound { address, workflow: workflow.to_owned(), run: run.to_string() })
            }
            Err(error) => Err(error),
        }
    }
}
