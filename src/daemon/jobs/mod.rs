//! The jobs: each file ties one domain to the [`crate::job::Job`] the runner knows.

mod adopt;
mod audit;
mod backup;
mod drill;
mod migrate;
mod overdue;
mod prune;
mod rebuild;
mod reconcile;
mod retention;
mod site;
mod undo;
mod visibility;

pub use adopt::{ADOPT_DEADLINE, AdoptJob, GUARD_VERB};
pub use audit::AuditJob;
pub use migrate::MigrateJob;
pub use rebuild::RebuildJob;
pub use site::{RunnerError, Site};
pub use undo::{UndoJob, begun_with};

use crate::failure::{Explain, Failure, Kind};
use crate::job::JobName;

/// The job needs a system that the configuration does not name.
fn no_connection(section: &str, job: JobName) -> Failure {
    Failure::new(Kind::Config, format!("the job `{job}` needs the section `{section}:` in the configuration"))
        .with_hint("sexton.example.yaml shows every section")
}

/// The job has no policy, so nothing says what is wanted.
fn no_policy(site: &Site, job: JobName) -> Failure {
    no_policy_of(site, job, job.as_str())
}

/// The same for a job whose policy is in a file of another name.
fn no_policy_of(site: &Site, job: JobName, file: &str) -> Failure {
    let path = site.config.policies.join(format!("{file}.yaml"));
    Failure::new(Kind::Config, format!("the job `{job}` has no policy: {} does not exist", path.display()))
        .with_hint("start from the file of that name that comes with sexton")
}

/// The report of a run, with its failure when it ended early; a failure before anything was done has no report.
fn partly<R, E: Explain>(
    result: Result<R, E>,
    report: impl FnOnce(&E) -> Option<R>,
) -> Result<(R, Option<Failure>), Failure> {
    match result {
        Ok(done) => Ok((done, None)),
        Err(error) => match report(&error) {
            Some(done) => Ok((done, Some(error.into()))),
            None => Err(error.into()),
        },
    }
}
