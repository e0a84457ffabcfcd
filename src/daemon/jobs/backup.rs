use async_trait::async_trait;

use super::Site;
use crate::context::Context;
use crate::failure::{Failure, Kind};
use crate::job::{Job, JobName, Planned};

/// The job.
#[derive(Debug)]
pub(super) struct BackupJob(pub(super) Site);

#[async_trait]
impl Job for BackupJob {
    fn name(&self) -> JobName {
        JobName::Backup
    }

    async fn plan(&self, _ctx: &Context) -> Result<Box<dyn Planned>, Failure> {
        Err(Failure::new(Kind::Refused, format!("{}", self.0.config.ledger_database)))
    }
}
