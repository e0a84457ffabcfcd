use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use secrecy::ExposeSecret;

use super::failures::Shown;
use super::output;
use crate::backup::seal;
use crate::exit::Exit;
use crate::failure::{Failure, Kind, without_errno};

/// `sexton backup keygen`.
#[derive(Debug, Args)]
pub(super) struct KeygenArgs {
    /// Write the key to this file, which must not exist, readable by its owner only [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Needs no configuration: the key is best made where no daemon runs.
pub(super) fn keygen(args: &KeygenArgs) -> Result<Exit, Shown> {
    let (secret, recipient) = seal::generate(Timestamp::now());
    let Some(path) = &args.output else {
        output::text(secret.expose_secret().trim_end());
        return Ok(Exit::Done);
    };
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = made.and_then(|mut file| {
        file.write_all(secret.expose_secret().as_bytes())?;
        file.sync_all()
    });
    written.map_err(|error| {
        let message = format!("{} cannot be written: {}", path.display(), without_errno(&error.to_string()));
        Failure::new(Kind::Usage, message)
            .with_hint("name a new file in a folder that exists; no key is ever overwritten")
    })?;
    output::text(format_args!("{recipient}"));
    Ok(Exit::Done)
}
