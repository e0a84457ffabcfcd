use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, output};
use crate::exit::Exit;

/// `sexton completions`.
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn completions(args: &CompletionsArgs) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "sexton", &mut script);
    output::text(String::from_utf8_lossy(&script).trim_end());
    Exit::Done
}
