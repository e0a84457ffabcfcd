//! Workflows made one step at a time over gRPC, with resets, for tests that care about the shape of each history. A load
//! without customers (`support::load`) is the worker: it answers every task, and ends a run that is told to.

use std::time::Duration;

use temporalio_protos::temporal::api::command::v1::command::Attributes;
use temporalio_protos::temporal::api::command::v1::{Command, StartChildWorkflowExecutionCommandAttributes};
use temporalio_protos::temporal::api::common::v1::{WorkflowExecution, WorkflowType};
use temporalio_protos::temporal::api::enums::v1::{
    CommandType, EventType, ResetReapplyExcludeType, WorkflowExecutionStatus,
};
use temporalio_protos::temporal::api::history::v1::HistoryEvent;
use temporalio_protos::temporal::api::taskqueue::v1::TaskQueue;
use temporalio_protos::temporal::api::workflowservice::v1::workflow_service_client::WorkflowServiceClient;
use temporalio_protos::temporal::api::workflowservice::v1::{
    DeleteWorkflowExecutionRequest, DescribeWorkflowExecutionRequest, DescribeWorkflowExecutionResponse,
    GetWorkflowExecutionHistoryRequest, PollActivityTaskQueueRequest, PollWorkflowTaskQueueRequest,
    ResetWorkflowExecutionRequest, RespondActivityTaskCompletedRequest, RespondWorkflowTaskCompletedRequest,
    SignalWorkflowExecutionRequest, StartWorkflowExecutionRequest, TerminateWorkflowExecutionRequest,
};
use tonic::Code;
use tonic::transport::Channel;

use super::cluster::Cluster;
use super::load::{Load, LoadOptions};
use super::search::eventually;

/// The queue of the load's worker.
const QUEUE: &str = "load";

/// A hand on the cluster's namespace.
#[derive(Debug, Clone)]
pub struct Workflows {
    client: WorkflowServiceClient<Channel>,
    namespace: String,
}

/// A run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    pub workflow: String,
    pub id: String,
}

impl Run {
    fn execution(&self) -> Option<WorkflowExecution> {
        Some(WorkflowExecution { workflow_id: self.workflow.clone(), run_id: self.id.clone() })
    }
}

/// A worker for them.
pub fn worker(cluster: &Cluster) -> Load<'_> {
    Load::start(cluster, LoadOptions { clients: 0, pollers: 4, ..LoadOptions::default() })
}

impl Workflows {
    pub async fn on(cluster: &Cluster) -> Self {
        Self { client: WorkflowServiceClient::new(cluster.channel().await), namespace: cluster.namespace.clone() }
    }

    /// Starts one and waits until the worker has answered its first task.
    pub async fn start(&self, workflow: &str) -> Run {
        self.start_on(workflow, QUEUE, "Order").await
    }

    /// Starts one on any queue, of any type; waits for nothing unless it is the worker's queue.
    pub async fn start_on(&self, workflow: &str, queue: &str, kind: &str) -> Run {
        let request = self.start_request(workflow, queue, kind);
        let started = self.client.clone().start_workflow_execution(request).await.unwrap().into_inner();
        let run = Run { workflow: workflow.into(), id: started.run_id };
        if queue == QUEUE {
            self.settle(&run, 0).await;
        }
        run
    }

    /// Starts one whose id is taken by an open one; panics unless Temporal refuses.
    pub async fn refused_start(&self, workflow: &str) {
        let request = self.start_request(workflow, QUEUE, "Order");
        let refused = self.client.clone().start_workflow_execution(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::AlreadyExists);
    }

    fn start_request(&self, workflow: &str, queue: &str, kind: &str) -> StartWorkflowExecutionRequest {
        StartWorkflowExecutionRequest {
            namespace: self.namespace.clone(),
            workflow_id: workflow.into(),
            workflow_type: Some(WorkflowType { name: kind.into() }),
            task_queue: Some(TaskQueue { name: queue.into(), ..Default::default() }),
            request_id: uuid::Uuid::new_v4().to_string(),
            ..Default::default()
        }
    }

