//! What remains to be done: the journal and the world in, a list of steps out.

use std::collections::BTreeMap;

use serde::Serialize;

use super::entry::{Entry, MigrationState, StepEntry, StepState};
use super::error::MigrateError;
use super::hands::Hands;
use super::journal::Journal;
use super::migration::Migration;
use super::names::Digest;
use super::recipe::Recipe;
use super::steps::{Reversal, StepError, holds};
use super::world::{Server, World};
use crate::context::Context;
use crate::plan::{Action, Change, Plan};
use crate::units::counted;

/// What applying the selected migrations would do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigratePlan {
    /// Each migration, in the order in which they are applied.
    pub migrations: Vec<MigrationPlan>,
}

/// What remains of one migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationPlan {
    /// The migration.
    pub migration: Migration,
    /// How it stands.
    pub standing: Standing,
    /// Each of its steps, in order.
    pub steps: Vec<StepPlan>,
}

/// How a migration stands before it is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Never begun.
    New,
    /// Begun and not finished; it goes on.
    Unfinished,
    /// Its steps are being undone; that goes on.
    GoingBack,
    /// Applied; nothing is done again.
    Applied,
}

/// One step and what would be done about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepPlan {
    /// Its key.
    pub step: String,
    /// What would be done.
    pub work: Work,
}

/// What a run would do about a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Nothing: the journal has its evidence.
    Finished,
    /// Only journaled: it holds already.
    Note,
    /// Run it.
    Run,
    /// Undo it.
    Undo,
    /// It was applied and does not hold any more; said, and nothing done.
    Drifted,
}

/// Observes and decides for each migration. Reads only: the queries run in READ ONLY transactions, and the journal is
/// not written.
///
/// # Errors
/// See [`decide`]; besides, when a database cannot be asked or a requirement does not hold.
pub async fn plan(
    migrations: &[Migration],
    journal: &Journal,
    world: &World,
    ctx: &Context,
) -> Result<MigratePlan, MigrateError> {
    let mut plans = Vec::with_capacity(migrations.len());
    for migration in migrations {
        if ctx.is_cancelled() {
            return Err(MigrateError::Cancelled { name: migration.name().to_owned(), step: "planning".to_owned() });
        }
        let entry = journal.read(migration.name()).await?;
        // Refuse an edit before its queries are asked.
        let database = world.source.name(migration.database())?;
        decide(migration, entry.as_ref(), database, &BTreeMap::new())?;
        let mut hands = Hands::looking(world, migration, journal, ctx);
        let seen = observe(migration, entry.as_ref(), &mut hands).await;
        hands.close().await;
        plans.push(decide(migration, entry.as_ref(), database, &seen?)?);
    }
    Ok(MigratePlan { migrations: plans })
}

/// Asks each step's check, and the requirements of a migration that is not applied yet.
async fn observe(
    migration: &Migration,
    entry: Option<&Entry>,
    hands: &mut Hands<'_>,
) -> Result<BTreeMap<String, bool>, MigrateError> {
    let applied = entry.is_some_and(|e| e.state == MigrationState::Applied);
    if !applied {
        hands.world.distinct(hands).await?;
        require(migration, hands).await?;
    }
    let mut world = BTreeMap::new();
    for step in &migration.steps {
        match step.operation.act().check(hands).await {
            Ok(Some(answer)) => drop(world.insert(step.key.clone(), answer)),
            Ok(None) => {}
            // A check may ask about what an earlier step makes and what is not there yet: no answer, so it runs.
            Err(StepError::Sql(error)) if error.is_undefined() => {}
            // Of an applied migration it is only asked whether it still holds.
            Err(_) if applied => {}
            Err(error) => return Err(MigrateError::step(migration.name(), &step.key, error)),
        }
    }
    Ok(world)
}

