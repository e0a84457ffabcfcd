//! One site: the configuration and policies of one Temporal cluster, and the clients made from them.

use std::path::Path;
use std::sync::Arc;

use super::audit::AuditJob;
use super::backup::BackupJob;
use super::drill::DrillJob;
use super::migrate::MigrateJob;
use super::overdue::OverdueJob;
use super::prune::PruneJob;
use super::reconcile::ReconcileJob;
use super::retention::RetentionJob;
use super::visibility::VisibilityJob;
use crate::clients::postgres::Postgres;
use crate::config::Config;
use crate::daemon::ledger::{Ledger, LedgerError};
use crate::daemon::runner::Runner;
use crate::document::ConfigError;
use crate::failure::{Explain, Kind};
use crate::job::{Job, JobName};
use crate::policy::Policies;
use crate::policy::retention::ScanPolicy;
use crate::retention::{Consent, Source};

/// Why there is no runner.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    /// What a webhook needs is not there.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The ledger cannot be reached or is not ready.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl Explain for RunnerError {
    fn kind(&self) -> Kind {
        match self {
            Self::Config(error) => error.kind(),
            Self::Ledger(error) => error.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Config(error) => error.hint(),
            Self::Ledger(error) => error.hint(),
        }
    }
}

/// The configuration with everything that is read from it at start; clients are made when they are needed, so that
/// one system that is down stops only the jobs that use it.
#[derive(Debug, Clone)]
pub struct Site {
    /// Where the systems are.
    pub config: Arc<Config>,
    /// What is wanted of them.
    pub policies: Arc<Policies>,
    /// Who has agreed to retentions that become shorter. The daemon has nobody to ask.
    pub consent: Consent,
}

impl Site {
    /// Reads the configuration, from the named file or where it usually is, and its policies.
    ///
    /// # Errors
    /// With file, line, column and a hint.
    pub fn load(named: Option<&Path>) -> Result<Self, ConfigError> {
        let config = Config::load(&Config::find(named))?;
        let policies = Policies::load(&config.policies)?;
        Ok(Self { config: Arc::new(config), policies: Arc::new(policies), consent: Consent::default() })
    }

    /// The same site for jobs whose destructive changes a person has agreed to.
    #[must_use]
    pub fn with_consent(self, consent: Consent) -> Self {
        Self { consent, ..self }
    }

    /// The PostgreSQL server of Temporal and of the ledger.
    #[must_use]
    pub fn postgres(&self) -> Postgres {
        Postgres::new(self.config.postgres.clone())
    }

    /// Temporal's main database, read as a whole where and as gently as was written.
    #[must_use]
    pub fn source(&self) -> Source {
        let replica = self.config.replica.clone().map(Postgres::new);
        let limits = self.policies.retention.as_ref().map_or_else(ScanPolicy::default, |policy| policy.scan);
        Source::new(&self.postgres(), replica.as_ref(), &self.config.databases.main, limits)
    }

    /// The ledger; it must have been initialised.
    ///
    /// # Errors
    /// When it cannot be reached or is not ready.
    pub async fn ledger(&self) -> Result<Ledger, LedgerError> {
        Ledger::open(Arc::new(self.postgres()), &self.config.ledger_database).await
    }

    /// What runs jobs and writes them to the ledger, and tells the webhooks.
    ///
    /// # Errors
    /// When the ledger cannot be reached or is not ready, or what a webhook needs is not there.
    pub async fn runner(&self) -> Result<Runner, RunnerError> {
        let webhooks = self.config.webhooks_to_tell()?;
        Ok(Runner::new(self.ledger().await?).with_webhooks(webhooks).keeping(self.policies.schedule.keep_runs))
    }

    /// A job of this site.
    #[must_use]
    pub fn job(&self, name: JobName) -> Arc<dyn Job> {
        match name {
            JobName::Retention => Arc::new(RetentionJob(self.clone())),
            JobName::Overdue => Arc::new(OverdueJob(self.clone())),
            JobName::Audit => Arc::new(AuditJob(self.clone())),
            JobName::Visibility => Arc::new(VisibilityJob(self.clone())),
            JobName::Reconcile => Arc::new(ReconcileJob(self.clone())),
            JobName::Backup => Arc::new(BackupJob(self.clone())),
            JobName::Drill => Arc::new(DrillJob(self.clone())),
            JobName::Prune => Arc::new(PruneJob(self.clone())),
            JobName::Migrate => Arc::new(MigrateJob::configured(self.clone())),
        }
    }

    /// Every job.
    #[must_use]
    pub fn jobs(&self) -> Vec<Arc<dyn Job>> {
        JobName::ALL.into_iter().map(|name| self.job(name)).collect()
    }

    /// The one job, or all that this site has a connection and a policy for.
    #[must_use]
    pub fn configured(&self, only: Option<JobName>) -> Vec<Arc<dyn Job>> {
        match only {
            Some(name) => vec![self.job(name)],
            None => {
                JobName::ALL.into_iter().filter(|name| self.is_configured(*name)).map(|name| self.job(name)).collect()
            }
        }
    }

    /// Whether everything that a job needs is configured.
    #[must_use]
    pub fn is_configured(&self, job: JobName) -> bool {
        match job {
            JobName::Retention | JobName::Overdue => {
                self.config.temporal.is_some() && self.policies.retention.is_some()
            }
            JobName::Audit => self.policies.retention.is_some(),
            JobName::Visibility => self.policies.visibility.is_some(),
            JobName::Reconcile => self.policies.visibility.is_some() && self.config.search.is_some(),
            JobName::Backup => self.config.store.is_some() && self.policies.backup.is_some(),
            JobName::Drill => self.is_configured(JobName::Backup) && self.config.scratch.is_some(),
            JobName::Prune => {
                self.config.store.is_some() && self.policies.backup.as_ref().is_some_and(|policy| policy.keep.is_some())
            }
            JobName::Migrate => true,
        }
    }
}
