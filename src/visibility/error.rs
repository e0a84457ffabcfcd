//! What stops the visibility job.

use super::DriverKind;
use super::apply::VisibilityReport;
use crate::clients::search::SearchError;
use crate::failure::{Explain, Kind};
use crate::units::Span;

/// A failed or refused run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VisibilityError {
    /// The engine could not be asked or told.
    #[error(transparent)]
    Search(#[from] SearchError),
    /// Acting would be wrong.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The world is not the one the plan was made for.
    #[error("the plan no longer fits: {0}")]
    Stale(String),
    /// The run was asked to stop between two steps.
    #[error("stopped after {done} of {total} steps")]
    Cancelled {
        /// Steps done.
        done: usize,
        /// Steps planned.
        total: usize,
    },
    /// A run ended early after it had changed something.
    #[error("{cause}, after {} changes", report.changed)]
    Partly {
        /// Why it ended.
        cause: Box<VisibilityError>,
        /// What it did until then.
        report: Box<VisibilityReport>,
    },
}

impl VisibilityError {
    /// What was done before the run ended early.
    #[must_use]
    pub fn report(&self) -> Option<&VisibilityReport> {
        match self {
            Self::Partly { report, .. } => Some(report),
            _ => None,
        }
    }
}

impl Explain for VisibilityError {
    fn kind(&self) -> Kind {
        match self {
            Self::Search(error) => error.kind(),
            Self::Refused(_) => Kind::Refused,
            Self::Stale(_) => Kind::Stale,
            Self::Cancelled { .. } => Kind::Cancelled,
            Self::Partly { cause, .. } => cause.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Search(error) => error.hint(),
            Self::Refused(refusal) => Some(refusal.hint()),
            Self::Stale(_) => Some("run again: a new plan is made".into()),
            Self::Cancelled { .. } => Some("run again: what was done is not done twice".into()),
            Self::Partly { cause, .. } => cause.hint(),
        }
    }
}

/// Why nothing is done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Neither an alias nor an index.
    #[error("there is no index or alias `{0}`")]
    Missing(String),
    /// Shards of an index are missing, so that every list fails or lies.
    #[error("index `{index}` behind `{alias}` is red")]
    Red {
        /// The alias.
        alias: String,
        /// The index.
        index: String,
    },
    /// A closed index makes every list through the alias fail.
    #[error("index `{index}` behind `{alias}` is closed")]
    Closed {
        /// The alias.
        alias: String,
        /// The index.
        index: String,
    },
    /// Not exactly one member says `is_write_index: true`.
    #[error("alias `{alias}` has {} write indices ({}), not one", write.len(), shown(write))]
    WriteIndices {
        /// The alias.
        alias: String,
        /// The write indices found.
        write: Vec<String>,
    },
    /// The next index would get a name that no template matches, or none at all.
    #[error("write index `{index}` is not named `{alias}-` and a number")]
    Name {
        /// The alias.
        alias: String,
        /// The write index.
        index: String,
    },
    /// Somebody else rolls or deletes this index.
    #[error("index `{index}` is managed by the policy `{policy}`, which is not sexton's")]
    ForeignPolicy {
        /// The index.
        index: String,
        /// The policy it names.
        policy: String,
    },
    /// sexton's own policy in the engine would roll or delete beside the daemon.
    #[error("index `{index}` is managed by sexton's {} policy `{policy}`, but the driver is `daemon`", manager.short())]
    TwoDrivers {
        /// The index.
        index: String,
        /// The policy it names.
        policy: String,
        /// What manages it.
        manager: DriverKind,
    },
    /// The policy asks for ILM on an engine without it.
    #[error("`driver: ilm` needs index lifecycle management, which {engine} does not have")]
    NoLifecycle {
        /// Product and version.
        engine: String,
    },
    /// The policy asks for ISM on an engine without it.
    #[error("`driver: ism` needs index state management, which {engine} does not have")]
    NoStateManagement {
        /// Product and version.
        engine: String,
    },
    /// The policy leaves the deletion to an engine that cannot do it.
    #[error("`deletion: engine` needs index lifecycle management, which {engine} does not have")]
    NoEngineDeletion {
        /// Product and version.
        engine: String,
    },
    /// Closed workflows would vanish from lists before their namespace's retention ends.
    #[error("a namespace keeps closed workflows for {retention}, but their documents may be deleted after {life}")]
    Retention {
        /// The longest retention.
        retention: Span,
        /// The shortest time a document is kept.
        life: Span,
    },
}

fn shown(names: &[String]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

impl Refusal {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Missing(_) => "set up Temporal's index first (temporal-elasticsearch-tool), or correct `index`".into(),
            Self::Red { index, .. } => format!("find the missing shards with `GET _cluster/allocation/explain` for {index}"),
            Self::Closed { index, .. } => format!("open it (`POST {index}/_open`) or take it out of the alias"),
            Self::WriteIndices { .. } => {
                "say `is_write_index` for each member with one `POST _aliases` call: true for the newest, false for the rest"
                    .into()
            }
            Self::Name { alias, .. } => format!("name the indices `{alias}-000001` and so on, as the engine's rollover does"),
            Self::ForeignPolicy { index, .. } => {
                format!("take the policy off (`POST {index}/_ilm/remove` or `_plugins/_ism/remove/{index}`), or leave the index to it")
            }
            // Its template would bring new indices under it again.
            Self::TwoDrivers { index, policy, manager: DriverKind::Ism } => format!(
                "use `driver: ism`, or end the policy with `DELETE _plugins/_ism/policies/{policy}` and \
                 `POST _plugins/_ism/remove/{index}`"
            ),
            Self::TwoDrivers { index, .. } => {
                format!("use `driver: ilm`, or take the policy off with `POST {index}/_ilm/remove`")
            }
            Self::NoLifecycle { .. } | Self::NoStateManagement { .. } => "use `driver: auto` or `driver: daemon`".into(),
            Self::NoEngineDeletion { .. } => {
                "use `deletion: gated`, or on an OpenSearch with its index management plugin `driver: ism`".into()
            }
            Self::Retention { .. } => "shorten the namespace's retention or lengthen `delete.after`".into(),
        }
    }
}