/// Asks the requirements.
pub(crate) async fn require(migration: &Migration, hands: &mut Hands<'_>) -> Result<(), MigrateError> {
    let name = migration.name();
    for requirement in &migration.requires {
        let session = hands.session(Server::Source, migration.database()).await?;
        let answer = holds(session, &requirement.query, Default::default()).await;
        if !answer.map_err(|source| MigrateError::step(name, "requires", source.into()))? {
            return Err(MigrateError::Requirement {
                name: name.to_owned(),
                database: hands.world.source.name(migration.database())?.to_owned(),
                that: requirement.that.clone(),
            });
        }
    }
    Ok(())
}

/// What remains of a migration, given its journal and the answers of the checks by step.
///
/// # Errors
/// When the journal holds another recipe, another database or other parameters under this name.
pub fn decide(
    migration: &Migration,
    entry: Option<&Entry>,
    database: &str,
    world: &BTreeMap<String, bool>,
) -> Result<MigrationPlan, MigrateError> {
    // What was undone is begun anew, as it is now.
    let entry = entry.filter(|entry| entry.state != MigrationState::Undone);
    if let Some(entry) = entry {
        same(migration, entry, database)?;
    }
    let standing = match entry.map(|e| e.state) {
        None => Standing::New,
        Some(MigrationState::Undoing) => Standing::GoingBack,
        Some(MigrationState::Applied) => Standing::Applied,
        Some(_) => Standing::Unfinished,
    };
    let work = |key: &str| {
        let journaled = entry.and_then(|e| e.steps.get(key)).map(|s| s.state);
        let finished = matches!(journaled, Some(StepState::Done | StepState::Present));
        let happened = entry.and_then(|e| e.steps.get(key)).is_some_and(StepEntry::may_have_happened);
        match (standing, finished, world.get(key)) {
            (Standing::GoingBack, ..) => {
                if happened {
                    Work::Undo
                } else {
                    Work::Finished
                }
            }
            (Standing::Applied, _, Some(false)) => Work::Drifted,
            (Standing::Applied, ..) | (_, true, _) => Work::Finished,
            (_, _, Some(true)) => Work::Note,
            _ => Work::Run,
        }
    };
    let steps = migration.steps.iter().map(|s| StepPlan { step: s.key.clone(), work: work(&s.key) }).collect();
    Ok(MigrationPlan { migration: migration.clone(), standing, steps })
}

/// Whether the journal speaks of the same migration: recipe, database and parameters.
pub(crate) fn same(migration: &Migration, entry: &Entry, database: &str) -> Result<(), MigrateError> {
    let name = migration.name().to_owned();
    if entry.target != database {
        let (journaled, given) = (entry.target.clone(), database.to_owned());
        return Err(MigrateError::OtherDatabase { name, journaled, given });
    }
    unedited(&migration.recipe, entry)?;
    if entry.parameters != migration.values {
        let differs = migration.values.iter().filter(|(name, value)| entry.parameters.get(*name) != Some(*value));
        let shown = differs.map(|(name, value)| {
            let old = entry.parameters.get(name).map_or("(unset)", String::as_str);
            format!("{name}: {old} -> {value}")
        });
        return Err(MigrateError::OtherParameters { name, differences: shown.collect::<Vec<_>>().join(", ") });
    }
    Ok(())
}

/// Whether the journal speaks of the same recipe.
///
/// # Errors
/// [`MigrateError::Edited`].
pub fn unedited(recipe: &Recipe, entry: &Entry) -> Result<(), MigrateError> {
    let (name, given) = (recipe.name.to_string(), recipe.digest());
    if entry.digest == given {
        return Ok(());
    }
    Err(MigrateError::Edited { name, journaled: entry.digest.clone(), given })
}

impl MigratePlan {
    /// The common form: one change per step that would run, and notes about the rest.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let mut plan = Plan::default();
        for one in &self.migrations {
            one.describe(&mut plan);
        }
        plan
    }
}

