//! What stops the visibility job.

use super::DriverKind;
use super::adopt::UndoError;
use super::apply::VisibilityReport;
use super::rebuild::RebuildReport;
use super::reconcile::ReconcileReport;
use crate::clients::persistence::ForeignShards;
use crate::clients::postgres::PostgresError;
use crate::clients::search::SearchError;
use crate::clients::temporal::TemporalError;
use crate::failure::{Explain, Failure, Kind};
use crate::units::Span;

/// A failed or refused run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VisibilityError {
    /// The engine could not be asked or told.
    #[error(transparent)]
    Search(#[from] SearchError),
    /// Temporal's tables could not be read.
    #[error("{0}")]
    Persistence(Failure),
    /// Temporal could not be asked or told.
    #[error(transparent)]
    Temporal(#[from] TemporalError),
    /// Acting would be wrong.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What an adoption that died left could not be undone.
    #[error(transparent)]
    Undo(#[from] UndoError),
    /// The world is not the one the plan was made for.
    #[error("the plan no longer fits: {0}")]
    Stale(String),
    /// The run was asked to stop between two steps.
    #[error("stopped{}", if *total == 0 { String::new() } else { format!(" after {done} of {total} steps") })]
    Cancelled {
        /// Steps done.
        done: usize,
        /// Steps planned.
        total: usize,
    },
    /// The engine refused writes of single documents.
    #[error("the engine refused {count} of the writes: {reason}")]
    Documents {
        /// How many.
        count: u64,
        /// The first reason.
        reason: String,
    },
    /// A reconcile ended early.
    #[error("{cause}{}", if report.changed() { format!(" ({})", report.summary()) } else { String::new() })]
    Unfinished {
        /// Why it ended.
        cause: Box<VisibilityError>,
        /// What it did until then.
        report: Box<ReconcileReport>,
    },
    /// A rebuild ended early.
    #[error("{cause}{}", if report.changed() { format!(" ({})", report.summary()) } else { String::new() })]
    Rebuild {
        /// Why it ended.
        cause: Box<VisibilityError>,
        /// What it did until then.
        report: Box<RebuildReport>,
    },
    /// Temporal was asked to write documents, and they do not appear.
    #[error("{count} documents have not been written by Temporal: {reason}")]
    StillMissing {
        /// How many.
        count: u64,
        /// What Temporal said of one of them.
        reason: String,
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

impl VisibilityError {
    /// True when a reconcile came to its end and the engine refused single documents.
    #[must_use]
    pub fn is_of_single_documents(&self) -> bool {
        matches!(self, Self::Unfinished { cause, .. } if matches!(**cause, Self::Documents { .. }))
    }

    /// What a rebuild did before it ended early.
    #[must_use]
    pub fn rebuilt(&self) -> Option<&RebuildReport> {
        match self {
            Self::Rebuild { report, .. } => Some(report),
            _ => None,
        }
    }

    /// What a reconcile did before it ended early.
    #[must_use]
    pub fn reconciled(&self) -> Option<&ReconcileReport> {
        match self {
            Self::Unfinished { report, .. } => Some(report),
            _ => None,
        }
    }
}

impl From<PostgresError> for VisibilityError {
    fn from(error: PostgresError) -> Self {
        // No such table.
        let elsewhere = error.sqlstate().as_deref() == Some("42P01");
        let failure = Failure::from(error);
        Self::Persistence(if elsewhere {
            failure.with_hint(
                "check `postgres.databases.main`: it has to be the main database of the cluster that writes this index",
            )
        } else {
            failure
        })
    }
}

impl Explain for VisibilityError {
    fn kind(&self) -> Kind {
        match self {
            Self::Search(error) => error.kind(),
            Self::Persistence(failure) => failure.kind,
            Self::Temporal(error) => error.kind(),
            Self::Refused(_) => Kind::Refused,
            Self::Undo(error) => error.kind(),
            Self::Stale(_) => Kind::Stale,
            Self::Cancelled { .. } => Kind::Cancelled,
            Self::Documents { .. } => Kind::Failed,
            Self::StillMissing { .. } => Kind::VerificationFailed,
            Self::Partly { cause, .. } | Self::Unfinished { cause, .. } | Self::Rebuild { cause, .. } => cause.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Search(error) => error.hint(),
            Self::Persistence(failure) => failure.hint.clone(),
            Self::Temporal(error) => error.hint(),
            Self::Refused(refusal) => Some(refusal.hint()),
            Self::Undo(error) => error.hint(),
            Self::Stale(_) => Some("run again: a new plan is made".into()),
            Self::Cancelled { .. } => Some("run again: what was done is not done twice".into()),
            Self::Documents { reason, .. } if reason.starts_with("403 ") => Some(
                "grant the user the index privilege `write` on the alias and its indices, or lift the index's block"
                    .into(),
            ),
            Self::Documents { .. } => {
                Some("look at the reason; a mapping that does not fit is put right in the write index".into())
            }
            Self::StillMissing { .. } => Some(
                "look at the server's log and its visibility queue (`tdbg dlq`), then run it again: what is there stays"
                    .into(),
            ),
            Self::Partly { cause, .. } | Self::Unfinished { cause, .. } | Self::Rebuild { cause, .. } => cause.hint(),
        }
    }
}

/// Why nothing is done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Neither an alias nor an index.
    #[error("there is no index or alias `{0}`")]
    Missing(String),
    /// An index of that name, where an alias is needed.
    #[error("`{0}` is a plain index, not an alias")]
    Concrete(String),
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
    /// Documents can be neither removed from it nor written to it.
    #[error("index `{index}` takes no writes: its block `{blocks}` is set")]
    ReadOnly {
        /// The index.
        index: String,
        /// The blocks set on it.
        blocks: String,
    },
    /// The engine has stopped all writes to it because a disk is full.
    #[error("index `{index}` takes no writes: a disk is fuller than the engine's flood-stage watermark")]
    Watermark {
        /// The index.
        index: String,
    },
    /// Documents that the alias hides are listed by nobody, and would be taken for missing.
    #[error("alias `{alias}` has a filter or a routing on index `{index}`, which hides documents")]
    Narrowed {
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
    /// Only Temporal can write a document again.
    #[error("a lost document is written again by Temporal, and there is no connection to it")]
    NoTemporal,
    /// The index to be made exists, outside the alias.
    #[error("there is an index `{index}`, but nothing named `{alias}`")]
    Occupied {
        /// The alias.
        alias: String,
        /// The index.
        index: String,
    },
    /// An index of this name would not get Temporal's fields.
    #[error("no index template gives an index `{0}` the fields Temporal needs")]
    NoTemplate(String),
    /// A standby may lack a run that its primary has, so that its document would be taken for a ghost.
    #[error("the database `{database}` is on a standby, which may lack runs that Temporal has")]
    Standby {
        /// The database.
        database: String,
    },
    /// The shards are not those of the cluster.
    #[error(transparent)]
    Shards(#[from] ForeignShards),
    /// The database is older than the index: it was restored, or is another cluster's.
    #[error(
        "the database is behind the index: document `{id}` of `{index}` was written with a task id that shard \
         {shard} has not handed out"
    )]
    Behind {
        /// The index.
        index: String,
        /// The document.
        id: String,
        /// The history shard.
        shard: i32,
    },
    /// None of the namespaces in the index is in the database.
    #[error("`{index}` holds documents of no namespace that the database `{database}` knows")]
    Strangers {
        /// The alias.
        index: String,
        /// The database.
        database: String,
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
            Self::Concrete(_) => "turn it into an alias with `sexton adopt`".into(),
            Self::Red { index, .. } => format!("find the missing shards with `GET _cluster/allocation/explain` for {index}"),
            Self::Closed { index, .. } => format!("open it (`POST {index}/_open`) or take it out of the alias"),
            Self::ReadOnly { index, blocks } => {
                let first = blocks.split(',').next().unwrap_or_default();
                format!(
                    "take the block off (`PUT {index}/_settings` with `{{\"index.blocks.{first}\": null}}`): \
                     stale documents are removed from old indices too"
                )
            }
            Self::Watermark { index } => format!(
                "free disk space; the engine then lifts the block by itself, or old ones after `PUT {index}/_settings` \
                 with `{{\"index.blocks.read_only_allow_delete\": null}}`"
            ),
            Self::Narrowed { alias, index } => {
                format!("add {index} to {alias} again without them (`POST _aliases`); `GET _alias/{alias}` shows them")
            }
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
            Self::NoTemporal => "set `temporal:` in the configuration, and see whether the frontend answers".into(),
            Self::Occupied { alias, index } => format!(
                "put it behind the alias if it is the right one (`POST _aliases`: add {index} to {alias} with \
                 `is_write_index: true`), or delete it"
            ),
            Self::NoTemplate(_) => "run `temporal-elasticsearch-tool setup-schema` first".into(),
            Self::Standby { .. } => "name the primary under `postgres:`".into(),
            Self::Behind { .. } => {
                "check that `postgres.databases.main` is the database of the cluster that writes this index; after a \
                 restore of the database, drop the indices and run `sexton visibility rebuild`"
                    .into()
            }
            Self::Shards(shards) => shards.hint(),
            Self::Strangers { .. } => "check `postgres.databases.main` and `index`: they belong to different clusters".into(),
            Self::Retention { .. } => "shorten the namespace's retention or lengthen `delete.after`".into(),
        }
    }
}