    /// Sends a signal and waits until the worker has answered it.
    pub async fn signal(&self, run: &Run, name: &str) {
        let before = self.history(run).await.len();
        self.send(run, name).await;
        self.settle(run, before).await;
    }

    /// Sends a signal and waits for nothing.
    async fn send(&self, run: &Run, name: &str) {
        let request = SignalWorkflowExecutionRequest {
            namespace: self.namespace.clone(),
            workflow_execution: run.execution(),
            signal_name: name.into(),
            request_id: uuid::Uuid::new_v4().to_string(),
            ..Default::default()
        };
        self.client.clone().signal_workflow_execution(request).await.unwrap();
    }

    /// Waits until the run has more events than before, and the last of them is a task's answer or the run's end.
    async fn settle(&self, run: &Run, before: usize) {
        let what = format!("the worker has answered {run:?}");
        eventually(&what, async || {
            let events = self.history(run).await;
            let last = events.last()?.event_type();
            let rests = last == EventType::WorkflowTaskCompleted || self.is_closed(run).await;
            (events.len() > before && rests).then_some(())
        })
        .await;
    }

    /// The tasks that the worker has answered in a run, from which it can be reset.
    pub async fn answers(&self, run: &Run) -> Vec<i64> {
        let events = self.history(run).await;
        let answers = events.iter().filter(|event| event.event_type() == EventType::WorkflowTaskCompleted);
        answers.map(|event| event.event_id).collect()
    }

    /// Resets a run to an answer, by its place among them, and waits until the worker has answered the new run.
    pub async fn reset(&self, run: &Run, answer: usize) -> Run {
        let answers = self.answers(run).await;
        let at = answers.get(answer).unwrap_or_else(|| panic!("{run:?} has no answer {answer}: {answers:?}"));
        let request = ResetWorkflowExecutionRequest {
            namespace: self.namespace.clone(),
            workflow_execution: run.execution(),
            reason: "test".into(),
            workflow_task_finish_event_id: *at,
            request_id: uuid::Uuid::new_v4().to_string(),
            reset_reapply_exclude_types: vec![ResetReapplyExcludeType::Signal.into()],
            ..Default::default()
        };
        let reset = self.client.clone().reset_workflow_execution(request).await.unwrap().into_inner();
        let new = Run { workflow: run.workflow.clone(), id: reset.run_id };
        self.settle(&new, usize::try_from(*at).unwrap()).await;
        new
    }

    /// Starts a workflow that starts another one on the worker's queue and stays open.
    pub async fn start_with_child(&self, workflow: &str, child: &str) -> Run {
        const PARENTS: &str = "parents";
        let run = self.start_on(workflow, PARENTS, "Parent").await;
        let mut client = self.client.clone();
        let mut poll = tonic::Request::new(PollWorkflowTaskQueueRequest {
            namespace: self.namespace.clone(),
            task_queue: Some(TaskQueue { name: PARENTS.into(), ..Default::default() }),
            ..Default::default()
        });
        poll.set_timeout(Duration::from_secs(30));
        let task = client.poll_workflow_task_queue(poll).await.unwrap().into_inner();
        let start = StartChildWorkflowExecutionCommandAttributes {
            workflow_id: child.into(),
            workflow_type: Some(WorkflowType { name: "Child".into() }),
            task_queue: Some(TaskQueue { name: QUEUE.into(), ..Default::default() }),
            ..Default::default()
        };
        let command = Command {
            command_type: CommandType::StartChildWorkflowExecution.into(),
            attributes: Some(Attributes::StartChildWorkflowExecutionCommandAttributes(start)),
            ..Default::default()
        };
        let answer = RespondWorkflowTaskCompletedRequest {
            namespace: self.namespace.clone(),
            task_token: task.task_token,
            commands: vec![command],
            ..Default::default()
        };
        client.respond_workflow_task_completed(answer).await.unwrap();
        eventually("the child has started", async || {
            let events = self.history(&run).await;
            let started = |event: &HistoryEvent| event.event_type() == EventType::ChildWorkflowExecutionStarted;
            events.iter().any(started).then_some(())
        })
        .await;
        run
    }

