//! A load on a cluster: customers that start, signal, terminate and delete workflows, and a worker that runs them. It is
//! bounded in time and count, and what it chooses follows from a seed, which is printed.
//!
//! It can be held still: [`Load::quiesce`] waits until all that was asked of Temporal has reached the search engine.

mod customer;
mod dice;
mod shared;
pub mod values;
mod worker;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use temporalio_protos::temporal::api::workflowservice::v1::workflow_service_client::WorkflowServiceClient;
use tokio::sync::{OwnedRwLockWriteGuard, RwLock};
use tokio::task::{JoinSet, LocalSet};
use tonic::transport::Endpoint;

use self::shared::Shared;
use super::cluster::Cluster;
use super::search::eventually;

const QUEUE: &str = "load";

/// How much load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadOptions {
    /// Customers, each with workflows of its own.
    pub clients: u32,
    /// Pollers of the worker.
    pub pollers: u32,
    /// Operations in a second, of all customers together.
    pub per_second: u32,
    /// Operations, of all customers together, after which the load stops by itself.
    pub operations: u64,
    /// The time after which it stops by itself.
    pub within: Duration,
    /// What the choices follow from; `SEXTON_SEED`, else another one each time.
    pub seed: u64,
}

impl Default for LoadOptions {
    fn default() -> Self {
        let given = std::env::var("SEXTON_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0);
        Self { clients: 4, pollers: 4, per_second: 60, operations: 20_000, within: Duration::from_secs(600), seed }
    }
}

/// What Temporal acknowledged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Starts by customers.
    pub started: u64,
    /// Signals, of every kind.
    pub signalled: u64,
    /// Upserts of search attributes by the worker.
    pub upserted: u64,
    /// Completions by the worker.
    pub completed: u64,
    /// Failures by the worker.
    pub failed: u64,
    /// Runs that the worker continued as new ones.
    pub continued: u64,
    /// Terminations.
    pub terminated: u64,
    /// Deletions of a run, open or closed.
    pub deleted: u64,
    /// Requests that came too late: the run was closed or gone, or had new events.
    pub refused: u64,
    /// Requests without an answer after every retry; whether they were carried out is not known.
    pub unanswered: u64,
    /// Refusals that the load does not expect.
    pub errors: Vec<String>,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} started, {} signalled, {} upserted, ", self.started, self.signalled, self.upserted)?;
        write!(f, "{} completed, {} failed, {} continued, ", self.completed, self.failed, self.continued)?;
        write!(f, "{} terminated, {} deleted, {} refused, ", self.terminated, self.deleted, self.refused)?;
        write!(f, "{} unanswered, {} errors", self.unanswered, self.errors.len())
    }
}

/// A running load. Dropped, it ends at once.
#[derive(Debug)]
pub struct Load<'a> {
    cluster: &'a Cluster,
    shared: Arc<Shared>,
    customers_held: Option<OwnedRwLockWriteGuard<()>>,
    worker_held: Option<OwnedRwLockWriteGuard<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl<'a> Load<'a> {
    /// Starts it, on a thread of its own: the test may block.
    pub fn start(cluster: &'a Cluster, options: LoadOptions) -> Self {
        println!("load on {}: seed {}", cluster.namespace, options.seed);
        let shared = Arc::new(Shared::new(cluster, options));
        let theirs = Arc::clone(&shared);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let thread = std::thread::spawn(move || runtime.block_on(LocalSet::new().run_until(run(theirs))));
        Self { cluster, shared, customers_held: None, worker_held: None, thread: Some(thread) }
    }

    /// Holds customers and worker still once what they are doing is answered. The server goes on with its own work.
    pub async fn pause(&mut self) {
        self.hold_customers().await;
        self.hold_worker().await;
    }

    /// Lets them go on.
    pub fn resume(&mut self) {
        (self.customers_held, self.worker_held) = (None, None);
    }

    /// What was acknowledged so far.
    pub fn tally(&self) -> Tally {
        self.shared.tally()
    }

    /// Waits until so much was done, a minute at most.
    pub async fn until(&self, what: &str, enough: impl Fn(&Tally) -> bool) {
        eventually(what, async || enough(&self.tally()).then_some(())).await;
    }

    /// Holds everything still and waits until the search engine has all of it, two minutes at most; panics when tasks
    /// went to the dead letter queue.
    ///
    /// With customers and worker held, executions are changed by the server's own tasks alone. A task's row goes after
    /// the task was done, and what it leads to is written before or with that: a visibility task is done when the
    /// engine has acknowledged the write, a deletion when its visibility task has been added. So one look that finds
    /// neither a transfer nor a visibility task is enough. Timers remain: retention, days away, and time-outs of tasks
    /// the worker holds, which change nothing that is listed.
    pub async fn quiesce(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(120);
        self.hold_customers().await;
        self.worker_held = None;
        // The worker goes on until nothing comes any more, so that few tasks are left to time out.
        let mut before = None;
        loop {
            let now = self.shared.handled.load(Ordering::SeqCst);
            if self.cluster.pending() == (0, 0) && before == Some(now) {
                break;
            }
            before = Some(now);
            assert!(Instant::now() < deadline, "the worker does not come to an end: {:?}", self.cluster.pending());
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        self.hold_worker().await;
        while self.cluster.pending() != (0, 0) {
            assert!(Instant::now() < deadline, "tasks that are not done: {:?}", self.cluster.pending());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert_eq!(self.cluster.dlq(), 0, "Temporal gave up on visibility tasks");
        self.cluster.refresh();
    }

    /// Waits as [`Self::quiesce`] does, ends the load and says what it did.
    pub async fn stop(mut self) -> Tally {
        self.quiesce().await;
        self.end();
        self.tally()
    }

    async fn hold_customers(&mut self) {
        if self.customers_held.is_none() {
            self.customers_held = Some(close(&self.shared.customers).await);
        }
    }

    async fn hold_worker(&mut self) {
        if self.worker_held.is_none() {
            self.worker_held = Some(close(&self.shared.workers).await);
        }
    }

    fn end(&mut self) {
        self.shared.stop.cancel();
        self.resume();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

/// Waits until nobody is inside a gate, and keeps it closed.
async fn close(gate: &Arc<RwLock<()>>) -> OwnedRwLockWriteGuard<()> {
    let closed = tokio::time::timeout(Duration::from_secs(60), Arc::clone(gate).write_owned()).await;
    closed.expect("what is under way is answered within a minute")
}

/// The customers and the pollers, until each has stopped.
async fn run(shared: Arc<Shared>) {
    let Ok(endpoint) = Endpoint::from_shared(format!("http://{}", shared.address)) else { return };
    let client = WorkflowServiceClient::new(endpoint.connect_lazy());
    let mut tasks = JoinSet::new();
    for number in 0..shared.options.pollers {
        tasks.spawn_local(worker::poll(Arc::clone(&shared), client.clone(), number));
    }
    for number in 0..shared.options.clients {
        tasks.spawn_local(customer::live(Arc::clone(&shared), client.clone(), number));
    }
    while let Some(ended) = tasks.join_next().await {
        shared.note_panic(ended);
    }
}
