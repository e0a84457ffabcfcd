use std::fmt::Write;

use clap::CommandFactory;
use clap::builder::Resettable;

use super::failures::Shown;
use super::{Cli, EXIT_CODES, output};
use crate::exit::Exit;
use crate::failure::{Failure, Kind};

/// What is read from the environment beside the secrets that a configuration names.
const VARIABLES: [(&str, &str); 5] = [
    ("SEXTON_CONFIG", "The configuration file, where \\fB\\-\\-config\\fR is not given."),
    ("SEXTON_LOG_FORMAT", "How logs are written, where \\fB\\-\\-log\\-format\\fR is not given: auto, text or json."),
    ("RUST_LOG", "Which logs are written, as `info` or `sexton=debug`; it wins over \\fB\\-v\\fR and \\fB\\-q\\fR."),
    ("HTTPS_PROXY, HTTP_PROXY, NO_PROXY", "By which proxy webhooks are sent, and to whom by none."),
    ("whatever sexton.yaml names", "A secret is read from the variable under `{env: NAME}`."),
];

/// Prints the manual page of the program and of each of its verbs, one behind the other.
pub(super) fn man() -> Result<Exit, Shown> {
    let mut page = Vec::new();
    // The exit codes have a section of their own.
    let mut command = Cli::command().after_help(Resettable::Reset);
    command.build();
    let mut all = vec![command];
    while let Some(command) = all.pop() {
        let verbs: Vec<_> = command.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned().collect();
        all.extend(verbs.into_iter().rev());
        let is_whole = page.is_empty();
        let rendered = clap_mangen::Man::new(command).render(&mut page);
        rendered.map_err(|error| Failure::new(Kind::Failed, format!("the manual page: {error}")))?;
        if is_whole {
            page.extend(sections().into_bytes());
        }
    }
    output::text(String::from_utf8_lossy(&page).trim_end());
    Ok(Exit::Done)
}

/// The sections of the first page that the arguments alone do not make, in roff.
fn sections() -> String {
    let mut text = String::from(".SH \"EXIT STATUS\"\n");
    for (code, meaning) in EXIT_CODES {
        let _ = write!(text, ".TP\n\\fB{code}\\fR\n{meaning}\n");
    }
    text.push_str(".SH ENVIRONMENT\n");
    for (name, meaning) in VARIABLES {
        let _ = write!(text, ".TP\n\\fB{name}\\fR\n{meaning}\n");
    }
    text
}