    /// Has the workflow run an activity, and does its work.
    pub async fn activity(&self, run: &Run) {
        let before = self.history(run).await.len();
        self.send(run, "work").await;
        let mut poll = tonic::Request::new(PollActivityTaskQueueRequest {
            namespace: self.namespace.clone(),
            task_queue: Some(TaskQueue { name: QUEUE.into(), ..Default::default() }),
            ..Default::default()
        });
        poll.set_timeout(Duration::from_secs(30));
        let task = self.client.clone().poll_activity_task_queue(poll).await.unwrap().into_inner();
        let answer = RespondActivityTaskCompletedRequest {
            namespace: self.namespace.clone(),
            task_token: task.task_token,
            ..Default::default()
        };
        self.client.clone().respond_activity_task_completed(answer).await.unwrap();
        self.until(run, before, EventType::ActivityTaskCompleted).await;
    }

    /// Has the workflow wait for a timer of a second.
    pub async fn timer(&self, run: &Run) {
        let before = self.history(run).await.len();
        self.send(run, "wait").await;
        self.until(run, before, EventType::TimerFired).await;
    }

    /// Waits until there is such an event beyond the first ones, and the worker has answered it.
    async fn until(&self, run: &Run, before: usize, kind: EventType) {
        eventually(&format!("{kind:?} of {run:?}"), async || {
            let events = self.history(run).await;
            let place = events.iter().skip(before).position(|event| event.event_type() == kind)?;
            let answered = |event: &HistoryEvent| event.event_type() == EventType::WorkflowTaskCompleted;
            events.iter().skip(before + place).any(answered).then_some(())
        })
        .await;
    }

    /// Ends a run at once.
    pub async fn terminate(&self, run: &Run) {
        let request = TerminateWorkflowExecutionRequest {
            namespace: self.namespace.clone(),
            workflow_execution: run.execution(),
            reason: "test".into(),
            ..Default::default()
        };
        self.client.clone().terminate_workflow_execution(request).await.unwrap();
    }

    /// Asks Temporal to delete a run, which it does some time after.
    pub async fn delete(&self, run: &Run) {
        let request =
            DeleteWorkflowExecutionRequest { namespace: self.namespace.clone(), workflow_execution: run.execution() };
        self.client.clone().delete_workflow_execution(request).await.unwrap();
    }

    /// Every event, in pages of three.
    pub async fn history(&self, run: &Run) -> Vec<HistoryEvent> {
        let (mut events, mut token) = (Vec::new(), Vec::new());
        loop {
            let request = GetWorkflowExecutionHistoryRequest {
                namespace: self.namespace.clone(),
                execution: run.execution(),
                maximum_page_size: 3,
                next_page_token: token,
                ..Default::default()
            };
            let page = self.client.clone().get_workflow_execution_history(request).await;
            let page = page.unwrap_or_else(|refusal| panic!("the history of {run:?}: {refusal}")).into_inner();
            events.extend(page.history.into_iter().flat_map(|history| history.events));
            token = page.next_page_token;
            if token.is_empty() {
                return events;
            }
        }
    }

    pub async fn describe(&self, run: &Run) -> DescribeWorkflowExecutionResponse {
        let request =
            DescribeWorkflowExecutionRequest { namespace: self.namespace.clone(), execution: run.execution() };
        self.client.clone().describe_workflow_execution(request).await.unwrap().into_inner()
    }

    async fn is_closed(&self, run: &Run) -> bool {
        let info = self.describe(run).await.workflow_execution_info;
        info.is_some_and(|info| info.status() != WorkflowExecutionStatus::Running)
    }
}
