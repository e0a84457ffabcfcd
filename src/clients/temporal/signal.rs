//! A signal to a workflow.

use std::collections::HashMap;

use temporalio_protos::temporal::api::common::v1::{Payload, Payloads, WorkflowExecution};
use temporalio_protos::temporal::api::workflowservice::v1::SignalWorkflowExecutionRequest;
use uuid::Uuid;

use super::{Temporal, TemporalError};

/// Which workflow is signalled, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    /// Its namespace.
    pub namespace: String,
    /// The workflow; whichever run of it is open.
    pub workflow: String,
    /// The signal's name.
    pub name: String,
}

impl Temporal {
    /// Signals the open run of a workflow with one JSON value. The server drops a second signal of the same `id`, as
    /// long as it is the same run. Not retried.
    ///
    /// # Errors
    /// [`TemporalError::NotOpen`] when there is no open run, or see [`TemporalError`].
    pub async fn signal(&self, signal: &Signal, value: &serde_json::Value, id: Uuid) -> Result<(), TemporalError> {
        // The encoding that every SDK reads (`json/plain`).
        let metadata = HashMap::from([("encoding".to_owned(), b"json/plain".to_vec())]);
        let payload = Payload { metadata, data: value.to_string().into_bytes(), ..Default::default() };
        let execution = WorkflowExecution { workflow_id: signal.workflow.clone(), run_id: String::new() };
        let message = SignalWorkflowExecutionRequest {
            namespace: signal.namespace.clone(),
            workflow_execution: Some(execution),
            signal_name: signal.name.clone(),
            input: Some(Payloads { payloads: vec![payload] }),
            identity: concat!("sexton/", env!("CARGO_PKG_VERSION")).to_owned(),
            request_id: id.to_string(),
            ..Default::default()
        };
        let request = self.request(message);
        let mut frontend = self.frontend();
        let answer = frontend.signal_workflow_execution(request);
        match self.once("SignalWorkflowExecution", Some(&signal.namespace), answer).await {
            Ok(_) => Ok(()),
            Err(TemporalError::Call { address, code, .. }) if code == "NotFound" => {
                let (workflow, namespace) = (signal.workflow.clone(), signal.namespace.clone());
                Err(TemporalError::NotOpen { address, workflow, namespace })
            }
            Err(error) => Err(error),
        }
    }
}