impl MigrationPlan {
    /// What an approval is for: the digest of the whole migration, whatever is left of it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.migration.plan_digest()
    }

    /// True when a step that is left cannot be undone.
    #[must_use]
    pub fn is_destructive(&self) -> bool {
        let steps = self.migration.steps.iter().zip(&self.steps);
        steps
            .into_iter()
            .any(|(step, planned)| planned.work == Work::Run && step.operation.reversal() == Reversal::Never)
    }

    /// True when every step is finished and the journal says so.
    #[must_use]
    pub fn is_applied(&self) -> bool {
        self.standing == Standing::Applied
    }

    /// The common form without the steps: what is to be said about the whole.
    #[must_use]
    pub fn of_the_whole(&self) -> Plan {
        let mut plan = Plan::default();
        self.describe_whole(&mut plan);
        plan
    }

    fn describe(&self, plan: &mut Plan) {
        let name = self.migration.name();
        for (step, planned) in self.migration.steps.iter().zip(&self.steps) {
            match planned.work {
                Work::Run => {
                    let reason = step.description.clone().unwrap_or_else(|| self.migration.recipe.description.clone());
                    let change = Change::new(Action::Run, format!("migration {name} step {}", step.key), reason);
                    let destructive = step.operation.reversal() == Reversal::Never;
                    plan.changes.push(if destructive { change.destructive() } else { change });
                }
                Work::Undo => {
                    let subject = format!("migration {name} step {}", step.key);
                    plan.changes.push(Change::new(Action::Run, subject, "undo it: the migration is going back"));
                }
                Work::Note | Work::Finished | Work::Drifted => {}
            }
        }
        self.describe_whole(plan);
    }

    fn describe_whole(&self, plan: &mut Plan) {
        let name = self.migration.name();
        let held = self.steps.iter().filter(|planned| planned.work == Work::Note).count();
        let drifted = self.steps.iter().filter(|planned| planned.work == Work::Drifted);
        let drifted: Vec<&str> = drifted.map(|planned| planned.step.as_str()).collect();
        if self.standing == Standing::GoingBack && self.steps.iter().all(|planned| planned.work != Work::Undo) {
            let change =
                Change::new(Action::Run, format!("migration {name}"), "every step is undone; journal it as undone");
            plan.changes.push(change);
        }
        if let Some(step) = self.migration.point_of_no_return().filter(|_| !self.is_applied()) {
            plan.notes.push(format!("migration {name}: behind step {} there is no way back", step.key));
        }
        if held > 0 {
            plan.notes.push(format!(
                "migration {name}: {} already and only journaled",
                counted(held, "step holds", "steps hold")
            ));
        }
        if !drifted.is_empty() {
            plan.notes.push(format!(
                "migration {name}: {} applied once and not as it left them any more: {}; to apply it again, give the \
                 recipe a new name",
                counted(drifted.len(), "step was", "steps were"),
                drifted.join(", ")
            ));
        }
        if matches!(self.standing, Standing::New | Standing::Unfinished)
            && self.steps.iter().all(|s| s.work != Work::Run)
        {
            let change =
                Change::new(Action::Run, format!("migration {name}"), "every step holds; journal it as applied");
            plan.changes.push(change);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::entry::StepEntry;
    use super::super::set::parse;
    use super::*;

    fn migration(undo: &str) -> Migration {
        let step = |n: &str| format!("      - {{name: {n}, do: {{sql: {{run: [SELECT 1]{undo}}}}}}}\n");
        let text = format!(
            "name: m\ndescription: d\ndatabase: main\nstages:\n  - name: s\n    steps:\n{}{}{}",
            step("a"),
            step("b"),
            step("c")
        );
        Migration::new(&parse(Path::new("m.yaml"), &text).unwrap(), &BTreeMap::new()).unwrap()
    }

    fn entry(migration: &Migration, state: MigrationState, steps: &[(&str, StepState)]) -> Entry {
        let step = |(key, state): &(&str, StepState)| {
            let (undo, found) = (serde_json::json!([]), serde_json::Value::Null);
            ((*key).to_owned(), StepEntry { state: *state, undo, found, noted: serde_json::Value::Null, error: None })
        };
        Entry {
            name: "m".into(),
            digest: migration.digest.clone(),
            parameters: BTreeMap::new(),
            target: "temporal".into(),
            state,
            error: None,
            steps: steps.iter().map(step).collect(),
        }
    }

    fn check(entry: Option<&Entry>, migration: &Migration, world: &[(&str, bool)], expect: [Work; 3]) -> MigrationPlan {
        let world = world.iter().map(|(key, holds)| ((*key).to_owned(), *holds)).collect();
        let plan = decide(migration, entry, "temporal", &world).unwrap();
        assert_eq!(plan.steps.iter().map(|s| s.work).collect::<Vec<_>>(), expect);
        plan
    }

    #[test]
    fn what_remains_follows_from_the_journal_and_the_world() {
        use StepState::{Done, Failed, Intended, Present};
        use Work::{Drifted, Finished, Note, Run};
        let m = migration("");
        check(None, &m, &[("a", true), ("b", false)], [Note, Run, Run]);
        let half = entry(&m, MigrationState::Running, &[("a", Done), ("b", Intended)]);
        check(Some(&half), &m, &[("a", false), ("b", true)], [Finished, Note, Run]);
        let failed = entry(&m, MigrationState::Failed, &[("a", Present), ("b", Failed)]);
        check(Some(&failed), &m, &[("b", false)], [Finished, Run, Run]);
        let applied = entry(&m, MigrationState::Applied, &[("a", Done), ("b", Done), ("c", Done)]);
        let plan = check(Some(&applied), &m, &[("a", true), ("b", false)], [Finished, Drifted, Finished]);
        let back = entry(&m, MigrationState::Undoing, &[("a", Done), ("b", StepState::Undone)]);
        check(Some(&back), &m, &[("a", true)], [Work::Undo, Finished, Finished]);
        let shown = MigratePlan { migrations: vec![plan] }.plan();
        assert!(shown.is_empty());
        assert_eq!(shown.notes.len(), 1);
    }

    #[test]
    fn a_step_without_an_undo_is_shown_as_destructive() {
        let shown = |m: &Migration| {
            MigratePlan { migrations: vec![decide(m, None, "temporal", &BTreeMap::new()).unwrap()] }.plan()
        };
        assert!(shown(&migration("")).changes.iter().all(|c| c.destructive));
        assert!(shown(&migration(", undo: [SELECT 2]")).changes.iter().all(|c| !c.destructive));
    }

    #[test]
    fn a_world_that_holds_already_is_still_a_change_of_the_journal() {
        let m = migration("");
        let world = ["a", "b", "c"].map(|k| (k.to_owned(), true)).into();
        let shown = MigratePlan { migrations: vec![decide(&m, None, "temporal", &world).unwrap()] }.plan();
        assert_eq!(shown.changes.len(), 1);
    }

    #[test]
    fn what_was_applied_to_a_copy_does_not_count_here() {
        let m = migration("");
        let applied = entry(&m, MigrationState::Applied, &[]);
        let error = decide(&m, Some(&applied), "temporal_copy", &BTreeMap::new()).unwrap_err();
        assert_eq!(error.to_string(), "migration `m` was begun on database `temporal`, not on `temporal_copy`");
    }

    #[test]
    fn other_parameters_are_refused_by_name() {
        let mut m = migration("");
        let applied = entry(&m, MigrationState::Applied, &[]);
        m.values.insert("rows".into(), "5".into());
        let error = decide(&m, Some(&applied), "temporal", &BTreeMap::new()).unwrap_err();
        assert_eq!(error.to_string(), "migration `m` was begun with other parameters: rows: (unset) -> 5");
    }
}
