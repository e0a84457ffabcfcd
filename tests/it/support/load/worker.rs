//! The worker, and the one workflow it knows: it waits for signals and does what they say.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Map, Value};
use temporalio_protos::temporal::api::command::v1::command::Attributes;
use temporalio_protos::temporal::api::command::v1::{
    Command, CompleteWorkflowExecutionCommandAttributes, ContinueAsNewWorkflowExecutionCommandAttributes,
    FailWorkflowExecutionCommandAttributes, ScheduleActivityTaskCommandAttributes, StartTimerCommandAttributes,
    UpsertWorkflowSearchAttributesCommandAttributes,
};
use temporalio_protos::temporal::api::common::v1::{ActivityType, WorkflowType};
use temporalio_protos::temporal::api::enums::v1::CommandType;
use temporalio_protos::temporal::api::failure::v1::Failure;
use temporalio_protos::temporal::api::history::v1::history_event::Attributes as Event;
use temporalio_protos::temporal::api::taskqueue::v1::TaskQueue;
use temporalio_protos::temporal::api::workflowservice::v1::{
    PollWorkflowTaskQueueRequest, PollWorkflowTaskQueueResponse, RespondWorkflowTaskCompletedRequest,
};
use tonic::Request;

use super::QUEUE;
use super::shared::{Answer, Client, Shared};
use super::values;

/// Takes tasks and answers them until the load ends.
pub(super) async fn poll(shared: Arc<Shared>, mut client: Client, number: u32) {
    let identity = format!("worker-{number}");
    while !shared.stop.is_cancelled() {
        let mut request = Request::new(PollWorkflowTaskQueueRequest {
            namespace: shared.namespace.clone(),
            task_queue: Some(TaskQueue { name: QUEUE.into(), ..Default::default() }),
            identity: identity.clone(),
            ..Default::default()
        });
        request.set_timeout(Duration::from_secs(30));
        let polled = tokio::select! {
            () = shared.stop.cancelled() => return,
            polled = client.poll_workflow_task_queue(request) => polled,
        };
        match polled {
            Ok(task) if !task.get_ref().task_token.is_empty() => {
                let turn = tokio::select! {
                    () = shared.stop.cancelled() => return,
                    turn = shared.workers.read() => turn,
                };
                answer(&shared, &mut client, &identity, task.into_inner()).await;
                drop(turn);
            }
            Ok(_) => {}
            // The server is away or starting.
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

async fn answer(shared: &Shared, client: &mut Client, identity: &str, task: PollWorkflowTaskQueueResponse) {
    let decided = decide(&task);
    let answer = RespondWorkflowTaskCompletedRequest {
        namespace: shared.namespace.clone(),
        task_token: task.task_token,
        commands: decided.commands.iter().chain(&decided.end).cloned().collect(),
        identity: identity.to_owned(),
        ..Default::default()
    };
    let answer = shared.ask(&answer, async |r| client.respond_workflow_task_completed(r).await).await;
    shared.handled.fetch_add(1, Ordering::SeqCst);
    if let Answer::Acknowledged(_) = answer {
        let end = decided.end.as_ref().map(Command::command_type);
        let is_upsert = |command: &&Command| command.command_type() == CommandType::UpsertWorkflowSearchAttributes;
        let upserts = decided.commands.iter().filter(is_upsert).count() as u64;
        shared.count(|tally| {
            tally.upserted += upserts;
            tally.completed += u64::from(end == Some(CommandType::CompleteWorkflowExecution));
            tally.failed += u64::from(end == Some(CommandType::FailWorkflowExecution));
            tally.continued += u64::from(end == Some(CommandType::ContinueAsNewWorkflowExecution));
        });
    }
}

#[derive(Default)]
struct Decided {
    commands: Vec<Command>,
    end: Option<Command>,
}

/// What the signals since the last completed task ask for; the first one that ends the run is the last one heard.
fn decide(task: &PollWorkflowTaskQueueResponse) -> Decided {
    let events = task.history.iter().flat_map(|history| &history.events);
    let fresh = events.filter(|event| event.event_id > task.previous_started_event_id);
    let mut decided = Decided::default();
    for event in fresh {
        let Some(Event::WorkflowExecutionSignaledEventAttributes(signal)) = &event.attributes else { continue };
        let input = values::object(signal.input.as_ref());
        match signal.signal_name.as_str() {
            "tier" => decided.commands.push(upsert(&input)),
            "work" => decided.commands.push(activity()),
            "wait" => decided.commands.push(timer()),
            "finish" => decided.end = Some(complete()),
            "fail" => decided.end = Some(fail()),
            "again" => decided.end = Some(again(&input)),
            _ => {}
        }
        if decided.end.is_some() {
            break;
        }
    }
    decided
}

fn command(kind: CommandType, attributes: Attributes) -> Command {
    Command { command_type: kind.into(), attributes: Some(attributes), ..Default::default() }
}

fn upsert(values: &Map<String, Value>) -> Command {
    let attributes =
        UpsertWorkflowSearchAttributesCommandAttributes { search_attributes: Some(values::search_attributes(values)) };
    command(
        CommandType::UpsertWorkflowSearchAttributes,
        Attributes::UpsertWorkflowSearchAttributesCommandAttributes(attributes),
    )
}

fn activity() -> Command {
    let minute = Duration::from_secs(60).try_into().ok();
    let attributes = ScheduleActivityTaskCommandAttributes {
        activity_id: uuid::Uuid::new_v4().to_string(),
        activity_type: Some(ActivityType { name: "Pick".into() }),
        task_queue: Some(TaskQueue { name: QUEUE.into(), ..Default::default() }),
        start_to_close_timeout: minute,
        schedule_to_close_timeout: minute,
        ..Default::default()
    };
    command(CommandType::ScheduleActivityTask, Attributes::ScheduleActivityTaskCommandAttributes(attributes))
}

fn timer() -> Command {
    let attributes = StartTimerCommandAttributes {
        timer_id: uuid::Uuid::new_v4().to_string(),
        start_to_fire_timeout: Duration::from_secs(1).try_into().ok(),
    };
    command(CommandType::StartTimer, Attributes::StartTimerCommandAttributes(attributes))
}

fn complete() -> Command {
    let attributes = CompleteWorkflowExecutionCommandAttributes { result: None };
    command(CommandType::CompleteWorkflowExecution, Attributes::CompleteWorkflowExecutionCommandAttributes(attributes))
}

fn fail() -> Command {
    let failure = Failure { message: "out of stock".into(), ..Default::default() };
    let attributes = FailWorkflowExecutionCommandAttributes { failure: Some(failure) };
    command(CommandType::FailWorkflowExecution, Attributes::FailWorkflowExecutionCommandAttributes(attributes))
}

/// A new run with the attributes that the signal brings: nothing is carried over by itself.
fn again(input: &Map<String, Value>) -> Command {
    let values = input.get("attributes").and_then(Value::as_object).cloned().unwrap_or_default();
    let name = input.get("type").and_then(Value::as_str).unwrap_or("Checkout").to_owned();
    let attributes = ContinueAsNewWorkflowExecutionCommandAttributes {
        workflow_type: Some(WorkflowType { name }),
        task_queue: Some(TaskQueue { name: QUEUE.into(), ..Default::default() }),
        search_attributes: Some(values::search_attributes(&values)),
        ..Default::default()
    };
    command(
        CommandType::ContinueAsNewWorkflowExecution,
        Attributes::ContinueAsNewWorkflowExecutionCommandAttributes(attributes),
    )
}
