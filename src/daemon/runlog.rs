//! What a run logs, kept while it goes on and written to the ledger with its heartbeat, so that a run can be read
//! without the pod that made it.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;
use uuid::Uuid;

/// The name of the span of a run; its field `run` is the run's id.
pub const SPAN: &str = "run";

/// Bytes of a run's log that are kept: its end.
const MOST: usize = 64 * 1024;
/// Bytes of one line.
const LONGEST_LINE: usize = 2 * 1024;

/// The logs of the runs that this process makes.
static OPEN: LazyLock<Mutex<HashMap<Uuid, Lines>>> = LazyLock::new(Mutex::default);

fn open() -> MutexGuard<'static, HashMap<Uuid, Lines>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Default)]
struct Lines {
    lines: VecDeque<String>,
    bytes: usize,
    dropped: u64,
    is_new: bool,
}

impl Lines {
    fn push(&mut self, mut line: String) {
        let end = line.floor_char_boundary(LONGEST_LINE);
        if end < line.len() {
            line.truncate(end);
            line.push('…');
        }
        self.bytes += line.len() + 1;
        self.lines.push_back(line);
        while self.bytes > MOST {
            let Some(first) = self.lines.pop_front() else { break };
            self.bytes -= first.len() + 1;
            self.dropped += 1;
        }
        self.is_new = true;
    }

    fn text(&self) -> String {
        let mut text = String::with_capacity(self.bytes + 64);
        if self.dropped > 0 {
            let _ = writeln!(text, "({} earlier lines are left out)", self.dropped);
        }
        for line in &self.lines {
            // PostgreSQL's text has no NUL.
            text.extend(line.chars().map(|c| if c == '\0' { '\u{fffd}' } else { c }));
            text.push('\n');
        }
        text
    }
}

/// The log of one run; it is kept as long as this value lives.
#[derive(Debug)]
pub(super) struct RunLog(Uuid);

impl RunLog {
    pub(super) fn open(run: Uuid) -> Self {
        open().insert(run, Lines::default());
        Self(run)
    }

    /// The whole log, when it has grown since this was asked last.
    pub(super) fn news(&self) -> Option<String> {
        let mut logs = open();
        let lines = logs.get_mut(&self.0)?;
        std::mem::take(&mut lines.is_new).then(|| lines.text())
    }
}

impl Drop for RunLog {
    fn drop(&mut self) {
        open().remove(&self.0);
    }
}

/// The part of the subscriber that gives each run what was logged inside its span.
#[derive(Debug, Clone, Copy, Default)]
pub struct RunLogLayer;

struct OfRun(Uuid);

#[derive(Default)]
struct FindRun(Option<Uuid>);

impl Visit for FindRun {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "run" {
            self.0 = Uuid::parse_str(&format!("{value:?}")).ok();
        }
    }
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            name => drop(write!(self.fields, " {name}={value}")),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for RunLogLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        if attributes.metadata().name() != SPAN {
            return;
        }
        let mut found = FindRun::default();
        attributes.record(&mut found);
        if let (Some(run), Some(span)) = (found.0, ctx.span(id)) {
            span.extensions_mut().insert(OfRun(run));
        }
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        let run = ctx
            .event_scope(event)
            .and_then(|mut spans| spans.find_map(|span| span.extensions().get::<OfRun>().map(|run| run.0)));
        let Some(run) = run else { return };
        let mut line = Line::default();
        event.record(&mut line);
        let (now, level) = (Timestamp::now(), event.metadata().level());
        // A message of several lines stays one line, so that a line is one event.
        let text = format!("{now:.3} {level:<5} {}{}", line.message, line.fields).replace(['\n', '\r'], " ");
        if let Some(lines) = open().get_mut(&run) {
            lines.push(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_long_log_is_kept() {
        let mut lines = Lines::default();
        for n in 0..10_000 {
            lines.push(format!("line {n} {}", "ä".repeat(20)));
        }
        lines.push("x".repeat(100_000));
        let text = lines.text();
        assert!(text.len() < MOST + 100, "{}", text.len());
        assert!(text.starts_with('(') && text.contains("line 9999") && !text.contains("line 1 "));
    }
}
