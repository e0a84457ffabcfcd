use std::io::{ErrorKind, Write};
use std::sync::Arc;

use clap::{Args, ValueEnum};

use crate::backup::store::Store;
use crate::backup::{self, BackupError, Cat, Output};
use crate::cli::args;
use crate::cli::failures::Shown;
use crate::context::Context;
use crate::daemon::jobs::Site;
use crate::exit::Exit;

/// `sexton backup cat`.
#[derive(Debug, Args)]
pub(in crate::cli) struct CatArgs {
    /// The table: `name`, `schema.name`, or with double quotes; the schema is `public` unless said
    table: String,
    /// The backup's identifier, or `latest`
    #[arg(long, value_name = "ID", default_value = "latest")]
    backup: String,
    /// Which of the backup's databases [default: the one under postgres.databases.main]
    #[arg(long, value_name = "NAME", value_parser = args::database)]
    database: Option<String>,
    /// In which of COPY's forms
    #[arg(long, value_enum, default_value = "csv")]
    format: Form,
    /// Only these columns, in this order
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    columns: Vec<String>,
    /// With csv: a first line with the columns' names
    #[arg(long)]
    header: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Csv,
    Text,
    Binary,
}

pub(super) async fn cat(site: &Site, store: &Arc<dyn Store>, args: &CatArgs, ctx: &Context) -> Result<Exit, Shown> {
    let manifest = ctx.cancel.run_until_cancelled(backup::show(&**store, &args.backup)).await;
    let manifest = manifest.ok_or(BackupError::Cancelled).flatten().map_err(Shown::of)?;
    let database = args.database.as_ref().unwrap_or(&site.config.databases.main);
    let output = match args.format {
        Form::Csv => Output::Csv,
        Form::Text => Output::Text,
        Form::Binary => Output::Binary,
    };
    let cat = Cat::new(&manifest, database, &args.table, &args.columns, output).map_err(Shown::of)?;
    if args.header && args.format == Form::Csv && !write(cat.header(), ctx).await.map_err(Shown::of)? {
        return Ok(Exit::Done);
    }
    cat.rows(&super::chunks(site, store), ctx, async |bytes| write(bytes, ctx).await).await.map_err(Shown::of)?;
    Ok(Exit::Done)
}

/// `false` when nobody reads any more, which is the reader's decision and no error. A reader that waits holds up a
/// thread of its own, so that a signal is still heard.
async fn write(bytes: bytes::Bytes, ctx: &Context) -> Result<bool, BackupError> {
    let writing = tokio::task::spawn_blocking(move || {
        let mut out = std::io::stdout().lock();
        out.write_all(&bytes).and_then(|()| out.flush())
    });
    let written = ctx.cancel.run_until_cancelled(writing).await.ok_or(BackupError::Cancelled)?;
    match written.map_err(|error| BackupError::Internal(error.to_string()))? {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(BackupError::Write(crate::failure::without_errno(&error.to_string()))),
    }
}
