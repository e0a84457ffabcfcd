//! The closed set of typed operations a step can be, one file each.

mod adopt;
mod approve;
mod backup;
pub(super) mod child;
mod compare;
mod copy;
mod error;
mod exec;
mod fence;
mod health;
mod made;
mod restore;
mod scale;
mod set_secret;
mod sql;
mod statements;
mod temporal_schema;
mod wait;
mod way_back;

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use self::adopt::AdoptStep;
pub use self::approve::ApproveStep;
pub use self::backup::BackupStep;
pub use self::compare::CompareStep;
pub use self::copy::CopyStep;
pub use self::error::StepError;
pub use self::exec::ExecStep;
pub use self::fence::FenceStep;
pub use self::health::HealthStep;
pub use self::restore::RestoreStep;
pub use self::scale::{RestartStep, ScaleStep, ScaleTo, WaitPodsGoneStep};
pub use self::set_secret::{SecretKey, SecretOf, SetSecretStep};
pub use self::sql::SqlStep;
pub(crate) use self::sql::UNDONE_BY;
pub(crate) use self::statements::{SqlFailure, holds};
pub use self::temporal_schema::TemporalSchemaStep;
pub use self::wait::WaitStep;
pub use self::way_back::WayBackStep;
use super::hands::Hands;
use super::names::{Database, Name};
use super::parameters::{ParameterError, Placed, Values};
use super::world::Server;
use crate::failure::Kind;
use crate::units::Span;

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Operation {
    /// SQL statements on a database.
    Sql(SqlStep),
    /// Temporal's own schema, brought to a version by `temporal-sql-tool`.
    TemporalSchema(TemporalSchemaStep),
    /// Deployments brought to a number of replicas.
    Scale(ScaleStep),
    /// No pod of Deployments left.
    WaitPodsGone(WaitPodsGoneStep),
    /// Every pod of Deployments made anew.
    Restart(RestartStep),
    /// Keys of a Secret set to what the target is.
    SetSecret(SetSecretStep),
    /// A program of the operator's.
    Exec(ExecStep),
    /// Databases that nobody but sexton may connect to any more.
    Fence(FenceStep),
    /// A backup.
    Backup(BackupStep),
    /// That backup, restored on the target.
    Restore(RestoreStep),
    /// The databases, streamed to the target.
    Copy(CopyStep),
    /// Source and target, compared row by row.
    Compare(CompareStep),
    /// Where the way back ends.
    WayBack(WayBackStep),
    /// Temporal answering that it serves.
    Health(HealthStep),
    /// A pause.
    Wait(WaitStep),
    /// A person's agreement before what comes next.
    Approve(ApproveStep),
    /// The visibility index made one that rolls.
    Adopt(AdoptStep),
}

/// Whether and how a step can be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reversal {
    /// By doing something.
    Undo,
    /// It changes nothing that would have to be undone.
    Nothing,
    /// Not at all: behind it there is only forward.
    Never,
}

/// What came of a step that ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ran {
    /// How often it was tried.
    pub(crate) attempts: u32,
    /// What was found; later steps may read it.
    pub(crate) found: Value,
}

impl Ran {
    /// At the first attempt, with this found.
    pub(crate) fn once(found: Value) -> Self {
        Self { attempts: 1, found }
    }
}

/// The parts of every operation. `check` and `verify` ask the world and change nothing; `undo` must be right
/// whether the step happened wholly, in part or not at all.
#[async_trait]
pub(crate) trait Act: Send + Sync {
    /// Whether and how it can be undone.
    fn reversal(&self) -> Reversal;

    /// True when it may simply be run again after a run of it was killed, although nothing can tell how far it came.
    fn is_repeatable(&self) -> bool {
        false
    }

    /// True when a failure of it leaves nothing behind as long as it does not hold: it has taken back what it began.
    fn undoes_itself(&self) -> bool {
        false
    }

