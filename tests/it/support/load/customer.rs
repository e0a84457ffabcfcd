//! A customer: starts workflows, and signals, terminates and deletes its own.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use temporalio_protos::temporal::api::common::v1::{WorkflowExecution, WorkflowType};
use temporalio_protos::temporal::api::taskqueue::v1::TaskQueue;
use temporalio_protos::temporal::api::workflowservice::v1::{
    DeleteWorkflowExecutionRequest, SignalWorkflowExecutionRequest, StartWorkflowExecutionRequest,
    TerminateWorkflowExecutionRequest,
};
use tokio::time::MissedTickBehavior;

use super::QUEUE;
use super::dice::Dice;
use super::shared::{Answer, Client, Shared};
use super::values::{self, TYPES};

/// Five events each: a history stays below the 256 events that come to a worker in one page.
const SIGNALS_PER_WORKFLOW: usize = 30;

/// One operation after the other, at its share of the load's rate.
pub(super) async fn live(shared: Arc<Shared>, client: Client, number: u32) {
    let dice = Dice::new(shared.options.seed, u64::from(number));
    let mut customer = Customer { shared, client, number, dice, names: 0, open: Vec::new(), closed: Vec::new() };
    let share = f64::from(customer.shared.options.clients) / f64::from(customer.shared.options.per_second.max(1));
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(share));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (gate, stop) = (Arc::clone(&customer.shared.customers), customer.shared.stop.clone());
    loop {
        let turn = async {
            ticks.tick().await;
            gate.read().await
        };
        let _turn = tokio::select! {
            () = stop.cancelled() => return,
            turn = turn => turn,
        };
        if !customer.shared.may_go_on() {
            return;
        }
        customer.act().await;
    }
}

struct Customer {
    shared: Arc<Shared>,
    client: Client,
    number: u32,
    dice: Dice,
    names: usize,
    open: Vec<Workflow>,
    closed: Vec<Workflow>,
}

/// A workflow as the customer knows it: its current run may be a later one, and may have ended.
#[derive(Debug, Clone)]
struct Workflow {
    id: String,
    run: String,
    kind: &'static str,
    /// Never closed by its customer.
    stays: bool,
    signals: usize,
}

impl Workflow {
    /// This very run.
    fn run(&self) -> Option<WorkflowExecution> {
        Some(WorkflowExecution { workflow_id: self.id.clone(), run_id: self.run.clone() })
    }

    /// Whichever run is open.
    fn current(&self) -> Option<WorkflowExecution> {
        Some(WorkflowExecution { workflow_id: self.id.clone(), run_id: String::new() })
    }
}

impl Customer {
    async fn act(&mut self) {
        let choice = self.dice.below(100);
        match choice {
            0..35 => self.start().await,
            35..64 => self.change().await,
            64..77 => self.close_by("finish").await,
            77..81 => self.close_by("fail").await,
            81..85 => self.again().await,
            85..92 => self.terminate().await,
            92..96 => self.delete_closed().await,
            _ => self.delete_open().await,
        }
    }

    async fn start(&mut self) {
        // The id of a closed workflow again, now and then: several runs have the same name.
        let id = match self.closed.last() {
            Some(closed) if self.dice.percent(10) => closed.id.clone(),
            _ => {
                self.names += 1;
                values::workflow_id(&mut self.dice, self.number, self.names)
            }
        };
        let kind = *self.dice.pick(&TYPES);
        let request = StartWorkflowExecutionRequest {
            namespace: self.shared.namespace.clone(),
            workflow_id: id.clone(),
            workflow_type: Some(WorkflowType { name: kind.into() }),
            task_queue: Some(TaskQueue { name: QUEUE.into(), ..Default::default() }),
            request_id: self.request_id(),
            identity: self.identity(),
            search_attributes: Some(values::search_attributes(&values::attributes(&mut self.dice, false))),
            memo: Some(values::memo(&mut self.dice)),
            ..Default::default()
        };
        let answer = self.shared.ask(&request, async |r| self.client.start_workflow_execution(r).await).await;
        if let Answer::Acknowledged(started) = answer {
            self.shared.count(|tally| tally.started += 1);
            let stays = self.dice.percent(15);
            self.open.push(Workflow { id, run: started.run_id, kind, stays, signals: 0 });
        }
    }

