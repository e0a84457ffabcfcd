//! What stops an adoption.

use super::undo::Undone;
use crate::clients::search::{Health, SearchError};
use crate::failure::{Explain, Kind};
use crate::units::{Span, human_bytes};
use crate::visibility::copy::CopyError;
use crate::visibility::sound::rolls_by_name;

/// An adoption that was refused, undone, or failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdoptError {
    /// The engine could not be asked or told.
    #[error(transparent)]
    Search(#[from] SearchError),
    /// Adopting would be wrong.
    #[error(transparent)]
    Refused(#[from] AdoptRefusal),
    /// What was left or begun could not be undone.
    #[error(transparent)]
    Undo(#[from] UndoError),
    /// The copy failed.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The world is not the one the plan was made for.
    #[error("the plan no longer fits: {0}")]
    Stale(String),
    /// The block could not be kept short enough.
    #[error("writes were blocked for {limit} while {doing}, which is as long as they may be")]
    Deadline {
        /// How long the block was on.
        limit: Span,
        /// What took so long.
        doing: String,
    },
    /// Both indices do not hold the same.
    #[error("`{copy}` holds {found} documents, `{index}` {expected}")]
    Counts {
        /// The live index.
        index: String,
        /// Its clone or copy.
        copy: String,
        /// Documents in the live index.
        expected: u64,
        /// Documents in the other.
        found: u64,
    },
    /// Something was written to the live index although its writes are blocked.
    #[error("something was written to `{0}` while its writes were blocked")]
    Written(String),
    /// A shard was lost while writes were blocked.
    #[error("{missing} copies of the shards of index `{index}` are not there any more")]
    Shards {
        /// The live index.
        index: String,
        /// Shard copies that are not there.
        missing: u64,
    },
    /// An index does not become green.
    #[error("index `{index}` is not green after {waited}: {missing} copies of its shards are missing")]
    NotGreen {
        /// The new index.
        index: String,
        /// How long it was waited for.
        waited: Span,
        /// Shard copies that are not there.
        missing: u64,
    },
    /// The process that lifts the block when this one dies could not be started.
    #[error("the guard of the write block does not start: {0}")]
    Guard(String),
    /// The run was asked to stop.
    #[error("the adoption was asked to stop")]
    Cancelled,
    /// It failed, and everything is as before.
    #[error("{cause}; the adoption was undone: {}", back.told())]
    Undone {
        /// Why.
        cause: Box<AdoptError>,
        /// What was undone.
        back: Undone,
        /// How long writes were blocked, if they were and it is known.
        pause_ms: Option<u64>,
    },
    /// It failed, and undoing it failed as well.
    #[error("{cause}; undoing the adoption failed as well: {undo}")]
    NotUndone {
        /// Why.
        cause: Box<AdoptError>,
        /// What stood in the way of undoing it.
        undo: Box<AdoptError>,
    },
}

impl Explain for AdoptError {
    fn kind(&self) -> Kind {
        match self {
            Self::Search(error) => error.kind(),
            Self::Refused(_) => Kind::Refused,
            Self::Copy(error) => error.kind(),
            Self::Undo(error) => error.kind(),
            Self::Stale(_) => Kind::Stale,
            Self::Cancelled => Kind::Cancelled,
            Self::Counts { .. } => Kind::VerificationFailed,
            Self::Undone { cause, .. } if matches!(**cause, Self::Cancelled) => Kind::Cancelled,
            Self::Undone { .. } => Kind::Compensated,
            _ => Kind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Search(error) => error.hint(),
            Self::Refused(refusal) => Some(refusal.hint()),
            Self::Copy(error) => error.hint(),
            Self::Undo(error) => error.hint(),
            Self::Stale(_) | Self::Cancelled => Some("run `sexton adopt` again".into()),
            Self::Deadline { .. } => {
                Some("see what keeps the cluster busy, or give it longer with `--deadline`; Temporal repeats its writes for about an hour".into())
            }
            Self::Counts { .. } | Self::Written(_) => Some("look who else writes to these indices, then run `sexton adopt` again".into()),
            Self::NotGreen { index, .. } | Self::Shards { index, .. } => Some(format!("`GET _cluster/allocation/explain` says why shards of {index} are not assigned")),
            Self::Guard(_) => Some("the guard is sexton itself, started with `adopt-guard`; see its lines in the log".into()),
            Self::Undone { cause, .. } => cause.hint(),
            Self::NotUndone { undo, .. } => match **undo {
                Self::Undo(UndoError::StillBlocked { .. }) => undo.hint(),
                _ => Some("run `sexton adopt` again as soon as the engine answers; the guard lifts the write block meanwhile, if it can".into()),
            },
        }
    }
}

/// Undoing that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UndoError {
    /// The engine could not be asked or told.
    #[error(transparent)]
    Search(#[from] SearchError),
    /// The block stays in force whatever is done.
    #[error("writes to `{index}` are still blocked after {waited} of taking the block off")]
    StillBlocked {
        /// Of the search engine.
        address: String,
        /// The live index.
        index: String,
        /// How long it was tried.
        waited: Span,
        /// True where a block that was begun has to be finished first.
        begun: bool,
    },
}

impl Explain for UndoError {
    fn kind(&self) -> Kind {
        match self {
            Self::Search(error) => error.kind(),
            Self::StillBlocked { .. } => Kind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Search(error) => error.hint(),
            Self::StillBlocked { address, index, begun, .. } => Some(format!(
                "see which writes go on (`GET _tasks?actions=*bulk*&detailed`); when they are over, with the engine's login: {}",
                lifting(address, index, *begun)
            )),
        }
    }
}

/// The commands that take a write block off by hand, in a form that a shell takes.
fn lifting(address: &str, index: &str, begun: bool) -> String {
    let finish = format!("curl -X PUT '{address}/{index}/_block/write' && ");
    let body = r#"{"index.blocks.write": null}"#;
    let lift = format!("curl -X PUT '{address}/{index}/_settings' -H 'content-type: application/json' -d '{body}'");
    if begun { finish + &lift } else { lift }
}

/// Why nothing is done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdoptRefusal {
    /// Neither an alias nor an index.
    #[error("there is no index `{0}` to adopt")]
    Missing(String),
    /// No room for the suffixes.
    #[error("`{0}` is too long a name to be adopted: the names made from it would pass 255 bytes")]
    TooLong(String),
    /// A closed index.
    #[error("index `{0}` is closed")]
    Closed(String),
    /// Not green.
    #[error("index `{index}` is {}, not green", health.map_or("of unknown health", word))]
    NotGreen {
        /// The live index.
        index: String,
        /// Its health.
        health: Option<Health>,
    },
    /// The disk ran full.
    #[error("index `{0}` is read-only because a disk passed the flood-stage watermark")]
    FloodStage(String),
    /// Blocked by somebody else.
    #[error("index `{index}` has a block that is not sexton's: index.blocks.{block}")]
    Blocked {
        /// The live index.
        index: String,
        /// `read_only`, `metadata`, `read`.
        block: String,
    },
    /// Writes blocked by somebody else.
    #[error("index `{index}` has a block that is not sexton's: index.blocks.write")]
    WriteBlocked {
        /// The live index.
        index: String,
        /// True when the block was begun only, so that the setting does not take it off.
        begun: bool,
    },
    /// Other aliases would go with the live index.
    #[error("index `{index}` is behind other aliases as well, which would be lost: {}", aliases.join(", "))]
    Aliased {
        /// The live index.
        index: String,
        /// The aliases.
        aliases: Vec<String>,
    },
    /// Somebody else rolls or deletes this index.
    #[error("index `{index}` is managed by the policy `{policy}`")]
    Managed {
        /// The live index.
        index: String,
        /// The policy it names.
        policy: String,
    },
    /// A name that is needed, or would be at the next rollover.
    #[error("there is an index `{found}` already, and it was not made by an adoption of this `{index}`")]
    Taken {
        /// The live index.
        index: String,
        /// The index in the way.
        found: String,
    },
    /// Somebody wrote to the index that was to be the empty write index.
    #[error("index `{found}` was made by an adoption, but has been written to since ({writes} writes)")]
    NotEmpty {
        /// The index in the way.
        found: String,
        /// How often.
        writes: u64,
    },
    /// Whether somebody wrote to it cannot be seen.
    #[error(
        "index `{found}` was made by an adoption, and whether it has been written to since is not known: its shards do not answer"
    )]
    Silent {
        /// The index in the way.
        found: String,
    },
    /// Closed workflows would vanish from lists before their namespace's retention ends.
    #[error("a namespace keeps closed workflows for {retention}, but their documents may be deleted after {life}")]
    Retention {
        /// The longest retention.
        retention: Span,
        /// The shortest time a document is kept.
        life: Span,
    },
    /// Temporal reads single documents through the name.
    #[error(
        "Temporal moves memos and search attributes of closed workflows into the index (workflow `{workflow}`): it reads them by id, which fails behind an alias of several indices"
    )]
    CloseCleanup {
        /// A workflow whose attributes were moved.
        workflow: String,
    },
    /// No room for the copies of the shards.
    #[error("the clone or copy needs {} of disk, but below the low watermark there are {}", human_bytes(*needed), human_bytes(*room))]
    Disk {
        /// Bytes needed.
        needed: u64,
        /// Bytes there.
        room: u64,
    },
    /// The login may not do what has to be done.
    #[error("the login to the search engine lacks {}", missing.join(", "))]
    Privileges {
        /// `` `manage` on temporal_visibility_v1 ``.
        missing: Vec<String>,
    },
    /// `--method clone` on an engine without it.
    #[error("{0} cannot clone an index")]
    NoClone(String),
    /// A block that short or that long makes no sense.
    #[error("writes cannot be blocked for {0} at most: give between 5s and 30m")]
    Deadline(Span),
}

