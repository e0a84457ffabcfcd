//! Values on the command line that more than one verb takes.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use crate::job::JobName;
use crate::units::Span;
use crate::visibility::adopt::Wanted;

/// A job by name, with what it does.
fn described(job: JobName) -> PossibleValue {
    PossibleValue::new(job.as_str()).help(match job {
        JobName::Retention => "Set each namespace's retention, owner and data as the policy says",
        JobName::Overdue => "Have closed runs deleted that outlived their retention",
        JobName::Audit => "Say what fills Temporal's tables; changes nothing",
        JobName::Visibility => "Roll the visibility index, and delete old ones that are no longer needed",
        JobName::Reconcile => "Bring the index's documents into agreement with Temporal's runs",
        JobName::Backup => "Back up Temporal's databases to the store",
        JobName::Drill => "Restore the newest backup on the scratch server, compare it, drop it again",
        JobName::Prune => "Remove backups that the policy does not keep, and what only they needed",
        JobName::Migrate => "Run the migrations under `migrations.apply`",
    })
}

/// A job by name, for clap: help, completions and errors show the names.
pub(super) fn job_name() -> impl TypedValueParser<Value = JobName> {
    PossibleValuesParser::new(JobName::ALL.map(described))
        .try_map(|name| JobName::parse(&name).ok_or("there is no such job"))
}

/// Which jobs to run.
#[derive(Debug, Clone, Copy)]
pub(super) enum Which {
    One(JobName),
    All,
}

impl Which {
    /// The one job, if it is one.
    pub(super) const fn only(self) -> Option<JobName> {
        match self {
            Self::One(job) => Some(job),
            Self::All => None,
        }
    }
}

/// A job by name, or `all`.
pub(super) fn job_or_all() -> impl TypedValueParser<Value = Which> {
    let all = PossibleValue::new("all").help("Each that is configured, in this order");
    PossibleValuesParser::new(JobName::ALL.map(described).into_iter().chain([all]))
        .map(|name| JobName::parse(&name).map_or(Which::All, Which::One))
}

/// How long an adoption may block writes.
pub(super) fn block(text: &str) -> Result<Span, String> {
    let span: Span = text.parse().map_err(|error: crate::units::UnitError| error.to_string())?;
    let (least, most) = (Wanted::SHORTEST, Wanted::LONGEST);
    if (least..=most).contains(&span) { Ok(span) } else { Err(format!("give between {least} and {most}")) }
}

/// The name of a database: an empty one, as of a variable that is not set, would mean the one that is named as the role.
pub(super) fn database(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("write the name of a database".to_owned()) } else { Ok(text.to_owned()) }
}
