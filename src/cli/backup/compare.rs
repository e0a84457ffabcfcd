use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use crate::backup::compare::Verdict;
use crate::backup::difference::{self, Checkpoint, Live, Options, Side};
use crate::backup::store::Store;
use crate::backup::{self, BackupError};
use crate::cli::args;
use crate::cli::failures::Shown;
use crate::cli::output;
use crate::clients::postgres::Postgres;
use crate::context::Context;
use crate::daemon::jobs::Site;
use crate::exit::Exit;
use crate::failure::{Explain, Failure, Kind, chain};

/// `sexton backup compare`.
#[derive(Debug, Args)]
pub(in crate::cli) struct CompareArgs {
    /// The database on the left: in the backup, or with --against and without --backup on the server under `postgres:`
    #[arg(long, value_name = "DATABASE", value_parser = args::database)]
    database: String,
    /// The backup's identifier, or `latest` [default: latest, unless --against is given]
    #[arg(long, value_name = "ID")]
    backup: Option<String>,
    /// The database on the right, on a server [default: the name on the left]
    #[arg(long, value_name = "DATABASE", value_parser = args::database)]
    against: Option<String>,
    /// The database on the right is on the server under `scratch:` instead of the one under `postgres:`
    #[arg(long)]
    scratch: bool,
    /// Tables that are read at once
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,
    /// Differing rows that are named for each table
    #[arg(long, value_name = "ROWS", default_value_t = 10)]
    rows: u16,
    /// Note here how far it is, and go on from there when it was killed
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn compare(
    site: &Site,
    store: Option<&Arc<dyn Store>>,
    args: &CompareArgs,
    ctx: &Context,
) -> Result<Exit, Shown> {
    let opened = ctx.cancel.run_until_cancelled(sides(site, store, args)).await;
    let (left, right) = opened.ok_or(BackupError::Cancelled).map_err(Shown::of)??;
    let options = Options { jobs: args.jobs.into(), shown: args.rows.into() };
    let checkpoint = args.checkpoint.clone().map(|path| Checkpoint::open(path, &left, &right)).transpose();
    let checkpoint = checkpoint.map_err(Shown::of)?;
    let report = difference::compare(left, right, options, checkpoint.as_ref(), ctx).await.map_err(Shown::of)?;
    if args.json {
        output::json(&report);
    } else {
        let count = |wanted| report.tables.iter().filter(|table| table.verdict == wanted).count();
        output::text(format_args!(
            "{} against {}: {} tables equal, {} different, {} not compared",
            report.left,
            report.right,
            count(Verdict::Equal),
            count(Verdict::Differs),
            count(Verdict::Unknown)
        ));
    }
    report.verdict().map_err(Shown::of)?;
    Ok(Exit::Done)
}

async fn sides(site: &Site, store: Option<&Arc<dyn Store>>, args: &CompareArgs) -> Result<(Side, Side), Shown> {
    let server = super::server(site, args.scratch)?;
    let right = args.against.as_ref().unwrap_or(&args.database);
    let left = match (&args.backup, &args.against) {
        (None, Some(_)) => live(&site.postgres(), &args.database).await?,
        (id, _) => {
            let store = store.ok_or_else(super::no_store)?;
            let manifest = backup::show(&**store, id.as_deref().unwrap_or("latest")).await.map_err(Shown::of)?;
            let database = Box::new(manifest.database(&args.database).map_err(Shown::of)?.clone());
            Side::Backup { chunks: super::chunks(site, store), id: manifest.id, database }
        }
    };
    Ok((left, live(&server, right).await?))
}

/// A database that does not answer is not known to differ.
async fn live(postgres: &Postgres, database: &str) -> Result<Side, Shown> {
    let unverified = |error: BackupError| match error.kind() {
        Kind::Failed => {
            let subject = format!("database `{database}` at {}", postgres.address());
            let hint = error.hint();
            let mut failure = Failure::from(BackupError::Unverified { subject, reasons: vec![chain(&error)] });
            failure.hint = hint.or(failure.hint);
            Shown::from(failure)
        }
        _ => Shown::of(error),
    };
    Ok(Side::Database(Box::new(Live::open(postgres, database).await.map_err(unverified)?)))
}
