//! What a migration that stopped on its way leaves in force: a Temporal that is stopped, databases that are closed.

use super::entry::{Entry, MigrationState, StepEntry, StepState};
use super::migration::{Migration, MigrationStep};
use super::steps::{Operation, Reversal, ScaleTo};

/// How sure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sure {
    Yes,
    /// A step was begun, or failed half way.
    Perhaps,
    No,
}

/// A step that stops something, and the later one that starts it again.
struct Pause<'m> {
    stop: &'m MigrationStep,
    start: Option<&'m MigrationStep>,
    /// Whether it is Temporal that is stopped.
    is_temporal: bool,
}

/// What is in force of a migration that did not come to its end, and where to go from there: lines for people, the most
/// urgent one last; `None` when there is nothing.
#[must_use]
pub fn in_force(migration: &Migration, entry: &Entry) -> Option<String> {
    if matches!(entry.state, MigrationState::Applied | MigrationState::Undone) {
        return None;
    }
    let sure = |step: &MigrationStep| match entry.steps.get(&step.key).map(|one| (one.state, one.may_have_happened())) {
        Some((StepState::Done | StepState::Present, _)) => Sure::Yes,
        Some((_, true)) => Sure::Perhaps,
        _ => Sure::No,
    };
    let word = |step: &MigrationStep| match (sure(step), entry.steps.get(&step.key).map(|one| one.state)) {
        (Sure::Yes, _) => format!("`{}` is done", step.key),
        (Sure::Perhaps, Some(StepState::Undoing)) => format!("`{}` is half undone", step.key),
        (Sure::Perhaps, _) => format!("`{}` is half done", step.key),
        (Sure::No, _) => format!("`{}` is not", step.key),
    };
    let mut lines = Vec::new();
    for step in migration.steps.iter().filter(|step| matches!(step.operation, Operation::Fence(_))) {
        let are = match sure(step) {
            Sure::Yes => "are",
            Sure::Perhaps => "may be",
            Sure::No => continue,
        };
        lines.push(format!("The source's databases {are} closed to everybody but sexton: step {}", word(step)));
    }
    let pauses = pauses(migration);
    for Pause { stop, start, is_temporal } in &pauses {
        let started = start.map_or(Sure::No, sure);
        if sure(stop) == Sure::No || started == Sure::Yes {
            continue;
        }
        let what = if *is_temporal { "Temporal" } else { "What the migration stops" };
        let is = if sure(stop) == Sure::Yes && started == Sure::No { "is" } else { "may be" };
        let start = start.map_or_else(String::new, |start| format!(", and {}", word(start)));
        lines.push(format!("{what} {is} stopped: step {}{start}", word(stop)));
    }
    // Nothing tells what programs do that nothing takes back on the way forward.
    let programs = migration.steps.iter().filter(|step| pauses.is_empty() && is_program(step));
    let programs: Vec<String> = programs.filter(|step| sure(step) != Sure::No).map(word).collect();
    if !programs.is_empty() {
        lines.push(format!("Temporal may be stopped, if a program does that: step {}", programs.join(", ")));
    }
    if lines.is_empty() && entry.state == MigrationState::Undoing {
        lines.push(format!("Migration `{}` is half undone", migration.name()));
    }
    let last = lines.last_mut()?;
    last.push_str(&where_to(migration, entry, sure));
    Some(lines.join("\n"))
}

/// The way on for a step whose undo can never succeed, when one has failed.
fn by_hand(migration: &Migration, entry: &Entry) -> String {
    // One that was cut off may well succeed.
    let has_failed = |one: &StepEntry| one.was_undo_tried() && one.error.is_some();
    let failed = |step: &&MigrationStep| entry.steps.get(&step.key).is_some_and(has_failed);
    migration.steps.iter().find(failed).map_or_else(String::new, |step| {
        let (name, key) = (migration.name(), &step.key);
        format!("; where the undo of `{key}` cannot succeed, undo it by hand and say so: `sexton migrate undo {name} --by-hand {key}`")
    })
}

/// Whether a migration may leave something in force: it stops or closes something, or runs programs that may.
#[must_use]
pub fn may_leave_in_force(migration: &Migration) -> bool {
    let closes = |step: &MigrationStep| matches!(step.operation, Operation::Fence(_)) || is_program(step);
    !pauses(migration).is_empty() || migration.steps.iter().any(closes)
}

fn where_to(migration: &Migration, entry: &Entry, sure: impl Fn(&MigrationStep) -> Sure) -> String {
    let name = migration.name();
    if entry.state == MigrationState::Undoing {
        let by_hand = by_hand(migration, entry);
        return format!("; it is going back: go on with `sexton migrate undo {name}`{by_hand}");
    }
    let happened = |step: &&MigrationStep| sure(step) != Sure::No;
    let is_over = migration.steps.iter().filter(happened).any(|step| step.operation.reversal() == Reversal::Never);
    let closes = |step: &MigrationStep| matches!(step.operation, Operation::WayBack(_));
    let back = match (is_over, migration.steps.iter().filter(happened).any(closes)) {
        (true, _) => return format!("; go on with `sexton migrate run {name}` (there is no way back)"),
        (false, true) => " or, as long as the target was not written to,",
        (false, false) => " or",
    };
    format!("; go on with `sexton migrate run {name}`{back} go back with `sexton migrate undo {name}`")
}

