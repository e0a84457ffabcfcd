//! Of what kind each error of a migration is, and what to do about it.

use super::MigrateError;
use crate::failure::{Explain, Kind};
use crate::migrate::parameters::ParameterError;

impl Explain for MigrateError {
    fn kind(&self) -> Kind {
        match self {
            Self::UnknownRecipe { .. }
            | Self::RecipeGone { .. }
            | Self::Parameter { .. }
            | Self::NoVisibility
            | Self::NoTarget
            | Self::OtherTarget
            | Self::SameTarget { .. } => Kind::Config,
            Self::NoApproveStep { .. } | Self::NothingWaits { .. } => Kind::Usage,
            Self::Awaits { .. } | Self::AwaitsApproval { .. } | Self::NotRehearsed { .. } => Kind::Awaited,
            Self::StaleApproval { .. } | Self::OtherPlan { .. } => Kind::Stale,
            Self::Undone { .. } => Kind::Compensated,
            Self::OnlyForward { cause, .. } => cause.kind(),
            Self::NotDoneAgain { source, .. } => source.kind(),
            Self::WayBackClosed { cause, .. } => cause.as_ref().map_or(Kind::Refused, |cause| cause.kind()),
            Self::Step { source, .. } | Self::Rehearsal(source) => source.kind(),
            Self::Edited { .. }
            | Self::OtherDatabase { .. }
            | Self::OtherServers { .. }
            | Self::OtherParameters { .. }
            | Self::Requirement { .. }
            | Self::Busy { .. }
            | Self::BusyThing { .. }
            | Self::NoWayBack { .. }
            | Self::NotByHand { .. }
            | Self::NeverBegun { .. } => Kind::Refused,
            Self::Unknown { .. } => Kind::CouldNotVerify,
            Self::NotVerified { .. } => Kind::VerificationFailed,
            Self::Cancelled { .. } => Kind::Cancelled,
            Self::Connect(error) => error.kind(),
            _ => Kind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::UnknownRecipe { .. } => {
                "correct `migrations.apply` or `migrations.parameters`, or put the recipe into the folder of recipes".to_owned()
            }
            Self::RecipeGone { .. } => {
                "put its file back into the folder of recipes; the ledger has kept it, in `migrations.recipe`".to_owned()
            }
            Self::Parameter { name, source: ParameterError::Missing(_) } => {
                format!("set them by `--set NAME=VALUE`, or under `migrations.parameters.{name}` in sexton.yaml")
            }
            Self::Parameter { .. } => "see the recipe's `parameters` for names and types".to_owned(),
            Self::NoVisibility => "set `postgres.databases.visibility`".to_owned(),
            Self::OtherServers { .. } => {
                "set `postgres:` and `target:` of the configuration to where it was begun; after a move they stay until \
                 nobody wants it undone any more"
                    .to_owned()
            }
            Self::OtherDatabase { .. } => {
                "give a copy a ledger of its own (`ledger.database` in its configuration), so that what was tried there \
                 does not count here"
                    .to_owned()
            }
            Self::OtherParameters { .. } => {
                "run it with the former parameters; to apply others, copy the recipe under a new name into the folder \
                 `migrations.recipes`"
                    .to_owned()
            }
            Self::Edited { name, .. } => format!(
                "take the edit back to run `{name}` to its end or to undo it; once it is applied or undone, the edited recipe \
                 may have a new name (`{name}-2`)"
            ),
            Self::Requirement { .. } => {
                "nothing was done; look whether `database` and `postgres.databases` name the right one, and at what the \
                 recipe requires"
                    .to_owned()
            }
            Self::Busy { .. } => "wait for the other session; `sexton migrate list` shows how far it is".to_owned(),
            Self::LockLost { .. } | Self::Cancelled { .. } => {
                "run the migration again; it goes on where it stopped".to_owned()
            }
            Self::Unknown { name, .. } => format!(
                "look whether it took effect; `sexton migrate undo {name}` undoes what was done, and the recipe should get \
                 a `check`"
            ),
            Self::Rehearsal(source) => return source.hint(),
            Self::OtherTarget => "name it in both, or leave it out of both".to_owned(),
            Self::SameTarget { .. } => "`postgres:` is where the databases are before the move, also when it is to be undone; `target:` \
                                        where they are moved to"
                .to_owned(),
            Self::NoTarget => "add the section `target:`; sexton.example.yaml shows it".to_owned(),
            Self::BusyThing { .. } => "wait for the other migration; `sexton migrate list` shows them".to_owned(),
            Self::Awaits { name, step, .. } => {
                format!("`sexton migrate approve {name} --step {step} --by NAME`, then run it again")
            }
            Self::AwaitsApproval { name, .. } => {
                format!("look at `sexton migrate plan {name}`, then `sexton migrate approve {name} --by NAME`")
            }
            Self::OtherPlan { name, .. } => format!("look at `sexton migrate plan {name}` once more"),
            Self::NothingWaits { name, .. } => {
                format!("run it first (`sexton migrate run {name}`); it stops at the step and says so")
            }
            Self::StaleApproval { name, .. } => {
                format!("look at `sexton migrate plan {name}` once more, rehearse it, and approve that")
            }
            Self::NotRehearsed { name } => format!("`sexton migrate rehearse {name}`"),
            Self::NoApproveStep { .. } => "leave `--step` out to approve the beginning".to_owned(),
            Self::Undone { cause, .. } => match cause.as_deref() {
                Some(Self::Step { source, .. }) if source.hint().is_none() => {
                    "correct the cause; the next run begins anew, and needs a new approval where it needs one".to_owned()
                }
                Some(cause) => match cause.hint() {
                    Some(hint) => format!("{hint}; it was undone, and the next run begins anew"),
                    None => "the next run begins anew".to_owned(),
                },
                None => "the next run begins anew".to_owned(),
            },
            Self::WayBackClosed { source, .. } => return source.hint(),
            Self::UndoFailed { name, source, .. } => match source.hint() {
                Some(hint) => hint,
                None => format!("correct the cause, then `sexton migrate undo {name}` goes on"),
            },
            Self::CutOff { name, source, .. } => match **source {
                Self::LockLost { .. } => format!("`sexton migrate undo {name}` goes on"),
                // A new ledger would not know of it.
                _ => format!("bring the ledger's database back as it was, then `sexton migrate undo {name}` goes on"),
            },
            Self::NotByHand { .. } => {
                "say `--by-hand` only of the step at which `migrate undo` fails; the others are undone by sexton".to_owned()
            }
            Self::OnlyForward { cause, .. } => return cause.hint(),
            Self::NotDoneAgain { name, .. } => format!("correct the cause, then `sexton migrate run {name}` goes on"),
            Self::NoWayBack { name, .. } => format!("correct what failed, then `sexton migrate run {name}` goes on"),
            Self::NeverBegun { .. } => "`sexton migrate list` shows how far each is".to_owned(),
            Self::UndoAsked { .. } => "`sexton migrate list` shows how far it is".to_owned(),
            Self::Step { source, .. } if source.hint().is_some() => return source.hint(),
            Self::Step { .. } => "correct the cause, then run the migration again; finished steps are kept".to_owned(),
            Self::NotVerified { .. } => "look at the object the step names; its undo is in the journal".to_owned(),
            Self::NoJournal => "run `sexton ledger init`".to_owned(),
            Self::JournalValue(_) => "use the newer version of sexton that wrote it".to_owned(),
            Self::Connect(error) => return error.hint(),
            Self::Journal(_) | Self::JournalTimeout(_) => "run `sexton doctor`".to_owned(),
        };
        Some(hint)
    }
}