fn word(health: Health) -> &'static str {
    match health {
        Health::Green => "green",
        Health::Yellow => "yellow",
        Health::Red => "red",
    }
}

impl AdoptRefusal {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Missing(_) => "set up Temporal's index first (temporal-elasticsearch-tool), or correct `index` in policies/visibility.yaml".into(),
            Self::TooLong(_) => "an index of a shorter name can be adopted".into(),
            Self::Closed(index) => format!("open it: `POST {index}/_open`"),
            Self::NotGreen { index, .. } => format!("find the missing shards with `GET _cluster/allocation/explain` for {index}"),
            Self::FloodStage(index) => {
                format!("free disk space; then `PUT {index}/_settings` with `index.blocks.read_only_allow_delete: null`, if the engine does not do so itself")
            }
            Self::Blocked { index, block } => {
                format!("find out who set it; `PUT {index}/_settings` with `index.blocks.{block}: null` lifts it")
            }
            Self::WriteBlocked { index, begun: false } => {
                format!("find out who set it; `PUT {index}/_settings` with `index.blocks.write: null` lifts it")
            }
            Self::WriteBlocked { index, begun: true } => {
                format!("find out who began it; `PUT {index}/_block/write` finishes it, then `PUT {index}/_settings` with `index.blocks.write: null` lifts it")
            }
            Self::Silent { found } => format!("`GET _cluster/allocation/explain` says why shards of {found} are not assigned"),
            Self::Aliased { index, aliases } if aliases.iter().any(|alias| rolls_by_name(alias, index)) => {
                let alias = aliases.iter().find(|alias| rolls_by_name(alias, index)).map_or("", String::as_str);
                format!("{index} is one of the indices that {alias} rolls over: write `index: {alias}` in policies/visibility.yaml")
            }
            Self::Aliased { .. } => "take them off (`POST _aliases`); put them on the new indices afterwards if they are needed".into(),
            Self::Managed { index, .. } => format!("take the policy off (`POST {index}/_ilm/remove` or `_plugins/_ism/remove/{index}`)"),
            Self::Taken { found, .. } | Self::NotEmpty { found, .. } => {
                format!("look what is in {found}; delete it or move it away if it is not needed")
            }
            Self::Retention { .. } => "shorten the namespace's retention or lengthen `delete.after` in policies/visibility.yaml".into(),
            Self::CloseCleanup { .. } => {
                "switch `history.visibilityProcessorEnableCloseWorkflowCleanup` off, and wait until the workflows closed under it have passed their retention".into()
            }
            Self::Disk { .. } => "free disk space, or add a data node".into(),
            Self::Privileges { .. } => "grant the login what is missing; `sexton doctor` checks the rest".into(),
            Self::NoClone(_) => "use `--method copy`".into(),
            Self::Deadline(_) => "Temporal repeats its writes for about an hour; 60s is the default".into(),
        }
    }
}
