//! Values on the command line that more than one verb takes.

use crate::job::JobName;

/// A job by name, for clap.
pub(super) fn job_name(text: &str) -> Result<JobName, String> {
    JobName::parse(text).ok_or_else(|| {
        let names: Vec<&str> = JobName::ALL.iter().map(|job| job.as_str()).collect();
        format!("there is no such job; the jobs are {}", names.join(", "))
    })
}