    /// Whether it holds already; `None` when nothing can tell.
    async fn check(&self, _: &mut Hands<'_>) -> Result<Option<bool>, StepError> {
        Ok(None)
    }

    /// What undoing it will need, read before it acts and kept in the journal.
    async fn prepare(&self, _: &mut Hands<'_>) -> Result<Value, StepError> {
        Ok(json!([]))
    }

    /// Whether what was begun last, the step or its undoing, took effect, by what was noted in the journal while it was
    /// at work; `None` when that does not tell.
    async fn took_effect(&self, _: &mut Hands<'_>, _noted: &Value) -> Result<Option<bool>, StepError> {
        Ok(None)
    }

    /// Whether the way back leads past it, asked before anything is undone.
    async fn lets_back(&self, _: &mut Hands<'_>) -> Result<(), StepError> {
        Ok(())
    }

    /// What it had found, as far as what was kept tells, when it turns out to have happened after a kill.
    fn found_again(&self, _kept: &Value) -> Value {
        Value::Null
    }

    /// Does it.
    async fn run(&self, hands: &mut Hands<'_>, kept: &Value) -> Result<Ran, StepError>;

    /// Whether it holds now; `None` when nothing can tell.
    async fn verify(&self, hands: &mut Hands<'_>) -> Result<Option<bool>, StepError> {
        self.check(hands).await
    }

    /// Undoes it, with what was kept.
    async fn undo(&self, _: &mut Hands<'_>, _: &Value) -> Result<(), StepError> {
        Ok(())
    }
}

/// Reads what an operation has kept.
///
/// # Errors
/// When it was kept by another version: without it nobody knows what to undo.
fn kept<T: DeserializeOwned>(kept: &Value) -> Result<T, StepError> {
    serde_json::from_value(kept.clone()).map_err(|error| {
        let message = format!("what the journal has kept to undo it cannot be read: {error}");
        StepError::new(Kind::Failed, message, "undo it with the version of sexton that wrote it, or by hand")
    })
}

fn is_some_time(name: &str, span: Span) -> Result<(), String> {
    match span.as_millis() {
        0 => Err(format!("`{name}` is nothing; write a duration such as `5m`")),
        _ => Ok(()),
    }
}

impl Operation {
    /// Its name in a recipe.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sql(_) => "sql",
            Self::TemporalSchema(_) => "temporal_schema",
            Self::Scale(_) => "scale",
            Self::WaitPodsGone(_) => "wait_pods_gone",
            Self::Restart(_) => "restart",
            Self::SetSecret(_) => "set_secret",
            Self::Exec(_) => "exec",
            Self::Fence(_) => "fence",
            Self::Backup(_) => "backup",
            Self::Restore(_) => "restore",
            Self::Copy(_) => "copy",
            Self::Compare(_) => "compare",
            Self::WayBack(_) => "way_back",
            Self::Health(_) => "health",
            Self::Wait(_) => "wait",
            Self::Approve(_) => "approve",
            Self::Adopt(_) => "adopt",
        }
    }

    /// Whether and how it can be undone.
    #[must_use]
    pub fn reversal(&self) -> Reversal {
        self.act().reversal()
    }

    pub(crate) fn act(&self) -> &dyn Act {
        match self {
            Self::Sql(step) => step,
            Self::TemporalSchema(step) => step,
            Self::Scale(step) => step,
            Self::WaitPodsGone(step) => step,
            Self::Restart(step) => step,
            Self::SetSecret(step) => step,
            Self::Exec(step) => step,
            Self::Fence(step) => step,
            Self::Backup(step) => step,
            Self::Restore(step) => step,
            Self::Copy(step) => step,
            Self::Compare(step) => step,
            Self::WayBack(step) => step,
            Self::Health(step) => step,
            Self::Wait(step) => step,
            Self::Approve(step) => step,
            Self::Adopt(step) => step,
        }
    }

    /// True when a failure of it leaves nothing behind: the server takes it back.
    pub(crate) fn rolls_back(&self) -> bool {
        matches!(self, Self::Sql(step) if step.transaction)
    }

    /// The databases it acts on; `own` is the recipe's.
    pub(crate) fn databases(&self, own: &Database) -> Vec<(Server, Database)> {
        let both = |server| [(server, Database::Main), (server, Database::Visibility)];
        match self {
            Self::Sql(step) => vec![(step.server, step.database.clone().unwrap_or_else(|| own.clone()))],
            Self::TemporalSchema(step) => vec![(Server::Source, step.schema.database())],
            Self::Fence(step) => step.databases.iter().map(|one| (Server::Source, one.clone())).collect(),
            Self::Restore(_) | Self::Copy(_) | Self::Compare(_) | Self::WayBack(_) => {
                [both(Server::Source), both(Server::Target)].concat()
            }
            _ => Vec::new(),
        }
    }

    /// The earlier step whose evidence it takes up, and the kind that one must be of.
    pub(crate) fn takes_up(&self) -> Option<(&Name, &'static str)> {
        match self {
            Self::Restore(step) => Some((&step.from, "backup")),
            Self::Scale(ScaleStep { to: ScaleTo::Before(step), .. }) => Some((step, "scale")),
            _ => None,
        }
    }

    pub(crate) fn validate(&self) -> Result<(), String> {
        match self {
            Self::Sql(step) => step.validate(),
            Self::Exec(step) => step.validate(),
            Self::Fence(step) => step.validate(),
            Self::Health(step) => step.validate(),
            Self::Adopt(step) => step.validate(),
            Self::TemporalSchema(step) => step.validate(),
            Self::SetSecret(step) => step.validate(),
            Self::WaitPodsGone(WaitPodsGoneStep { within, .. }) | Self::Restart(RestartStep { within, .. }) => {
                is_some_time("within", *within)
            }
            Self::Scale(_)
            | Self::Backup(_)
            | Self::Restore(_)
            | Self::Copy(_)
            | Self::Compare(_)
            | Self::WayBack(_)
            | Self::Wait(_)
            | Self::Approve(_) => Ok(()),
        }
    }

    /// Every text of it that may hold parameters.
    pub(crate) fn templates(&self) -> Vec<Placed<'_>> {
        match self {
            Self::Sql(step) => step.statements().map(|sql| Placed::Sql(sql.as_str())).collect(),
            Self::TemporalSchema(step) => vec![Placed::Plain(step.to.as_str())],
            Self::Exec(step) => step.words().map(|word| Placed::Word(word.as_str())).collect(),
            Self::Approve(step) => vec![Placed::Plain(step.question.as_str())],
            Self::Scale(step) => vec![Placed::Plain(step.deployments.as_str())],
            Self::WaitPodsGone(step) => vec![Placed::Plain(step.deployments.as_str())],
            Self::Restart(step) => vec![Placed::Plain(step.deployments.as_str())],
            Self::SetSecret(step) => step.templates().map(|text| Placed::Plain(text.as_str())).collect(),
            _ => Vec::new(),
        }
    }

    pub(crate) fn render(&self, values: &Values) -> Result<Self, ParameterError> {
        Ok(match self {
            Self::Sql(step) => Self::Sql(step.render(values)?),
            Self::TemporalSchema(step) => Self::TemporalSchema(step.render(values)?),
            Self::Exec(step) => Self::Exec(step.render(values)?),
            Self::Approve(step) => Self::Approve(ApproveStep { question: step.question.render(values)? }),
            Self::Scale(step) => Self::Scale(step.render(values)?),
            Self::WaitPodsGone(step) => Self::WaitPodsGone(step.render(values)?),
            Self::Restart(step) => Self::Restart(step.render(values)?),
            Self::SetSecret(step) => Self::SetSecret(step.render(values)?),
            other => other.clone(),
        })
    }
}
