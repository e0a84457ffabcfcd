use serde_json::json;

use super::{NamedArgs, check, output, signals};
use crate::cli::failures::Shown;
use crate::cli::plan::{JobPlan, exit_of, said_of};
use crate::context::Context;
use crate::daemon::jobs::Site;
use crate::exit::Exit;
use crate::failure::{Failure, Kind};
use crate::job::JobName;
use crate::migrate::{self, ApprovalState, Overview, RehearsalRule, Reversal, StepState, Work};

pub(super) async fn plan(site: &Site, args: &NamedArgs) -> Result<Exit, Shown> {
    let migration = check(site, args).await?;
    let ctx = Context { cancel: signals::stop_token(), ..Context::plain() };
    // Planning writes nothing, so it may be dropped anywhere.
    let look = async {
        let journal = site.journal().await?;
        Ok(Overview::of(&migration, &journal, &site.world(), &ctx).await?)
    };
    let seen = ctx.cancel.run_until_cancelled(look).await;
    let seen = seen.unwrap_or_else(|| Err(Failure::new(Kind::Cancelled, "it was asked to stop")));
    let plan = seen.as_ref().map(|seen| migrate::MigratePlan { migrations: vec![seen.planned.clone()] }.plan());
    let plans = [JobPlan::of(JobName::Migrate, plan.map_err(Clone::clone))];
    let seen = match seen {
        Ok(seen) => seen,
        Err(_) => return Ok(crate::cli::plan::show(&plans, args.json)),
    };
    if args.json {
        let (exit, changes) = exit_of(&plans);
        output::json(&json!({ "dry_run": true, "plans": plans, "changes": changes, "migration": form(&seen) }));
        return Ok(exit);
    }
    print(&seen);
    let (exit, changes) = exit_of(&plans);
    output::text(format_args!("\n{}", said_of(changes)));
    Ok(exit)
}

/// What is said about the approval of its beginning, and about the newest one.
fn approval(seen: &Overview) -> String {
    let newest = seen.approvals.iter().find(|approval| approval.step.is_none());
    match (seen.approval(), newest) {
        (ApprovalState::NotNeeded, _) => "not needed".to_owned(),
        (_, None) => "needed".to_owned(),
        (judged, Some(approval)) => {
            let is_stale = judged == ApprovalState::Stale && approval.state == "open";
            let state = if is_stale { "stale" } else { approval.state.as_str() };
            format!("{state}, by {} until {}", approval.by, approval.expires)
        }
    }
}

/// What is said about its rehearsal.
fn rehearsal(seen: &Overview) -> &'static str {
    match (seen.is_rehearsed, seen.planned.migration.recipe.rehearsal) {
        (true, _) => "passed",
        (false, RehearsalRule::Required) => "needed",
        (false, RehearsalRule::Optional) => "none",
    }
}

/// What held already is not sexton's to undo, whatever its step could.
fn reversal(seen: &Overview, step: &migrate::MigrationStep, work: Work) -> &'static str {
    let journaled = seen.entry.as_ref().and_then(|entry| entry.steps.get(&step.key)).map(|entry| entry.state);
    let held = work == Work::Note || (work == Work::Finished && journaled == Some(StepState::Present));
    match step.operation.reversal() {
        _ if held => "nothing to undo",
        Reversal::Undo => "yes",
        Reversal::Nothing => "nothing to undo",
        Reversal::Never => "NO",
    }
}

const fn word(work: Work) -> &'static str {
    match work {
        Work::Finished => "finished",
        Work::Note => "holds already",
        Work::Run => "run",
        Work::Undo => "undo",
        Work::Drifted => "drifted",
    }
}

fn form(seen: &Overview) -> serde_json::Value {
    let migration = &seen.planned.migration;
    let steps: Vec<_> = (migration.steps.iter().zip(&seen.planned.steps))
        .map(|(step, planned)| {
            json!({
                "stage": step.stage, "step": step.key, "operation": step.operation, "work": planned.work,
                "undo": step.operation.reversal(), "description": step.description,
            })
        })
        .collect();
    json!({
        "name": migration.name(), "description": migration.recipe.description, "parameters": migration.values,
        "digest": seen.planned.digest(), "source": seen.source, "source_digest": seen.source.digest(),
        "standing": seen.planned.standing, "steps": steps, "approval": approval(seen), "approvals": seen.approvals,
        "rehearsal": rehearsal(seen),
        "approval_needed": migrate::is_needed(&seen.planned),
        "point_of_no_return": migration.point_of_no_return().map(|step| &step.key),
    })
}

fn print(seen: &Overview) {
    let migration = &seen.planned.migration;
    let short = |digest: &migrate::Digest| digest.as_str().get(..12).unwrap_or_default().to_owned();
    output::text(format_args!("{}: {}", migration.name(), migration.recipe.description));
    output::text(format_args!(
        "plan {}, source {}, approval: {}, rehearsal: {}",
        short(&seen.planned.digest()),
        short(&seen.source.digest()),
        approval(seen),
        rehearsal(seen)
    ));
    let values: Vec<String> = migration.values.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if !values.is_empty() {
        output::text(format_args!("parameters: {}", values.join(", ")));
    }
    output::text("");
    let rows = migration.steps.iter().zip(&seen.planned.steps).map(|(step, planned)| {
        let (stage, kind) = (step.stage.to_string(), step.operation.kind().to_owned());
        let description = step.description.clone().unwrap_or_default();
        vec![
            stage,
            step.key.clone(),
            kind,
            word(planned.work).to_owned(),
            reversal(seen, step, planned.work).to_owned(),
            description,
        ]
    });
    let header = ["stage", "step", "operation", "now", "can be undone", "what it does"];
    output::text(output::table(&header, rows.collect()));
    // The steps are in the table; what is left to say is about the whole.
    let whole = seen.planned.of_the_whole();
    if !whole.is_empty() || !whole.notes.is_empty() {
        output::text(output::rest_of_plan(&whole));
    }
}