/// Which steps stop something. `scale` says so itself. A program does when a later one does what undoes it, or is undone by
/// what it does; it is Temporal that it stops when its health is asked for after that.
fn pauses(migration: &Migration) -> Vec<Pause<'_>> {
    let mut found = Vec::new();
    for (at, stop) in migration.steps.iter().enumerate() {
        let later = migration.steps.get(at + 1..).unwrap_or_default();
        match &stop.operation {
            Operation::Scale(scale) if scale.to == ScaleTo::Zero => {
                let starts = |step: &&MigrationStep| matches!(&step.operation, Operation::Scale(other) if matches!(&other.to, ScaleTo::Before(name) if name.as_str() == stop.key));
                found.push(Pause { stop, start: later.iter().find(starts), is_temporal: true });
            }
            Operation::Exec(program) if !program.undo.is_empty() => {
                let starts = |step: &MigrationStep| matches!(&step.operation, Operation::Exec(other) if other.run == program.undo || other.undo == program.run);
                if let Some(position) = later.iter().position(starts) {
                    let after = later.get(position + 1..).unwrap_or_default();
                    let is_temporal = after.iter().any(|step| matches!(step.operation, Operation::Health(_)));
                    found.push(Pause { stop, start: later.get(position), is_temporal });
                }
            }
            _ => {}
        }
    }
    found
}

fn is_program(step: &MigrationStep) -> bool {
    matches!(step.operation, Operation::Exec(_))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::entry::StepEntry;
    use super::super::set::RecipeSet;
    use super::*;
    use serde_json::{Value, json};

    fn migration(name: &str) -> Migration {
        let given: BTreeMap<String, String> = match name {
            "move-database" => {
                ["stop", "start", "switch", "switch_back"].map(|word| (word.to_owned(), format!("./{word}"))).into()
            }
            _ => [("secret".to_owned(), "s".to_owned())].into(),
        };
        let parameters = BTreeMap::from([(name.to_owned(), given)]);
        RecipeSet::load(None).unwrap().select(&[name.to_owned()], &parameters).unwrap().remove(0)
    }

    fn check(name: &str, state: MigrationState, steps: &[(&str, StepState)], expect: &[&str]) {
        let migration = migration(name);
        let step = |(key, state): &(&str, StepState)| {
            let one = StepEntry { state: *state, undo: json!([]), found: Value::Null, noted: Value::Null, error: None };
            ((*key).to_owned(), one)
        };
        let entry = Entry {
            name: name.into(),
            digest: migration.digest.clone(),
            parameters: BTreeMap::new(),
            target: "temporal".into(),
            state,
            error: None,
            steps: steps.iter().map(step).collect(),
        };
        let said = in_force(&migration, &entry).unwrap_or_default();
        assert_eq!(said.lines().collect::<Vec<_>>(), expect, "{steps:?}");
    }

    #[test]
    fn what_stops_nothing_leaves_nothing() {
        assert!(may_leave_in_force(&migration("move-database")));
        assert!(may_leave_in_force(&migration("move-database-kubernetes")));
        let parameters = BTreeMap::new();
        let tunes = RecipeSet::load(None).unwrap().select(&["tune-autovacuum".to_owned()], &parameters).unwrap();
        assert!(!may_leave_in_force(&tunes[0]));
    }

    #[test]
    fn a_stopped_temporal_is_told_with_where_to_go() {
        use MigrationState::{Failed, Stopped, Undoing, Undone};
        use StepState::{Done, Intended};
        let (by_program, by_scale) = ("move-database", "move-database-kubernetes");
        check(by_program, Stopped, &[("first-backup", Done)], &[]);
        let both =
            "; go on with `sexton migrate run move-database` or go back with `sexton migrate undo move-database`";
        let stopped = "Temporal is stopped: step `stop-temporal` is done, and `start-temporal` is not";
        check(by_program, Stopped, &[("stop-temporal", Done)], &[&format!("{stopped}{both}")]);
        check(by_program, Undone, &[("stop-temporal", Done)], &[]);
        let closed = "The source's databases are closed to everybody but sexton: step `fence-source` is done";
        let fenced = [("stop-temporal", Done), ("fence-source", Done)];
        check(by_program, Failed, &fenced, &[closed, &format!("{stopped}{both}")]);
        let back = format!("{stopped}; it is going back: go on with `sexton migrate undo move-database`");
        check(by_program, Undoing, &[("stop-temporal", Done), ("start-temporal", StepState::Undone)], &[&back]);
        let begun =
            format!("Temporal may be stopped: step `stop-temporal` is half done, and `start-temporal` is not{both}");
        check(by_program, Failed, &[("stop-temporal", Intended)], &[&begun]);
        // Started, it is not stopped, whatever comes after.
        check(by_program, Failed, &[("stop-temporal", Done), ("start-temporal", Done), ("health", Intended)], &[]);
        let written = "Temporal may be stopped: step `stop-temporal` is done, and `start-temporal` is half done; \
                       go on with `sexton migrate run move-database-kubernetes` or, as long as the target was not written to, \
                       go back with `sexton migrate undo move-database-kubernetes`";
        check(
            by_scale,
            Failed,
            &[("stop-temporal", Done), ("way-back", Done), ("start-temporal", Intended)],
            &[written],
        );
    }
}
