//! How an error is shown: what happened, then what to do.

use std::io::Write;

use crate::document::ConfigError;
use crate::exit::Exit;
use crate::failure::{Explain, Failure};
use crate::job::JobName;

/// An error on its way to standard error: a snippet of a file, or a failure with a hint.
#[derive(Debug)]
pub(super) enum Shown {
    Config(Box<ConfigError>),
    Failure(Failure),
}

impl From<ConfigError> for Shown {
    fn from(error: ConfigError) -> Self {
        Self::Config(Box::new(error))
    }
}

impl From<Failure> for Shown {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl Shown {
    /// Any error of a domain or client.
    pub(super) fn of(error: impl Explain) -> Self {
        Self::Failure(error.into())
    }
}

/// Writes the error to standard error and gives its exit code.
pub(super) fn show(error: &Shown) -> Exit {
    let (text, exit) = match error {
        Shown::Config(error) => (error.render(), Exit::Config),
        Shown::Failure(failure) => (render(failure), Exit::of(failure.kind)),
    };
    let _ = writeln!(std::io::stderr(), "{text}");
    exit
}

/// Writes a failure to standard error.
pub(super) fn tell(failure: &Failure) {
    let _ = writeln!(std::io::stderr(), "{}", render(failure));
}

/// Writes a failure of one job among several to standard error.
pub(super) fn tell_of(job: JobName, failure: &Failure) {
    let _ = writeln!(std::io::stderr(), "{}", render_as(&format!("{job}: "), failure));
}

/// `error: …`, on a line of its own `  hint: …`, and below it what is in force.
pub(super) fn render(failure: &Failure) -> String {
    render_as("", failure)
}

fn render_as(prefix: &str, failure: &Failure) -> String {
    let hint = failure.hint.as_ref().map(|hint| format!("\n  hint: {}", hint.replace('\n', "\n  ")));
    let hint = hint.unwrap_or_default();
    format!("error: {prefix}{failure}{hint}")
}
