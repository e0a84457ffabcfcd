//! Migrations on a real PostgreSQL: applied once, refused when edited, and taken up again after a kill.

mod approvals;
mod done_again;
mod fences;
mod ground;
mod half_done;
mod half_undone;
mod kept;
mod kills;
mod kubernetes;
mod marks;
mod moves;
mod recipes;
mod rehearsals;
mod saga;
mod server_log;
mod stopped;
mod stores;
mod undo;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use sexton::context::Context;
use sexton::failure::{Explain, Kind};
use sexton::migrate::{
    Journal, MigrateError, MigratePlan, MigrateReport, Migration, MigrationState, Options, Place, RecipeSet,
    StepOutcome, StepState, Work, World, apply, plan,
};
use sqlx::{Connection, Executor};

pub(super) use self::ground::Move;
pub(super) use self::moves::quiet;
use super::support::postgres::{Scratch, postgres15};
use super::support::stack;

/// A ledger and a database, and the client's side of them.
struct Ground {
    ledger: Scratch,
    main: Scratch,
    journal: Journal,
    world: World,
    ctx: Context,
}

impl Ground {
    async fn new() -> Self {
        let (ledger, main) = (Scratch::new("ledger"), Scratch::new("main"));
        let pool = postgres15().pool(&ledger.name, 4);
        sqlx::migrate!("migrations/ledger").run(&pool).await.unwrap();
        let journal = Journal::new(pool).with_lock_wait(Duration::from_secs(1));
        let world = World::of(Place::new(postgres15(), &main.name, None));
        Self { ledger, main, journal, world, ctx: Context::plain() }
    }

    async fn plan(&self, migration: &Migration) -> Result<MigratePlan, MigrateError> {
        plan(std::slice::from_ref(migration), &self.journal, &self.world, &self.ctx).await
    }

    async fn run(&self, migration: &Migration) -> Result<MigrateReport, MigrateError> {
        let planned = self.plan(migration).await?;
        apply(&planned, &self.journal, &self.world, &Options::default(), &self.ctx).await.verdict()
    }

    fn reloptions(&self, table: &str) -> String {
        self.main.psql(&format!("SELECT array_to_string(reloptions, ' ') FROM pg_class WHERE relname = '{table}'"))
    }

    fn steps(&self) -> String {
        self.ledger.psql("SELECT step, state FROM migration_steps ORDER BY position")
    }
}

/// A recipe of two steps over two tables, with one statement of choice in the first.
fn two_steps(attempts: u32, value: &str) -> Migration {
    let step = |table: &str| {
        format!(
            "      - name: {table}\n        do:\n          sql:\n            attempts: {attempts}\n            \
             lock_timeout: 50ms\n            \
             check: SELECT coalesce('fillfactor={value}' = ANY (reloptions), false) FROM pg_class WHERE relname = '{table}'\n            \
             run: [ALTER TABLE {table} SET (fillfactor = {value})]\n            \
             undo: [ALTER TABLE {table} RESET (fillfactor)]\n"
        )
    };
    let text = format!(
        "name: two-steps\ndescription: Two tables\non_failure: stop\ndatabase: main\nstages:\n  - name: only\n    steps:\n{}{}",
        step("one"),
        step("two")
    );
    from_text(&text)
}

fn from_text(text: &str) -> Migration {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("recipe.yaml"), text).unwrap();
    let set = RecipeSet::load(Some(folder.path())).unwrap();
    let name = set.iter().find(|(_, path)| path.is_some()).unwrap().0.name.to_string();
    set.select(&[name], &BTreeMap::new()).unwrap().remove(0)
}

fn tune_autovacuum() -> Migration {
    RecipeSet::load(None).unwrap().select(&["tune-autovacuum".to_owned()], &BTreeMap::new()).unwrap().remove(0)
}

