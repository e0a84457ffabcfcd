//! `policies/schedule.yaml`: when each job runs, and how long it may.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use super::cron::CronSchedule;
use crate::job::JobName;
use crate::units::Span;

/// When the daemon runs what.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchedulePolicy {
    /// When each job runs, and how long it may; one that is not named runs only when somebody asks.
    pub jobs: BTreeMap<JobName, JobSchedule>,
    /// How long a stopping daemon waits for its runs to reach a safe point. Keep it below the pod's
    /// `terminationGracePeriodSeconds`.
    #[serde(default = "default_grace")]
    pub shutdown_grace: Span,
    /// Runs that ended longer ago are removed from the ledger, but for the newest of each job. `None` only where there is
    /// no `schedule.yaml`: whoever knows nothing of the ledger's daemon removes nothing from it.
    #[serde(default = "default_keep_runs", deserialize_with = "given")]
    pub keep_runs: Option<Span>,
}

/// When one job runs.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSchedule {
    /// When, in UTC; without it the job runs only when somebody asks.
    pub cron: Option<CronSchedule>,
    /// A run that takes longer is cancelled.
    #[serde(default = "default_deadline")]
    pub deadline: Span,
    /// Whether a schedule missed while no daemon ran is made up for, once.
    #[serde(default = "yes")]
    pub catch_up: bool,
}

impl SchedulePolicy {
    /// The jobs that have a time, with it.
    pub fn timed(&self) -> impl Iterator<Item = (JobName, &JobSchedule, &CronSchedule)> {
        self.jobs.iter().filter_map(|(job, schedule)| Some((*job, schedule, schedule.cron.as_ref()?)))
    }

    /// The limit of one run of a job, whoever started it.
    #[must_use]
    pub fn deadline(&self, job: JobName) -> Span {
        // A move or an index takes as long as the data; its stages have deadlines of their own.
        let unnamed = if job == JobName::Migrate { Span::hours(24) } else { default_deadline() };
        self.jobs.get(&job).map_or(unnamed, |schedule| schedule.deadline)
    }
}

impl Default for SchedulePolicy {
    fn default() -> Self {
        Self { jobs: BTreeMap::new(), shutdown_grace: default_grace(), keep_runs: None }
    }
}

fn default_grace() -> Span {
    Span::seconds(25)
}

fn default_keep_runs() -> Option<Span> {
    Some(Span::days(90))
}

/// A span that has to be one: `null` is no way to keep everything.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Span>, D::Error> {
    Span::deserialize(deserializer).map(Some)
}

fn default_deadline() -> Span {
    Span::hours(1)
}

fn yes() -> bool {
    true
}
