//! What every error of the crate can say about itself: of what kind it is and what to do about it.
//!
//! Domain errors are `thiserror` enums of their own. They implement [`Explain`], so that the runner, the command
//! line and the ledger treat them alike without knowing them.

use std::error::Error;
use std::fmt;

/// The kinds of failure that callers tell apart; each has its exit code in [`crate::exit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Something went wrong while it was done.
    Failed,
    /// It, or a part of it, was not done because doing it would be wrong.
    Refused,
    /// The run was asked to stop, or its deadline passed.
    Cancelled,
    /// A comparison found a difference.
    VerificationFailed,
    /// A comparison could not be made.
    CouldNotVerify,
    /// It waits for somebody's approval.
    Awaited,
    /// The plan or approval was made for another state of the world.
    Stale,
    /// The run failed and its finished steps were undone.
    Compensated,
    /// The command line is wrong.
    Usage,
    /// The configuration or a policy is wrong.
    Config,
}

/// An error that knows its kind and, where it can, the next step for the reader.
pub trait Explain: Error + Send + Sync + 'static {
    /// The kind of this failure; [`Kind::Failed`] unless said otherwise.
    fn kind(&self) -> Kind {
        Kind::Failed
    }

    /// What to do next, one sentence in the imperative, without a full stop.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// Any [`Explain`] error, flattened to what the runner stores and the command line prints.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Failure {
    /// Of what kind.
    pub kind: Kind,
    /// The error and its causes, joined by `: `.
    pub message: String,
    /// What to do next; on lines of their own, what a run has left in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Failure {
    /// A failure made on the spot, for the places that have no error type of their own.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// The same failure with a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same failure with what is in force after it, below the hint.
    #[must_use]
    pub fn with_in_force(mut self, in_force: &str) -> Self {
        self.hint = Some(self.hint.map_or_else(|| in_force.to_owned(), |hint| format!("{hint}\n{in_force}")));
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl<E: Explain> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { kind: error.kind(), message: chain(&error), hint: error.hint() }
    }
}

/// The error and its causes in one line; a cause that the outer message already ends with is not repeated.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = without_errno(&error.to_string());
    let mut source = error.source();
    while let Some(cause) = source {
        let database = said_by_server(cause);
        let last = database.is_some();
        let cause_text = without_errno(&database.unwrap_or_else(|| cause.to_string()));
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = if last { None } else { cause.source() };
    }
    cut(text)
}

/// Bytes of the longest error: a server may repeat a statement of any length, and what failed is kept and served.
const LONGEST: usize = 4_000;

fn cut(mut text: String) -> String {
    if text.len() > LONGEST {
        let (end, all) = (text.floor_char_boundary(LONGEST), text.len());
        text.truncate(end);
        text.push_str(&format!("… ({} bytes more)", all - end));
    }
    text
}

/// The same without the numbers that `std::io` puts behind its words: `No such file or directory (os error 2)`.
#[must_use]
pub fn without_errno(text: &str) -> String {
    const MARK: &str = " (os error ";
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(MARK) {
        out.push_str(before);
        let number = after.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-');
        match number.strip_prefix(')') {
            Some(next) => rest = next,
            None => {
                out.push_str(MARK);
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// The message of PostgreSQL's server, when the error is one. sqlx adds the line of the server's own source code to it,
/// which reads like a line of the user's.
fn said_by_server(error: &(dyn Error + 'static)) -> Option<String> {
    let boxed = || error.downcast_ref::<Box<sqlx::Error>>().map(AsRef::as_ref);
    let sqlx::Error::Database(database) = error.downcast_ref::<sqlx::Error>().or_else(boxed)? else { return None };
    Some(match database.code() {
        Some(code) => format!("{} (SQLSTATE {code})", database.message()),
        None => database.message().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("reading the manifest")]
    struct Outer(#[source] std::io::Error);
    impl Explain for Outer {
        fn hint(&self) -> Option<String> {
            Some("run `sexton doctor`".into())
        }
    }

    #[test]
    fn a_failure_keeps_the_causes_and_the_hint() {
        let failure = Failure::from(Outer(std::io::Error::other("no such bucket")));
        assert_eq!(failure.message, "reading the manifest: no such bucket");
        assert_eq!(failure.hint.as_deref(), Some("run `sexton doctor`"));
        assert_eq!(failure.kind, Kind::Failed);
    }

    #[test]
    fn numbers_of_the_system_are_left_out() {
        let check = |text: &str, expect: &str| assert_eq!(without_errno(text), expect);
        check("a (os error 2)", "a");
        check("a (os error 2): b (os error 13)", "a: b");
        check("a (os error", "a (os error");
        check("a (os error x", "a (os error x");
    }
}
