//! Single runs: what the server says of one, its history, and its deletion.

use jiff::Timestamp;
use temporalio_protos::temporal::api::common::v1::WorkflowExecution;
use temporalio_protos::temporal::api::enums::v1::WorkflowExecutionStatus;
use temporalio_protos::temporal::api::workflowservice::v1::{
    DeleteWorkflowExecutionRequest, DescribeWorkflowExecutionRequest, GetWorkflowExecutionHistoryRequest,
};
use uuid::Uuid;

use super::{Temporal, TemporalError};

/// A run as the server describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunState {
    /// False once it has ended. A paused run is open.
    pub is_open: bool,
    /// When it ended.
    pub closed: Option<Timestamp>,
    /// `WorkflowExecutionStatus` of the public API: running 1, completed 2, failed 3.
    pub status: i32,
}

/// What a history that was read to its end holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HistoryEnd {
    /// How many events.
    pub events: i64,
    /// The id of the last one; events are numbered from 1.
    pub last_event: i64,
}

/// A status of the public API as it calls it: `running`, `timed_out`.
#[must_use]
pub fn status_word(status: i32) -> String {
    match WorkflowExecutionStatus::try_from(status) {
        Ok(known) => known.as_str_name().trim_start_matches("WORKFLOW_EXECUTION_STATUS_").to_ascii_lowercase(),
        Err(_) => format!("of the unknown status {status}"),
    }
}

impl Temporal {
    /// What the server itself holds of a run, whatever an index says.
    ///
    /// # Errors
    /// [`TemporalError::RunNotFound`] when there is none, or see [`TemporalError`].
    pub async fn describe_run(&self, namespace: &str, workflow: &str, run: Uuid) -> Result<RunState, TemporalError> {
        let answer = self
            .read("DescribeWorkflowExecution", Some(namespace), |mut frontend| {
                let message = DescribeWorkflowExecutionRequest {
                    namespace: namespace.into(),
                    execution: Some(execution(workflow, run)),
                };
                let request = self.request(message);
                async move { frontend.describe_workflow_execution(request).await }
            })
            .await
            .map_err(|error| self.of_run(error, workflow, run))?;
        let info = answer.workflow_execution_info.unwrap_or_default();
        let ended = [
            WorkflowExecutionStatus::Completed,
            WorkflowExecutionStatus::Failed,
            WorkflowExecutionStatus::Canceled,
            WorkflowExecutionStatus::Terminated,
            WorkflowExecutionStatus::ContinuedAsNew,
            WorkflowExecutionStatus::TimedOut,
        ];
        // A status that is not known here counts as open: nothing is deleted then.
        let is_open = !ended.iter().any(|status| *status as i32 == info.status);
        let closed = info.close_time.and_then(|time| Timestamp::new(time.seconds, time.nanos).ok());
        Ok(RunState { is_open, closed, status: info.status })
    }

    /// Reads a run's whole history, page by page, and counts.
    ///
    /// # Errors
    /// [`TemporalError::RunNotFound`] when there is no such run, or see [`TemporalError`].
    pub async fn history_end(&self, namespace: &str, workflow: &str, run: Uuid) -> Result<HistoryEnd, TemporalError> {
        let (mut end, mut token) = (HistoryEnd::default(), Vec::new());
        loop {
            let page = self
                .read("GetWorkflowExecutionHistory", Some(namespace), |mut frontend| {
                    let message = GetWorkflowExecutionHistoryRequest {
                        namespace: namespace.into(),
                        execution: Some(execution(workflow, run)),
                        next_page_token: token.clone(),
                        ..Default::default()
                    };
                    let request = self.request(message);
                    async move { frontend.get_workflow_execution_history(request).await }
                })
                .await
                .map_err(|error| self.of_run(error, workflow, run))?;
            for event in page.history.iter().flat_map(|history| &history.events) {
                end.events += 1;
                end.last_event = event.event_id;
            }
            token = page.next_page_token;
            if token.is_empty() {
                return Ok(end);
            }
        }
    }

    /// Has the server delete one run, its history and its visibility document with it. It happens a moment later. An
    /// open run would be terminated: look at [`Temporal::describe_run`] before. Not retried.
    ///
    /// # Errors
    /// [`TemporalError::RunNotFound`] when there is none any more, or see [`TemporalError`].
    pub async fn delete_run(&self, namespace: &str, workflow: &str, run: Uuid) -> Result<(), TemporalError> {
        let message = DeleteWorkflowExecutionRequest {
            namespace: namespace.into(),
            workflow_execution: Some(execution(workflow, run)),
        };
        let request = self.request(message);
        let mut frontend = self.frontend();
        let answer = frontend.delete_workflow_execution(request);
        let done = self.once("DeleteWorkflowExecution", Some(namespace), answer).await;
        done.map(drop).map_err(|error| self.of_run(error, workflow, run))
    }

    fn of_run(&self, error: TemporalError, workflow: &str, run: Uuid) -> TemporalError {
        match error {
            TemporalError::Call { code, .. } if code == "NotFound" => TemporalError::RunNotFound {
                address: self.address().to_owned(),
                workflow: workflow.to_owned(),
                run: run.to_string(),
            },
            other => other,
        }
    }
}

/// Always with the run: without it the server takes the latest one.
fn execution(workflow: &str, run: Uuid) -> WorkflowExecution {
    WorkflowExecution { workflow_id: workflow.to_owned(), run_id: run.to_string() }
}
