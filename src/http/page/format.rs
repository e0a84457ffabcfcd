//! Times, sizes and outcomes in words.

use jiff::Timestamp;

use crate::http::api::{Progress, RunLine};
use crate::units::{Span, human_bytes};

/// An instant, as it is and as people say it.
#[derive(Debug, Clone)]
pub(super) struct When {
    pub iso: String,
    pub said: String,
}

impl When {
    pub(super) fn of(at: Timestamp, now: Timestamp) -> Self {
        let said = match at <= now {
            true => format!("{} ago", distance(at, now)),
            false => format!("in {}", distance(now, at)),
        };
        Self { iso: clock(at), said }
    }
}

/// `2026-11-27 10:00:00`, in UTC.
pub(super) fn clock(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// The largest unit that says something: `3 days`, `5 h`, `12 min`.
pub(super) fn distance(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.as_second().saturating_sub(from.as_second()).max(0);
    match seconds {
        0..=59 => format!("{seconds} s"),
        60..=7_199 => format!("{} min", rounded(seconds, 60)),
        7_200..=172_799 => format!("{} h", rounded(seconds, 3_600)),
        _ => format!("{} days", rounded(seconds, 86_400)),
    }
}

/// The nearest: an hour less than 90 days is 90 days.
fn rounded(seconds: i64, unit: i64) -> i64 {
    (seconds + unit / 2) / unit
}

/// A text of which some stands in backticks, as it does on a terminal; on a page it is set in another font.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Prose {
    pub pieces: Vec<Piece>,
}

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub code: bool,
    pub text: String,
}

impl<T: AsRef<str>> From<T> for Prose {
    fn from(text: T) -> Self {
        let mut pieces = Vec::new();
        let mut rest = text.as_ref();
        let mut push = |code, text: &str| {
            if !text.is_empty() {
                pieces.push(Piece { code, text: text.to_owned() });
            }
        };
        // A backtick that has no other one behind it stays what it is.
        while let Some((before, (code, after))) =
            rest.split_once('`').and_then(|(before, after)| Some((before, after.split_once('`')?)))
        {
            push(false, before);
            push(true, code);
            rest = after;
        }
        push(false, rest);
        Self { pieces }
    }
}

/// The class of a word for an outcome or a state.
pub(super) fn tone(word: &str) -> &'static str {
    match word {
        "running" | "undoing" | "intended" => "live",
        "changed" | "unchanged" | "applied" | "done" | "present" | "ok" | "given" | "passed" => "good",
        "failed" | "interrupted" => "bad",
        "refused" | "cancelled" | "stopped" | "undone" | "warning" | "needed" | "stale" => "warn",
        _ => "",
    }
}

/// A stage in words.
pub(super) struct Stage {
    pub total: Option<u64>,
    pub done: u64,
    pub said: String,
}

impl From<&Progress> for Stage {
    fn from(progress: &Progress) -> Self {
        let amount = |amount: u64| if progress.unit == "bytes" { human_bytes(amount) } else { amount.to_string() };
        let of = progress.total.map_or_else(String::new, |total| format!(" of {}", amount(total)));
        let detail = if progress.detail.is_empty() { String::new() } else { format!(", {}", progress.detail) };
        let said = format!("{}: {}{of}{detail}", progress.stage, amount(progress.done));
        let total = progress.total.filter(|total| *total > 0);
        Self { total, done: total.map_or(progress.done, |total| progress.done.min(total)), said }
    }
}

/// A run in a line.
pub(super) struct Row {
    pub id: String,
    pub job: String,
    pub outcome: String,
    pub tone: &'static str,
    pub is_running: bool,
    pub began: When,
    pub took: String,
    pub asked: String,
    pub said: Prose,
    pub progress: Option<Stage>,
}

impl Row {
    pub(super) fn of(run: &RunLine, now: Timestamp) -> Self {
        let error = run.error.as_ref().and_then(|error| error["message"].as_str());
        let took = run.finished_at.map(|end| {
            let took = end.as_millisecond().saturating_sub(run.started_at.as_millisecond());
            let took = u64::try_from(took).unwrap_or(0);
            // Beyond a second nobody reads the milliseconds.
            Span::milliseconds(if took < 1_000 { took } else { took - took % 1_000 }).to_string()
        });
        Self {
            id: run.id.to_string(),
            job: run.job.clone(),
            outcome: run.outcome.clone(),
            tone: tone(&run.outcome),
            is_running: run.outcome == "running",
            began: When::of(run.started_at, now),
            took: took.unwrap_or_default(),
            asked: run.requested_by.clone().unwrap_or_else(|| run.trigger.clone()),
            said: error.or(run.summary.as_deref()).unwrap_or_default().into(),
            progress: run.progress.as_ref().map(Stage::from),
        }
    }
}

/// 1234567 as 1,234,567.
pub(super) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_said_as_people_say_them() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(number), ["0", "999", "1,000", "1,234,567"]);
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let now = at("2026-11-27T10:00:00Z");
        assert_eq!(When::of(at("2026-11-27T09:59:30Z"), now).said, "30 s ago");
        assert_eq!(When::of(at("2026-11-29T10:00:00Z"), now).said, "in 2 days");
        assert_eq!(When::of(at("2026-11-27T06:00:00Z"), now).said, "4 h ago");
        assert_eq!(When::of(at("2027-02-25T09:00:00Z"), now).said, "in 90 days");
        assert_eq!(When::of(at("2026-11-27T09:58:31Z"), now).said, "1 min ago");
    }

    #[test]
    fn what_stands_in_backticks_is_code() {
        let shown = |text: &str| {
            let pieces = Prose::from(text).pieces.into_iter();
            pieces.map(|piece| if piece.code { format!("<{}>", piece.text) } else { piece.text }).collect::<String>()
        };
        assert_eq!(shown("run `sexton plan`, then `run`"), "run <sexton plan>, then <run>");
        assert_eq!(shown("`a` and a ` alone"), "<a> and a ` alone");
        assert_eq!(shown("nothing"), "nothing");
        assert_eq!(shown(""), "");
    }
}
