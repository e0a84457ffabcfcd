//! One call: its time-out, its retries when it only reads, its error in this crate's words.

use std::future::Future;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use temporalio_protos::temporal::api::workflowservice::v1::workflow_service_client::WorkflowServiceClient;
use tonic::{Request, Response, Status};

use super::connect::Wire;
use super::error::{self, Failing};
use super::{Temporal, TemporalError};

/// The generated client over this crate's channel.
pub(super) type Frontend = WorkflowServiceClient<Wire>;

impl Temporal {
    pub(super) fn frontend(&self) -> Frontend {
        WorkflowServiceClient::new(self.wire.clone())
    }

    /// A message with the time-out as the server's deadline, so that it gives up when this side does.
    pub(super) fn request<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout);
        request
    }

    /// Waits for one answer, no longer than the time-out. `subject` is the namespace the call is about.
    pub(super) async fn once<T>(
        &self,
        call: &str,
        subject: Option<&str>,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, TemporalError> {
        let failing = Failing { address: &self.address, call, subject, tls: self.tls, limit: self.timeout };
        match tokio::time::timeout(self.timeout, answer).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(error::of_status(&failing, &status)),
            Err(_) => Err(failing.deadline()),
        }
    }

    /// The same for a call that only reads: retried for a few seconds while the server is unavailable or busy.
    pub(super) async fn read<T, F, A>(&self, call: &str, subject: Option<&str>, mut send: F) -> Result<T, TemporalError>
    where
        F: FnMut(Frontend) -> A,
        A: Future<Output = Result<Response<T>, Status>>,
    {
        (|| {
            let answer = send(self.frontend());
            async { self.once(call, subject, answer).await }
        })
        .retry(backoff())
        .when(TemporalError::is_passing)
        .notify(|error, wait| tracing::debug!(call, %error, ?wait, "retrying a read"))
        .await
    }
}

pub(super) fn backoff() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(3))
        .with_max_times(4)
        .with_jitter()
}
