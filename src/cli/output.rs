//! Tables and JSON on standard output.

use std::borrow::Cow;
use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use comfy_table::{Table, presets};
use jiff::Timestamp;
use serde::Serialize;

use crate::plan::{Action, Change, Plan};
use crate::units::Span;

static LOST: AtomicBool = AtomicBool::new(false);

/// True when something could not be written to standard output, so that what it holds is not the whole answer.
pub(super) fn is_incomplete() -> bool {
    let flushed = std::io::stdout().flush();
    noted(flushed);
    LOST.load(Ordering::Relaxed)
}

/// A closed pipe is the reader's decision, not an error; a full disk is one.
fn noted(written: std::io::Result<()>) {
    if written.is_err_and(|error| error.kind() != ErrorKind::BrokenPipe) {
        LOST.store(true, Ordering::Relaxed);
    }
}

/// Writes one JSON document.
pub(super) fn json(value: &impl Serialize) {
    let mut out = std::io::stdout().lock();
    let written = serde_json::to_writer_pretty(&mut out, value).map_err(std::io::Error::from);
    noted(written.and_then(|()| writeln!(out)));
}

/// Writes text. Names in it come from the users of a cluster: none of them steers the terminal or breaks a line.
pub(super) fn text(text: impl std::fmt::Display) {
    noted(writeln!(std::io::stdout(), "{}", harmless(&text.to_string())));
}

/// The same text with control characters and those that turn the direction of writing made visible. Line breaks stay.
fn harmless(text: &str) -> Cow<'_, str> {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let steers = |c: char| (c.is_control() && c != '\n') || turns(c);
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let shown = text.chars().map(|c| if steers(c) { c.escape_unicode().to_string() } else { c.to_string() });
    Cow::Owned(shown.collect())
}

/// A name on one line.
fn one_line(text: &str) -> Cow<'_, str> {
    if text.contains('\n') { Cow::Owned(text.replace('\n', "\\n")) } else { Cow::Borrowed(text) }
}

/// A table with a header, columns apart by two blanks, no lines: it can be read, grepped and cut.
pub(super) fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.iter().map(|h| h.to_uppercase()));
    let one_line = |cell: String| harmless(&one_line(&cell)).into_owned();
    table.add_rows(rows.into_iter().map(|row| row.into_iter().map(one_line).collect::<Vec<_>>()));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// The lines of a plan: its changes as a table, then its notes.
pub(super) fn plan(plan: &Plan) -> String {
    let mut lines = Vec::new();
    if plan.is_empty() {
        lines.push("  nothing to do".to_owned());
    }
    lines.push(rest_of_plan(plan));
    lines.retain(|lines| !lines.is_empty());
    lines.join("\n")
}

/// The same of what stands below something that tells already whether there is anything to do.
pub(super) fn rest_of_plan(plan: &Plan) -> String {
    let mut lines = Vec::new();
    lines.extend(plan.changes.iter().map(|one| one_line(&change(one)).into_owned()));
    lines.extend(plan.notes.iter().map(|note| format!("  note: {}", one_line(note))));
    lines.join("\n")
}

fn change(change: &Change) -> String {
    let sign = match change.action {
        Action::Create => '+',
        Action::Update => '~',
        Action::Delete => '-',
        Action::Run => '>',
    };
    let values = match (&change.from, &change.to) {
        (Some(from), Some(to)) => format!(" {from} -> {to}"),
        (None, Some(to)) => format!(" -> {to}"),
        _ => String::new(),
    };
    let field = change.field.as_ref().map(|field| format!(": {field}")).unwrap_or_default();
    let warning = if change.destructive { " [destructive]" } else { "" };
    format!("  {sign} {}{field}{values}{warning}  ({})", change.subject, change.reason)
}

/// An instant as `2026-01-31 02:00:00Z`.
pub(super) fn instant(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// A past instant and how long ago that was: `2026-01-31 02:00:00Z (3h ago)`.
pub(super) fn when(at: Timestamp, now: Timestamp) -> String {
    format!("{} ({} ago)", instant(at), distance(at, now))
}

/// How long ago or ahead, in one unit: `3m`, `2h`, `9d`.
pub(super) fn distance(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.as_second().abs_diff(from.as_second());
    let span = match seconds {
        0..=119 => Span::seconds(seconds),
        120..=7_199 => Span::minutes(seconds / 60),
        7_200..=172_799 => Span::hours(seconds / 3_600),
        _ => Span::days(seconds / 86_400),
    };
    // `120s` reads back as `2m`; what was chosen above is already the unit to show.
    span.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_steer_the_terminal() {
        assert_eq!(harmless("a\u{1b}[31mb\u{7}\u{202e}c\nd"), "a\\u{1b}[31mb\\u{7}\\u{202e}c\nd");
        assert_eq!(harmless("bestellung-äöü ☃"), "bestellung-äöü ☃");
        assert_eq!(table(&["a"], vec![vec!["x\ny".into()]]), "A\nx\\ny");
    }

    #[test]
    fn a_change_reads_as_one_line() {
        let line = change(
            &Change::new(Action::Update, "namespace orders", "policy default")
                .field("retention", Some("90d".into()), "30d")
                .destructive(),
        );
        assert_eq!(line, "  ~ namespace orders: retention 90d -> 30d [destructive]  (policy default)");
    }

    #[test]
    fn tables_have_no_trailing_blanks() {
        let text = table(&["a", "b"], vec![vec!["1".into(), String::new()]]);
        assert_eq!(text, "A  B\n1");
    }
}
