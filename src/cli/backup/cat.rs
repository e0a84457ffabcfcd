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
use crate::failure::{Failure, Kind};

/// `sexton backup cat`.
#[derive(Debug, Args)]
pub(in crate::cli) struct CatArgs {
    /// The table: `name`, `schema.name`, or with double quotes; the schema is `public` unless said
    table: String,
    /// The backup's identifier, or `latest`
    #[arg(long, value_name = "ID", default_value = "latest")]
    backup: String,
    /// Which of the backup's databases [default: the one under postgres.databases.main]
    #[arg(long, value_name = "DATABASE", value_parser = args::database)]
    database: Option<String>,
    /// In which of COPY's forms
    #[arg(long, value_enum, default_value = "csv")]
    format: Form,
    /// Only these columns, in this order; a name with a comma in it stands in double quotes
    #[arg(long, value_name = "NAME,…", value_parser = columns)]
    columns: Option<Columns>,
    /// With csv: a first line with the columns' names
    #[arg(long)]
    header: bool,
}

/// Names of columns.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Columns(Vec<String>);

/// Reads names with commas in between, of which each may stand in double quotes, as in a line of CSV.
fn columns(text: &str) -> Result<Columns, String> {
    let mut names = vec![String::new()];
    let (mut quoted, mut chars) = (false, text.chars().peekable());
    while let Some(c) = chars.next() {
        let Some(name) = names.last_mut() else { break };
        match c {
            '"' if quoted && chars.next_if_eq(&'"').is_some() => name.push('"'),
            '"' if quoted || name.is_empty() => quoted = !quoted,
            ',' if !quoted => names.push(String::new()),
            c => name.push(c),
        }
    }
    match quoted || names.iter().any(String::is_empty) {
        true => Err("write names with commas in between, `id,\"odd, name\"`".to_owned()),
        false => Ok(Columns(names)),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Csv,
    Text,
    Binary,
}

pub(super) async fn cat(site: &Site, store: &Arc<dyn Store>, args: &CatArgs, ctx: &Context) -> Result<Exit, Shown> {
    if args.header && args.format != Form::Csv {
        let failure = Failure::new(Kind::Usage, "`--header` goes with `--format csv` only");
        return Err(failure.with_hint("leave one of them out").into());
    }
    let manifest = ctx.cancel.run_until_cancelled(backup::show(&**store, &args.backup)).await;
    let manifest = manifest.ok_or(BackupError::Cancelled).flatten().map_err(Shown::of)?;
    let database = args.database.as_ref().unwrap_or(&site.config.databases.main);
    let output = match args.format {
        Form::Csv => Output::Csv,
        Form::Text => Output::Text,
        Form::Binary => Output::Binary,
    };
    let columns = args.columns.as_ref().map_or(&[][..], |columns| &columns.0);
    let cat = Cat::new(&manifest, database, &args.table, columns, output).map_err(Shown::of)?;
    if args.header && !write(cat.header(), ctx).await.map_err(Shown::of)? {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_columns_may_hold_anything() {
        let check = |text: &str, expect: &[&str]| {
            assert_eq!(columns(text).unwrap().0, expect, "{text}");
        };
        check("id", &["id"]);
        check("id,Name", &["id", "Name"]);
        check(r#""Id",t"#, &["Id", "t"]);
        check(r#""a,b","say ""so""""#, &["a,b", r#"say "so""#]);
        check(r#"5" wide"#, &[r#"5" wide"#]);
        for bad in ["", "a,", ",a", r#""a"#, r#""""#] {
            assert!(columns(bad).is_err(), "{bad}");
        }
    }
}
