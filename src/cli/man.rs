use clap::CommandFactory;

use super::failures::Shown;
use super::{Cli, output};
use crate::exit::Exit;
use crate::failure::{Failure, Kind};

/// Prints the manual page of the program and of each of its verbs, one behind the other.
pub(super) fn man() -> Result<Exit, Shown> {
    let mut page = Vec::new();
    let mut command = Cli::command();
    command.build();
    let mut all = vec![command];
    while let Some(command) = all.pop() {
        let verbs: Vec<_> = command.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned().collect();
        all.extend(verbs.into_iter().rev());
        let rendered = clap_mangen::Man::new(command).render(&mut page);
        rendered.map_err(|error| Failure::new(Kind::Failed, format!("the manual page: {error}")))?;
    }
    output::text(String::from_utf8_lossy(&page).trim_end());
    Ok(Exit::Done)
}
