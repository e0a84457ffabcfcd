//! Seeds a Temporal cluster for the demo: namespaces whose retentions have drifted, and workflows that a real worker
//! completes, that are terminated, and that stay open. Started a second time it finds everything there.
//!
//! `seed ADDRESS WAVE`: wave 1 starts 360 workflows, wave 2 another 36, for after a rollover.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use temporalio_protos::temporal::api::command::v1::command::Attributes;
use temporalio_protos::temporal::api::command::v1::{Command, CompleteWorkflowExecutionCommandAttributes};
use temporalio_protos::temporal::api::common::v1::{Payload, Payloads, WorkflowExecution, WorkflowType};
use temporalio_protos::temporal::api::enums::v1::{CommandType, WorkflowIdReusePolicy};
use temporalio_protos::temporal::api::taskqueue::v1::TaskQueue;
use temporalio_protos::temporal::api::workflowservice::v1::workflow_service_client::WorkflowServiceClient;
use temporalio_protos::temporal::api::workflowservice::v1::{
    DescribeNamespaceRequest, PollWorkflowTaskQueueRequest, RegisterNamespaceRequest,
    RespondWorkflowTaskCompletedRequest, SignalWorkflowExecutionRequest, StartWorkflowExecutionRequest,
    TerminateWorkflowExecutionRequest,
};
use tonic::transport::Channel;
use tonic::{Code, Request};

type Client = WorkflowServiceClient<Channel>;

const QUEUE: &str = "demo";
/// Name and retention in days; the demo's policy wants 30, and 7 for the last.
const NAMESPACES: [(&str, u64); 3] = [("demo-orders", 3), ("demo-payments", 90), ("demo-audit", 5)];

/// What becomes of a workflow.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Completed,
    Terminated,
    Open,
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(address), Some(wave)) = (args.next(), args.next()) else { bail!("usage: seed ADDRESS WAVE") };
    let each = match wave.as_str() {
        "1" => [60, 40, 20],
        "2" => [6, 4, 2],
        other => bail!("there is no wave {other}; there are 1 and 2"),
    };
    let channel = Channel::from_shared(format!("http://{address}"))?
        .timeout(Duration::from_secs(90))
        .connect()
        .await
        .with_context(|| format!("connecting to Temporal at {address}"))?;
    let mut client = WorkflowServiceClient::new(channel);
    let mut started = 0;
    for (namespace, days) in NAMESPACES {
        register(&mut client, namespace, days).await?;
        let mut to_complete = 0;
        for (fate, count) in [Fate::Completed, Fate::Terminated, Fate::Open].into_iter().zip(each) {
            for number in 0..count {
                let new = start(&mut client, namespace, fate, &format!("{wave}-{number}")).await?;
                started += usize::from(new);
                to_complete += usize::from(new && fate == Fate::Completed);
            }
        }
        complete(&mut client, namespace, to_complete).await?;
    }
    println!("wave {wave}: {started} workflows started in {} namespaces", NAMESPACES.len());
    Ok(())
}

async fn register(client: &mut Client, namespace: &str, days: u64) -> Result<()> {
    let retention = Duration::from_secs(days * 86_400).try_into()?;
    let request = RegisterNamespaceRequest {
        namespace: namespace.into(),
        workflow_execution_retention_period: Some(retention),
        ..Default::default()
    };
    match client.register_namespace(request).await {
        Ok(_) => {}
        Err(status) if status.code() == Code::AlreadyExists => return Ok(()),
        Err(status) => return Err(status).context("registering a namespace"),
    }
    // The frontends learn of a new namespace a moment later: until then a start is refused.
    for _ in 0..100 {
        let request = DescribeNamespaceRequest { namespace: namespace.into(), ..Default::default() };
        let probe = StartWorkflowExecutionRequest { namespace: namespace.into(), ..Default::default() };
        client.describe_namespace(request).await?;
        // An incomplete request is refused for its own sake once the namespace is known.
        match client.start_workflow_execution(probe).await {
            Err(status) if status.code() == Code::NotFound => tokio::time::sleep(Duration::from_millis(200)).await,
            _ => return Ok(()),
        }
    }
    bail!("namespace {namespace} was registered but does not become known")
}

