//! A YAML file as text with positions: parsing into a type, and errors that point at the place.

mod blot;
mod suggest;

pub(crate) use suggest::distance;

use std::fmt;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode, SourceSpan};
use serde::de::DeserializeOwned;
use serde_saphyr::{Location, UserMessageFormatter};

use crate::failure::{Explain, Kind, without_errno};

/// No file that a person writes is larger; a device or a pipe could be without end. Bytes.
pub const LARGEST: u64 = 16 << 20;

/// A file that was read, kept for the error messages about it.
#[derive(Debug, Clone)]
pub struct Document {
    path: PathBuf,
    text: Arc<str>,
}

impl Document {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, is not UTF-8 or larger than [`LARGEST`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = text_of(path).map_err(|error| {
            let link = path.symlink_metadata().is_ok();
            let (problem, hint) = match error.kind() {
                ErrorKind::NotFound if link => ("it is a link to nothing", "mend or remove the link"),
                ErrorKind::NotFound => {
                    ("there is no such file", "create it, or name another one with --config or SEXTON_CONFIG")
                }
                ErrorKind::PermissionDenied => {
                    ("permission denied", "let the user that runs sexton read the file and enter its folders")
                }
                ErrorKind::InvalidData => ("it is not text in UTF-8", "save it as UTF-8"),
                ErrorKind::FileTooLarge => ("it is larger than 16 MiB", "is it the right file? If so, divide it"),
                ErrorKind::IsADirectory => ("it is a folder", "name the file in it"),
                _ => (&*without_errno(&error.to_string()), "check the path"),
            };
            ConfigError::about_file(path, format!("cannot be read: {problem}"), hint)
        })?;
        Ok(Self::new(path, &text))
    }

    /// A document from text that is already there; `path` is only shown.
    #[must_use]
    pub fn new(path: &Path, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.into() }
    }

    /// Where it came from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is in it.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The folder that relative paths in it are relative to.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or_else(|| Path::new(""))
    }

    /// Parses the text into `T`. A text without anything in it is refused even where every key has a default: it is
    /// what a mistake leaves behind, and `{}` is easily written.
    ///
    /// # Errors
    /// With the position of what does not fit, and a hint.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        let bare = |line: &str| matches!(line.trim_start_matches('\u{feff}').trim().chars().next(), None | Some('#'));
        if self.text.lines().all(bare) {
            let hint = "fill it in; `{}` alone takes every default, where there are defaults";
            return Err(ConfigError::about_file(&self.path, "is empty", hint));
        }
        let options = serde_saphyr::options! { with_snippet: false };
        serde_saphyr::from_str_with_options(&self.text, options).map_err(|error| self.explain(&error))
    }

    /// An error at a position that a `Spanned` value remembers.
    #[must_use]
    pub fn error_at(&self, at: Location, message: impl Into<String>, hint: impl Into<String>) -> ConfigError {
        ConfigError {
            path: self.path.clone(),
            text: Some(Arc::clone(&self.text)),
            at: Position::of(at, &self.text).map(Box::new),
            message: message.into(),
            hint: Some(hint.into()),
        }
    }

    /// An error about the key at a dotted path (`delete.after`), found again in the text; without a position when
    /// the text does not spell it out.
    #[must_use]
    pub fn error_at_key(&self, key: &str, message: impl Into<String>, hint: Option<String>) -> ConfigError {
        let message = message.into();
        ConfigError {
            path: self.path.clone(),
            text: Some(Arc::clone(&self.text)),
            at: locate(&self.text, key).map(Box::new),
            message: if message.contains(key) { message } else { format!("{key}: {message}") },
            hint,
        }
    }

    fn explain(&self, error: &serde_saphyr::Error) -> ConfigError {
        let at = error.location().and_then(|l| Position::of(l, &self.text)).map(Box::new);
        let rendered = error.render_with_formatter(&UserMessageFormatter);
        let (message, hint) = suggest::words(error, &strip_position(&rendered));
        ConfigError { path: self.path.clone(), text: Some(Arc::clone(&self.text)), at, message, hint: Some(hint) }
    }
}

fn text_of(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let read = std::fs::File::open(path)?.take(LARGEST + 1).read_to_string(&mut text)?;
    if u64::try_from(read).is_ok_and(|read| read <= LARGEST) { Ok(text) } else { Err(ErrorKind::FileTooLarge.into()) }
}

/// The parser appends ` at line 3, column 5`; the position is shown in front of the message here.
fn strip_position(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default();
    let cut = first.rfind(" at line ").map_or(first, |at| first.get(..at).unwrap_or(first));
    cut.trim_end_matches([':', ' ']).to_owned()
}

/// A place in a text: line and column count from 1, offset and length in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    line: u64,
    column: u64,
    offset: usize,
    length: usize,
}

