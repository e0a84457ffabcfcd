//! What Temporal tells: its lists and counts, over gRPC and through its command line.

use std::collections::BTreeMap;

use serde_json::Value;
use temporalio_protos::temporal::api::workflow::v1::WorkflowExecutionInfo;
use temporalio_protos::temporal::api::workflowservice::v1::workflow_service_client::WorkflowServiceClient;
use temporalio_protos::temporal::api::workflowservice::v1::{
    CountWorkflowExecutionsRequest, CountWorkflowExecutionsResponse, ListWorkflowExecutionsRequest,
};
use tonic::transport::Channel;

use super::truth::{camel, status_name};
use super::{Key, Run, attributes};
use crate::support::cluster::Cluster;

/// The most that Temporal gives at once (`frontend.visibilityMaxPageSize`). Its pages have no tiebreaker: two documents
/// with the same times, one of them a copy of the other, may fall between two pages; the counts show that.
const PAGE: i32 = 1000;
/// Pages that are not the end of a list, but of the judge's patience.
const PAGES: usize = 1000;

/// The whole list, and a way to ask for counts.
pub(super) struct Told {
    client: WorkflowServiceClient<Channel>,
    namespace: String,
    /// As it came, with what comes twice.
    pub(super) list: Vec<(Key, Run)>,
}

impl Told {
    pub(super) async fn listen(cluster: &Cluster) -> Self {
        let client = WorkflowServiceClient::new(cluster.channel().await).max_decoding_message_size(64 << 20);
        let mut told = Self { client, namespace: cluster.namespace.clone(), list: Vec::new() };
        let mut request =
            ListWorkflowExecutionsRequest { namespace: told.namespace.clone(), page_size: PAGE, ..Default::default() };
        for _ in 0..PAGES {
            let page = told.client.list_workflow_executions(request.clone()).await.unwrap().into_inner();
            told.list.extend(page.executions.into_iter().map(run));
            if page.next_page_token.is_empty() {
                return told;
            }
            request.next_page_token = page.next_page_token;
        }
        panic!("the list does not end");
    }

    pub(super) async fn count(&self, query: &str) -> u64 {
        self.answer(query).await.count.try_into().unwrap()
    }

    pub(super) async fn count_by_status(&self) -> BTreeMap<String, u64> {
        let groups = self.answer("GROUP BY ExecutionStatus").await.groups.into_iter();
        let group = groups.map(|group| {
            let status: String = serde_json::from_slice(&group.group_values[0].data).unwrap();
            (status, group.count.try_into().unwrap())
        });
        group.collect()
    }

    async fn answer(&self, query: &str) -> CountWorkflowExecutionsResponse {
        let request = CountWorkflowExecutionsRequest { namespace: self.namespace.clone(), query: query.into() };
        let answer = self.client.clone().count_workflow_executions(request).await;
        answer.unwrap_or_else(|refusal| panic!("count of {query}: {refusal}")).into_inner()
    }
}

fn run(info: WorkflowExecutionInfo) -> (Key, Run) {
    let status = status_name(info.status());
    let execution = info.execution.unwrap_or_default();
    let search = info.search_attributes.unwrap_or_default();
    let memo = info.memo.unwrap_or_default();
    let kind = info.r#type.unwrap_or_default().name;
    let run = Run { status, kind, attributes: attributes(&search.indexed_fields, &memo.fields) };
    ((execution.workflow_id, execution.run_id), run)
}

/// `temporal workflow list`: workflow id, run id, status.
pub(super) fn list_by_cli(cluster: &Cluster) -> Vec<(Key, String)> {
    let list = cluster.server.cli_json(&["workflow", "list", "--namespace", &cluster.namespace, "--limit", "1000000"]);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let entry = |entry: &Value| {
        let key = (text(&entry["execution"]["workflowId"]), text(&entry["execution"]["runId"]));
        (key, camel(&text(&entry["status"])))
    };
    list.as_array().unwrap().iter().map(entry).collect()
}

/// `temporal workflow count`.
pub(super) fn count_by_cli(cluster: &Cluster, query: &str) -> u64 {
    let args = ["workflow", "count", "--namespace", &cluster.namespace, "--query", query];
    let count = cluster.server.cli_json(&args)["count"].clone();
    count.as_u64().or_else(|| count.as_str()?.parse().ok()).unwrap_or_default()
}