    async fn change(&mut self) {
        let Some(at) = self.choose(|workflow| workflow.signals < SIGNALS_PER_WORKFLOW) else {
            return self.start().await;
        };
        self.open[at].signals += 1;
        let attributes = values::attributes(&mut self.dice, true);
        self.signal(at, "tier", &Value::Object(attributes)).await;
    }

    async fn close_by(&mut self, signal: &str) {
        let Some(at) = self.choose(|workflow| !workflow.stays) else { return self.start().await };
        if self.signal(at, signal, &json!("done")).await {
            self.close(at);
        }
    }

    async fn again(&mut self) {
        let Some(at) = self.choose(|workflow| !workflow.stays) else { return self.start().await };
        let next = json!({"type": self.open[at].kind, "attributes": values::attributes(&mut self.dice, false)});
        if self.signal(at, "again", &next).await {
            self.open[at].signals = 0;
        }
    }

    async fn signal(&mut self, at: usize, name: &str, input: &Value) -> bool {
        let request = SignalWorkflowExecutionRequest {
            namespace: self.shared.namespace.clone(),
            workflow_execution: self.open[at].current(),
            signal_name: name.into(),
            input: Some(values::payloads(input)),
            identity: self.identity(),
            request_id: self.request_id(),
            ..Default::default()
        };
        let answer = self.shared.ask(&request, async |r| self.client.signal_workflow_execution(r).await).await;
        match answer {
            Answer::Acknowledged(_) => {
                self.shared.count(|tally| tally.signalled += 1);
                true
            }
            Answer::Refused => {
                self.close(at);
                false
            }
            Answer::Lost => false,
        }
    }

    async fn terminate(&mut self) {
        let Some(at) = self.choose(|workflow| !workflow.stays) else { return self.start().await };
        let request = TerminateWorkflowExecutionRequest {
            namespace: self.shared.namespace.clone(),
            workflow_execution: self.open[at].current(),
            reason: "the customer changed their mind".into(),
            identity: self.identity(),
            ..Default::default()
        };
        let answer = self.shared.ask(&request, async |r| self.client.terminate_workflow_execution(r).await).await;
        if let Answer::Acknowledged(_) = answer {
            self.shared.count(|tally| tally.terminated += 1);
        }
        if answer != Answer::Lost {
            self.close(at);
        }
    }

    async fn delete_closed(&mut self) {
        if self.closed.is_empty() {
            return self.start().await;
        }
        let at = self.dice.below(self.closed.len());
        let workflow = self.closed.swap_remove(at);
        self.delete(&workflow).await;
    }

    async fn delete_open(&mut self) {
        let Some(at) = self.choose(|workflow| !workflow.stays) else { return self.start().await };
        let workflow = self.open.swap_remove(at);
        self.delete(&workflow).await;
    }

    async fn delete(&mut self, workflow: &Workflow) {
        let request = DeleteWorkflowExecutionRequest {
            namespace: self.shared.namespace.clone(),
            workflow_execution: workflow.run(),
        };
        let answer = self.shared.ask(&request, async |r| self.client.delete_workflow_execution(r).await).await;
        if let Answer::Acknowledged(_) = answer {
            self.shared.count(|tally| tally.deleted += 1);
        }
    }

    fn choose(&mut self, fits: impl Fn(&Workflow) -> bool) -> Option<usize> {
        let fitting: Vec<usize> = (0..self.open.len()).filter(|at| fits(&self.open[*at])).collect();
        (!fitting.is_empty()).then(|| *self.dice.pick(&fitting))
    }

    fn close(&mut self, at: usize) {
        let workflow = self.open.swap_remove(at);
        self.closed.push(workflow);
    }

    fn identity(&self) -> String {
        format!("customer-{}", self.number)
    }

    fn request_id(&mut self) -> String {
        uuid::Uuid::from_u64_pair(self.dice.next(), self.dice.next()).to_string()
    }
}
