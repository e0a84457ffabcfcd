use serde::Serialize;

use super::RestoreArgs;
use crate::backup::Chunks;
use crate::backup::{self, Manifest, Preview, Target};
use crate::cli::failures::Shown;
use crate::cli::output;
use crate::context::Context;
use crate::daemon::jobs::Site;
use crate::exit::Exit;
use crate::job::JobName;
use crate::units::{human_bytes, took};

/// Drills that are looked through for one that restored something.
const LOOKED_AT: u32 = 20;

#[derive(Serialize)]
struct Shape<'p> {
    dry_run: bool,
    #[serde(flatten)]
    preview: &'p Preview,
    estimated_milliseconds: Option<u64>,
}

pub(super) async fn preview(
    site: &Site,
    from: &Chunks,
    manifest: &Manifest,
    database: &str,
    target: &Target,
    args: &RestoreArgs,
    ctx: &Context,
) -> Result<Exit, Shown> {
    let preview = backup::preview(from, manifest, database, args.table.as_deref(), target, ctx).await;
    let preview = preview.map_err(Shown::of)?;
    let estimate = estimate(site, preview.bytes).await;
    if args.json {
        output::json(&Shape { dry_run: true, preview: &preview, estimated_milliseconds: estimate });
        return Ok(Exit::ChangesPresent);
    }
    let rows = preview.tables.iter().map(|t| vec![t.table.clone(), t.rows.to_string(), human_bytes(t.bytes)]);
    output::text(output::table(&["table", "rows", "bytes"], rows.collect()));
    output::text(format_args!(
        "\nbackup {}: database {} would be restored into {} at {}: {} tables, {} rows, {} ({} to fetch)",
        preview.id,
        preview.source,
        preview.target,
        target.postgres.address(),
        preview.tables.len(),
        preview.rows,
        human_bytes(preview.bytes),
        human_bytes(preview.stored_bytes),
    ));
    for what in &preview.left_out {
        output::text(format_args!("left out: {what}"));
    }
    output::text(match estimate {
        Some(millis) => format!("by the rate of the last drill, it takes about {}", took(millis)),
        None => "how long it takes is unknown: the ledger has no drill that restored something".to_owned(),
    });
    Ok(Exit::ChangesPresent)
}

/// How long so many bytes take at the rate of the newest drill that restored something, in milliseconds. A ledger that
/// does not answer knows of none.
async fn estimate(site: &Site, bytes: u64) -> Option<u64> {
    let ledger = site.ledger().await.ok()?;
    let runs = ledger.recent(Some(JobName::Drill), LOOKED_AT).await.ok()?;
    let rate = |run: &crate::daemon::ledger::Run| {
        let databases = run.report.as_ref()?.get("databases")?.as_array()?;
        let restored = databases.iter().filter(|d| d["tables"].as_array().is_some_and(|tables| !tables.is_empty()));
        let sum = |(bytes, millis): (u64, u64), d: &serde_json::Value| {
            Some((bytes.checked_add(d["bytes"].as_u64()?)?, millis.checked_add(d["milliseconds"].as_u64()?)?))
        };
        restored.into_iter().try_fold((0, 0), sum).filter(|(bytes, _)| *bytes > 0)
    };
    let (drilled, millis) = runs.iter().find_map(rate)?;
    let estimated = u128::from(bytes) * u128::from(millis) / u128::from(drilled);
    u64::try_from(estimated).ok()
}