/// Starts a workflow and gives it its fate, but for completion; `false` when it was there already.
async fn start(client: &mut Client, namespace: &str, fate: Fate, number: &str) -> Result<bool> {
    let (name, kind) = match fate {
        Fate::Completed => ("checkout", "Checkout"),
        Fate::Terminated => ("shipment", "Shipment"),
        Fate::Open => ("subscription", "Subscription"),
    };
    let id = format!("{name}-{number}");
    // Only completed workflows go to the queue the worker polls; the others wait for a worker that never comes.
    let queue = if fate == Fate::Completed { QUEUE } else { "nobody" };
    let request = StartWorkflowExecutionRequest {
        namespace: namespace.into(),
        workflow_id: id.clone(),
        workflow_type: Some(WorkflowType { name: kind.into() }),
        task_queue: Some(TaskQueue { name: queue.into(), ..Default::default() }),
        request_id: uuid::Uuid::new_v4().to_string(),
        identity: "demo-seed".into(),
        input: Some(text(&format!("order {number} of {namespace}"))),
        workflow_id_reuse_policy: WorkflowIdReusePolicy::RejectDuplicate.into(),
        ..Default::default()
    };
    match client.start_workflow_execution(request).await {
        Ok(_) => {}
        Err(status) if status.code() == Code::AlreadyExists => return Ok(false),
        Err(status) => return Err(status).with_context(|| format!("starting {id} in {namespace}")),
    }
    let execution = Some(WorkflowExecution { workflow_id: id, run_id: String::new() });
    match fate {
        Fate::Completed => {}
        Fate::Terminated => {
            let request = TerminateWorkflowExecutionRequest {
                namespace: namespace.into(),
                workflow_execution: execution,
                reason: "the parcel came back".into(),
                identity: "demo-seed".into(),
                ..Default::default()
            };
            client.terminate_workflow_execution(request).await?;
        }
        Fate::Open => {
            let request = SignalWorkflowExecutionRequest {
                namespace: namespace.into(),
                workflow_execution: execution,
                signal_name: "renewed".into(),
                input: Some(text(&"a year of daily deliveries; ".repeat(40))),
                identity: "demo-seed".into(),
                ..Default::default()
            };
            client.signal_workflow_execution(request).await?;
        }
    }
    Ok(true)
}

/// The worker: takes this many workflow tasks and completes their workflows.
async fn complete(client: &mut Client, namespace: &str, mut remaining: usize) -> Result<()> {
    while remaining > 0 {
        let mut request = Request::new(PollWorkflowTaskQueueRequest {
            namespace: namespace.into(),
            task_queue: Some(TaskQueue { name: QUEUE.into(), ..Default::default() }),
            identity: "demo-seed".into(),
            ..Default::default()
        });
        request.set_timeout(Duration::from_secs(80));
        let task = client.poll_workflow_task_queue(request).await.context("polling for a task")?.into_inner();
        if task.task_token.is_empty() {
            bail!("{remaining} workflows of {namespace} never came to the worker");
        }
        let done = CompleteWorkflowExecutionCommandAttributes { result: Some(text("delivered")) };
        let command = Command {
            command_type: CommandType::CompleteWorkflowExecution.into(),
            attributes: Some(Attributes::CompleteWorkflowExecutionCommandAttributes(done)),
            ..Default::default()
        };
        let answer = RespondWorkflowTaskCompletedRequest {
            namespace: namespace.into(),
            task_token: task.task_token,
            commands: vec![command],
            identity: "demo-seed".into(),
            ..Default::default()
        };
        client.respond_workflow_task_completed(answer).await.context("completing a workflow")?;
        remaining -= 1;
    }
    Ok(())
}

fn text(text: &str) -> Payloads {
    let metadata = [("encoding".to_owned(), b"json/plain".to_vec())].into();
    let data = serde_json::to_vec(text).unwrap_or_default();
    Payloads { payloads: vec![Payload { metadata, data, ..Default::default() }] }
}