/// Temporal's own main schema, made by its own tool.
fn temporal_schema(database: &Scratch) {
    for arguments in
        [&["setup-schema", "-v", "0.0"] as &[&str], &["update-schema", "--schema-name", "postgresql/v12/temporal"]]
    {
        let output = Command::new(stack().get("TEMPORAL_SQL_TOOL"))
            .args(["--plugin", "postgres12", "--db", &database.name])
            .args(arguments)
            .env("SQL_HOST", stack().get("PG15_HOST"))
            .env("SQL_PORT", stack().get("PG15_PORT"))
            .env("SQL_USER", stack().get("PG15_USER"))
            .env("SQL_PASSWORD", stack().get("PG15_PASSWORD"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[tokio::test]
async fn tune_autovacuum_is_applied_once_to_temporals_own_schema() {
    let ground = Ground::new().await;
    temporal_schema(&ground.main);
    ground.main.psql("ALTER TABLE history_node SET (autovacuum_vacuum_scale_factor = 0.4)");
    let migration = tune_autovacuum();

    let planned = ground.plan(&migration).await.unwrap();
    assert!(planned.migrations[0].steps.iter().all(|s| s.work == Work::Run), "{planned:?}");
    assert_eq!(ground.ledger.psql("SELECT count(*) FROM migrations"), "0", "a plan writes nothing");
    let report =
        apply(&planned, &ground.journal, &ground.world, &Options::default(), &ground.ctx).await.verdict().unwrap();
    assert_eq!(report.changed, 1);
    assert!(report.migrations[0].steps.iter().all(|s| s.outcome == StepOutcome::Done));

    assert_eq!(
        ground.reloptions("history_node"),
        "autovacuum_vacuum_scale_factor=0.01 autovacuum_vacuum_insert_scale_factor=0.01 \
         autovacuum_analyze_scale_factor=0.02 autovacuum_vacuum_cost_delay=1"
    );
    assert_eq!(
        ground.reloptions("timer_tasks"),
        "autovacuum_vacuum_scale_factor=0 autovacuum_vacuum_threshold=5000 \
         autovacuum_vacuum_insert_threshold=100000 autovacuum_vacuum_cost_limit=2000"
    );
    let tuned = ground.main.psql("SELECT count(*) FROM pg_class WHERE relkind = 'r' AND reloptions IS NOT NULL");
    assert_eq!(tuned, migration.steps.len().to_string(), "every table that the recipe names is in the real schema");
    assert_eq!(ground.ledger.psql("SELECT state FROM migrations"), "applied");
    assert_eq!(ground.ledger.psql("SELECT DISTINCT state, evidence->>'verified' FROM migration_steps"), "done|true");

    let again = ground.plan(&migration).await.unwrap();
    assert!(again.plan().is_empty(), "{:?}", again.plan());
    assert_eq!(apply(&again, &ground.journal, &ground.world, &Options::default(), &ground.ctx).await.changed, 0);

    // The undo in the journal gives the former values back: 0.4, and nothing where nothing was set.
    let undo = ground.ledger.psql("SELECT string_agg(u, ';') FROM migration_steps, jsonb_array_elements_text(undo) u");
    ground.main.psql(&undo);
    assert_eq!(ground.reloptions("history_node"), "autovacuum_vacuum_scale_factor=0.4");
    assert_eq!(ground.reloptions("timer_tasks"), "");

    let drifted = ground.plan(&migration).await.unwrap().plan();
    assert!(drifted.is_empty(), "a migration runs once");
    let [note] = drifted.notes.as_slice() else { panic!("one note says the drift: {:?}", drifted.notes) };
    assert!(migration.steps.iter().all(|step| note.contains(&step.key)), "{note}");
}

#[tokio::test]
async fn the_wrong_database_is_refused() {
    let ground = Ground::new().await;
    let error = ground.run(&tune_autovacuum()).await.unwrap_err();
    assert!(matches!(error, MigrateError::Requirement { .. }), "{error}");
    assert_eq!(error.kind(), Kind::Refused);
    assert_eq!(ground.ledger.psql("SELECT count(*) FROM migrations"), "0");
}

#[tokio::test]
async fn an_edited_recipe_is_refused_under_the_same_name() {
    let ground = Ground::new().await;
    ground.main.psql("CREATE TABLE one (); CREATE TABLE two ()");
    let (first, edited) = (two_steps(3, "70"), two_steps(3, "60"));
    ground.run(&first).await.unwrap();

    let error = ground.run(&edited).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(first.digest.as_str()) && text.contains(edited.digest.as_str()), "{text}");
    assert!(error.hint().unwrap().contains("new name"));
    assert_eq!(error.kind(), Kind::Refused);
    assert_eq!(ground.reloptions("one"), "fillfactor=70");
}

#[tokio::test]
async fn a_held_lock_is_tried_again_and_then_fails_with_nothing_changed() {
    let ground = Ground::new().await;
    ground.main.psql("CREATE TABLE one (); CREATE TABLE two ()");
    let migration = two_steps(3, "70");
    let mut holder = postgres15().connect(&ground.main.name).await.unwrap();
    let mut held = holder.begin().await.unwrap();
    held.execute("LOCK TABLE two IN SHARE UPDATE EXCLUSIVE MODE").await.unwrap();

    let error = ground.run(&migration).await.unwrap_err();
    assert!(matches!(&error, MigrateError::Step { source, .. } if source.is_locked()), "{error}");
    assert!(error.to_string().contains("3 attempts"), "{error}");
    assert_eq!((ground.reloptions("one").as_str(), ground.reloptions("two").as_str()), ("fillfactor=70", ""));
    assert_eq!(ground.steps(), "one|done\ntwo|failed");
    assert_eq!(ground.ledger.psql("SELECT state FROM migrations"), "failed");

    held.rollback().await.unwrap();
    let report = ground.run(&migration).await.unwrap();
    assert_eq!(report.migrations[0].steps.len(), 1, "the finished step is kept");
    assert_eq!(ground.reloptions("two"), "fillfactor=70");
    assert_eq!(ground.journal.read("two-steps").await.unwrap().unwrap().state, MigrationState::Applied);
}

#[tokio::test]
async fn a_kill_between_act_and_evidence_is_recovered_from_the_world() {
    let ground = Ground::new().await;
    ground.main.psql("CREATE TABLE one (); CREATE TABLE two ()");
    // The evidence of the first step cannot be written while the test holds this lock.
    ground.ledger.psql(
        "CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS
         $$BEGIN IF NEW.state = 'done' THEN PERFORM pg_advisory_xact_lock(42); END IF; RETURN NEW; END$$;
         CREATE TRIGGER gate BEFORE UPDATE ON migration_steps FOR EACH ROW EXECUTE FUNCTION gate()",
    );
    let mut gate = postgres15().connect(&ground.ledger.name).await.unwrap();
    gate.execute("SELECT pg_advisory_lock(42)").await.unwrap();

    let migration = two_steps(3, "70");
    let planned = ground.plan(&migration).await.unwrap();
    let (journal, world, ctx) = (ground.journal.clone(), ground.world.clone(), ground.ctx.clone());
    let task =
        tokio::spawn(async move { apply(&planned, &journal, &world, &Options::default(), &ctx).await.verdict() });
    for _ in 0..300 {
        if ground.reloptions("one") == "fillfactor=70" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // While it hangs there, a second run of the same migration is refused.
    let busy = ground.run(&migration).await.unwrap_err();
    assert!(matches!(busy, MigrateError::Busy { .. }), "{busy}");

    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    ground.ledger.psql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND wait_event_type = 'Lock'",
    );
    gate.execute("SELECT pg_advisory_unlock(42)").await.unwrap();
    assert_eq!(ground.steps(), "one|intended");
    assert_eq!((ground.reloptions("one").as_str(), ground.reloptions("two").as_str()), ("fillfactor=70", ""));

    let report = ground.run(&migration).await.unwrap();
    let outcomes: Vec<_> = report.migrations[0].steps.iter().map(|s| s.outcome).collect();
    assert_eq!(outcomes, [StepOutcome::Recovered, StepOutcome::Done]);
    assert_eq!(ground.steps(), "one|done\ntwo|done");
    assert_eq!(ground.reloptions("two"), "fillfactor=70");
    let entry = ground.journal.read("two-steps").await.unwrap().unwrap();
    assert_eq!(entry.steps["one"].undo, serde_json::json!(["ALTER TABLE one RESET (fillfactor)"]));
    assert_eq!(entry.steps["one"].state, StepState::Done);
}

#[tokio::test]
async fn a_statement_that_outlives_its_session_keeps_the_next_run_away() {
    let ground = Ground::new().await;
    ground.main.psql("CREATE TABLE one (); CREATE TABLE two ()");
    // As the server is left by a run that was killed: the lock on the target is held, the one in the ledger is not.
    let migration = two_steps(3, "70");
    let leftover = {
        let ctx = ground.ctx.clone();
        let on_main = Journal::new(postgres15().pool(&ground.main.name, 1));
        on_main.lock("at work two-steps", &BTreeSet::new(), &ctx.cancel).await.unwrap()
    };
    let error = ground.run(&migration).await.unwrap_err();
    assert!(matches!(error, MigrateError::Busy { .. }), "{error}");
    assert_eq!(ground.ledger.psql("SELECT count(*) FROM migrations"), "0");
    leftover.release().await;
    assert_eq!(ground.run(&migration).await.unwrap().changed, 1);
}

#[tokio::test]
async fn a_cancel_while_waiting_for_a_lock_stops_and_goes_on_later() {
    let ground = Ground::new().await;
    ground.main.psql("CREATE TABLE one (); CREATE TABLE two ()");
    let migration = two_steps(1000, "70");
    let mut holder = postgres15().connect(&ground.main.name).await.unwrap();
    let mut held = holder.begin().await.unwrap();
    held.execute("LOCK TABLE two IN SHARE UPDATE EXCLUSIVE MODE").await.unwrap();

    let planned = ground.plan(&migration).await.unwrap();
    let (journal, world, ctx) = (ground.journal.clone(), ground.world.clone(), ground.ctx.clone());
    let task =
        tokio::spawn(async move { apply(&planned, &journal, &world, &Options::default(), &ctx).await.verdict() });
    for _ in 0..300 {
        if ground.steps() == "one|done\ntwo|intended" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    ground.ctx.cancel.cancel();
    let error = task.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), Kind::Cancelled, "{error}");
    assert_eq!(ground.ledger.psql("SELECT state FROM migrations"), "stopped");
    assert_eq!(ground.reloptions("two"), "");

    held.rollback().await.unwrap();
    let later = Ground { ctx: Context::plain(), ..ground };
    assert_eq!(later.run(&migration).await.unwrap().changed, 1);
    assert_eq!(later.reloptions("two"), "fillfactor=70");
}

#[tokio::test]
async fn a_plan_cannot_write_even_if_its_check_tries_to() {
    let ground = Ground::new().await;
    ground.main.psql("CREATE TABLE seen (n int)");
    let migration = from_text(
        "name: sneaky\ndescription: x\napproval: none\ndatabase: main\nrequires:\n  - that: this\n    query: WITH w AS (INSERT INTO seen VALUES (1) RETURNING 1) SELECT true FROM w\nstages:\n  - name: s\n    steps:\n      - name: t\n        do:\n          sql:\n            run: [SELECT 1]\n",
    );
    let error = ground.plan(&migration).await.unwrap_err();
    assert!(error.to_string().contains("read-only"), "{error}");
    assert_eq!(ground.main.psql("SELECT count(*) FROM seen"), "0");
}

#[tokio::test]
async fn an_index_is_made_concurrently_outside_a_transaction() {
    let ground = Ground::new().await;
    ground.main.psql("CREATE TABLE one (n int)");
    let text = "name: add\ndescription: x\napproval: none\ndatabase: main\nstages:\n  - name: s\n    steps:\n      - name: t\n        do:\n          sql:\n            transaction: false\n            run: [DROP INDEX CONCURRENTLY IF EXISTS one_n, CREATE INDEX CONCURRENTLY one_n ON one (n)]\n            verify: SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('one_n')\n";
    assert_eq!(ground.run(&from_text(text)).await.unwrap().changed, 1);
    assert_eq!(ground.main.psql("SELECT indisvalid FROM pg_index WHERE indexrelid = 'one_n'::regclass"), "t");

    // The same statements inside a transaction are refused by the server, and the failure is journaled.
    let wrong = text.replace("transaction: false", "transaction: true").replace("name: add", "name: wrong");
    let error = ground.run(&from_text(&wrong)).await.unwrap_err();
    assert!(error.to_string().contains("cannot run inside a transaction block"), "{error}");
    assert_eq!(ground.ledger.psql("SELECT state FROM migration_steps WHERE migration = 'wrong'"), "failed");
}

#[tokio::test]
async fn a_verification_that_says_no_fails_the_migration() {
    let ground = Ground::new().await;
    let migration = from_text(
        "name: hollow\ndescription: x\napproval: none\ndatabase: main\nstages:\n  - name: s\n    steps:\n      - name: t\n        do:\n          sql:\n            run: [SELECT 1]\n            verify: SELECT false\n",
    );
    let error = ground.run(&migration).await.unwrap_err();
    assert_eq!(error.kind(), Kind::VerificationFailed);
    assert_eq!(ground.ledger.psql("SELECT state, evidence->>'verified' FROM migration_steps"), "failed|false");
}

#[tokio::test]
async fn a_ledger_without_the_journal_says_how_to_make_it() {
    let (ledger, main) = (Scratch::new("ledger"), Scratch::new("main"));
    let journal = Journal::new(postgres15().pool(&ledger.name, 2));
    let world = World::of(Place::new(postgres15(), &main.name, None));
    let error = plan(&[tune_autovacuum()], &journal, &world, &Context::plain()).await.unwrap_err();
    assert!(matches!(error, MigrateError::NoJournal), "{error}");
    assert_eq!(error.hint().as_deref(), Some("run `sexton ledger init`"));
    assert!(Path::new("migrations/ledger/0002_migrations.sql").exists());
}
