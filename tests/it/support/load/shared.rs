//! What customers and worker have in common: the gates that hold them, the tally, and how a request is repeated.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use temporalio_protos::temporal::api::workflowservice::v1::workflow_service_client::WorkflowServiceClient;
use tokio::sync::RwLock;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use super::super::cluster::Cluster;
use super::{LoadOptions, Tally};

pub(super) type Client = WorkflowServiceClient<Channel>;

/// How long one request may take; the server gets to know it too, and ends its own work then.
const CALL: Duration = Duration::from_secs(10);
/// How long a request is repeated while the server does not answer.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) namespace: String,
    pub(super) address: String,
    pub(super) options: LoadOptions,
    /// Read while an operation is under way; who may write holds the customers still.
    pub(super) customers: Arc<RwLock<()>>,
    /// The same for the worker, from a task's arrival to its answer.
    pub(super) workers: Arc<RwLock<()>>,
    pub(super) stop: CancellationToken,
    /// Tasks that the worker has answered.
    pub(super) handled: AtomicU64,
    operations: AtomicU64,
    began: Instant,
    tally: Mutex<Tally>,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer<T> {
    Acknowledged(T),
    /// It came too late: the run is closed, gone or has new events.
    Refused,
    /// No answer, after every retry, or one that is counted as an error.
    Lost,
}

impl Shared {
    pub(super) fn new(cluster: &Cluster, options: LoadOptions) -> Self {
        Self {
            namespace: cluster.namespace.clone(),
            address: cluster.server.address.clone(),
            options,
            customers: Arc::default(),
            workers: Arc::default(),
            stop: CancellationToken::new(),
            handled: AtomicU64::new(0),
            operations: AtomicU64::new(0),
            began: Instant::now(),
            tally: Mutex::default(),
        }
    }

    pub(super) fn tally(&self) -> Tally {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn count(&self, add: impl FnOnce(&mut Tally)) {
        add(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Whether another operation is within the load's bounds.
    pub(super) fn may_go_on(&self) -> bool {
        !self.stop.is_cancelled()
            && self.began.elapsed() < self.options.within
            && self.operations.fetch_add(1, Ordering::SeqCst) < self.options.operations
    }

    pub(super) fn note_panic(&self, ended: Result<(), JoinError>) {
        if let Err(error) = ended {
            self.count(|tally| tally.errors.push(error.to_string()));
        }
    }

    /// Makes a request until it is answered. It must be one that may be repeated: a start and a signal carry an id by
    /// which the server knows them again, a second termination is refused.
    pub(super) async fn ask<M: Clone, T, F>(&self, message: &M, mut call: F) -> Answer<T>
    where
        F: AsyncFnMut(Request<M>) -> Result<Response<T>, Status>,
    {
        let began = Instant::now();
        loop {
            let mut request = Request::new(message.clone());
            request.set_timeout(CALL);
            let refusal = match call(request).await {
                Ok(answer) => return Answer::Acknowledged(answer.into_inner()),
                Err(refusal) => refusal,
            };
            match refusal.code() {
                Code::NotFound | Code::AlreadyExists | Code::FailedPrecondition => {
                    self.count(|tally| tally.refused += 1);
                    return Answer::Refused;
                }
                // A run that got a signal meanwhile cannot be closed by that task; the server makes another one.
                Code::InvalidArgument if refusal.message().contains("UnhandledCommand") => {
                    self.count(|tally| tally.refused += 1);
                    return Answer::Refused;
                }
                Code::Unavailable
                | Code::ResourceExhausted
                | Code::Aborted
                | Code::DeadlineExceeded
                | Code::Cancelled
                | Code::Unknown => {}
                _ => {
                    self.count(|tally| tally.errors.push(refusal.to_string()));
                    return Answer::Lost;
                }
            }
            if began.elapsed() > PATIENCE || self.stop.is_cancelled() {
                self.count(|tally| tally.unanswered += 1);
                return Answer::Lost;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}
