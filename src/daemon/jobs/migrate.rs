use async_trait::async_trait;

use super::Site;
use crate::context::Context;
use crate::failure::{Failure, Kind};
use crate::job::{Job, JobName, Planned};

/// The job.
#[derive(Debug)]
pub(super) struct MigrateJob(Site);

#[async_trait]
impl Job for MigrateJob {
    fn name(&self) -> JobName {
        JobName::Migrate
    }

    async fn plan(&self, _ctx: &Context) -> Result<Box<dyn Planned>, Failure> {
        Err(Failure::new(Kind::Refused, format!("{}", self.0.config.ledger_database)))
    }
}
impl MigrateJob {
    pub(super) fn configured(site: Site) -> Self {
        Self(site)
    }
}