impl Position {
    fn of(location: Location, text: &str) -> Option<Self> {
        if location.line() == 0 {
            return None;
        }
        let (line, column) = (location.line(), location.column());
        let start = line_start(text, line)?;
        let rest = text.get(start..)?.lines().next().unwrap_or_default();
        let within: usize =
            rest.chars().take(usize::try_from(column.saturating_sub(1)).ok()?).map(char::len_utf8).sum();
        let offset = (start + within).min(text.len());
        let word = text.get(offset..)?.chars().take_while(|c| !c.is_whitespace() && *c != ':').map(char::len_utf8);
        Some(Self { line, column, offset, length: word.sum() })
    }
}

fn line_start(text: &str, line: u64) -> Option<usize> {
    let mut start = 0;
    for _ in 1..line {
        start += text.get(start..)?.find('\n')? + 1;
    }
    Some(start)
}

/// Finds a block-style key by its dotted path: each part deeper indented than the one before.
fn locate(text: &str, key: &str) -> Option<Position> {
    let mut parts = key.split('.').peekable();
    let mut depth: Option<usize> = None;
    let mut offset = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let body = line.trim_start();
        let indent = line.len() - body.len();
        let part = *parts.peek()?;
        let is_key = body.strip_prefix(part).is_some_and(|rest| rest.starts_with(':'));
        if is_key && depth.is_none_or(|d| indent > d) && (depth.is_some() || indent == 0) {
            parts.next();
            let last = parts.peek().is_none();
            // A flow mapping keeps the deeper keys on the same line: point at the line that opens it.
            if last || body.contains('{') {
                return Some(Position {
                    line: index as u64 + 1,
                    column: indent as u64 + 1,
                    offset: offset + indent,
                    length: body.trim_end().len(),
                });
            }
            depth = Some(indent);
        }
        offset += line.len();
    }
    None
}

/// What is wrong with a configuration or policy file, where, and what to do.
#[derive(Debug, Clone)]
pub struct ConfigError {
    path: PathBuf,
    text: Option<Arc<str>>,
    at: Option<Box<Position>>,
    message: String,
    hint: Option<String>,
}

impl ConfigError {
    /// An error about a file as a whole.
    pub fn about_file(path: &Path, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { path: path.to_owned(), text: None, at: None, message: message.into(), hint: Some(hint.into()) }
    }

    /// The lines for a terminal: the message, the snippet with the place underlined, the hint.
    #[must_use]
    pub fn render(&self) -> String {
        let Some((text, _)) = self.text.as_ref().zip(self.at.as_ref()) else {
            let hint = self.hint.as_ref().map(|h| format!("\n  hint: {h}")).unwrap_or_default();
            return format!("error: {self}{hint}");
        };
        let mut out = String::new();
        let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
            .with_context_lines(1)
            .without_cause_chain()
            .with_width(usize::MAX);
        let snippet =
            Snippet { error: self, source: NamedSource::new(self.path.display().to_string(), blot::blot(text)) };
        match handler.render_report(&mut out, &snippet) {
            // The handler's first line repeats the message; the prefix and the hint follow the crate's own style.
            Ok(()) => {
                let body: Vec<&str> = out.lines().filter(|l| !l.trim().is_empty()).skip(1).collect();
                let hint = self.hint.as_ref().map(|h| format!("\n  hint: {h}")).unwrap_or_default();
                format!("error: {self}\n{}{hint}", body.join("\n"))
            }
            Err(_) => format!("error: {self}"),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(at) = &self.at {
            write!(f, ":{}:{}", at.line, at.column)?;
        }
        // A key that was misspelled may be a secret itself.
        write!(f, ": {}", blot::hide_keys(&self.message))
    }
}

impl std::error::Error for ConfigError {}

impl Explain for ConfigError {
    fn kind(&self) -> Kind {
        Kind::Config
    }

    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

/// The error as miette wants it.
#[derive(Debug)]
struct Snippet<'a> {
    error: &'a ConfigError,
    source: NamedSource<String>,
}

impl fmt::Display for Snippet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("error")
    }
}

impl std::error::Error for Snippet<'_> {}

impl Diagnostic for Snippet<'_> {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let at = self.error.at.as_ref()?;
        let span = SourceSpan::new(at.offset.into(), at.length.max(1));
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(None, span))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_again_by_its_path() {
        let text = "a: 1\ndelete:\n  after: 5d\n  # after: no\nother:\n  after: 6d\n";
        let at = locate(text, "delete.after").map(|p| (p.line, p.column));
        assert_eq!(at, Some((3, 3)));
        assert_eq!(locate(text, "other.after").map(|p| p.line), Some(6));
        assert_eq!(locate(text, "none.after"), None);
        assert_eq!(locate("delete: {after: 5d}", "delete.after").map(|p| p.line), Some(1));
    }

    #[test]
    fn the_rendering_shows_the_place() {
        let doc = Document::new(Path::new("x.yaml"), "delete:\n  after: 5d\n");
        let error = doc.error_at_key("delete.after", "must be longer than rollover.max_age", Some("write 90d".into()));
        let text = error.render();
        assert!(text.starts_with("error: x.yaml:2:3: delete.after: must be longer"), "{text}");
        assert!(text.contains("after: 5d"), "{text}");
        assert!(text.ends_with("hint: write 90d"), "{text}");
    }
}
