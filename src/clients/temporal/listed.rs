//! What the server lists: the answer of its visibility store, whichever that is.

use jiff::Timestamp;
use temporalio_protos::temporal::api::workflow::v1::WorkflowExecutionInfo;
use temporalio_protos::temporal::api::workflowservice::v1::ListWorkflowExecutionsRequest;
use uuid::Uuid;

use super::{Temporal, TemporalError};

/// Runs on a page; the server gives no more by default (`frontend.visibilityMaxPageSize`).
const PAGE_SIZE: i32 = 1_000;

/// A closed run as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedRun {
    /// The workflow's id.
    pub workflow: String,
    /// The run.
    pub run: Uuid,
    /// When it ended.
    pub closed: Timestamp,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListedPage {
    /// The runs. Behind a rolling alias one may be there twice.
    pub runs: Vec<ListedRun>,
    /// What asks for the next page; empty on the last one.
    pub next: Vec<u8>,
}

impl Temporal {
    /// A page of the runs of a namespace that are listed as closed before this instant; `page` is empty at first.
    ///
    /// # Errors
    /// See [`TemporalError`].
    pub async fn listed_closed_before(
        &self,
        namespace: &str,
        before: Timestamp,
        page: Vec<u8>,
    ) -> Result<ListedPage, TemporalError> {
        let answer = self
            .read("ListWorkflowExecutions", Some(namespace), |mut frontend| {
                let message = ListWorkflowExecutionsRequest {
                    namespace: namespace.into(),
                    page_size: PAGE_SIZE,
                    next_page_token: page.clone(),
                    query: format!("CloseTime < \"{before}\""),
                };
                let request = self.request(message);
                async move { frontend.list_workflow_executions(request).await }
            })
            .await?;
        Ok(ListedPage {
            runs: answer.executions.into_iter().filter_map(listed).collect(),
            next: answer.next_page_token,
        })
    }
}

/// `None` when it names no run, or does not say when it ended.
fn listed(info: WorkflowExecutionInfo) -> Option<ListedRun> {
    let (execution, time) = (info.execution?, info.close_time?);
    Some(ListedRun {
        run: Uuid::parse_str(&execution.run_id).ok()?,
        workflow: execution.workflow_id,
        closed: Timestamp::new(time.seconds, time.nanos).ok()?,
    })
}
