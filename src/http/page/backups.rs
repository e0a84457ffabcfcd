//! The backups: a calendar, and each with what it holds and whether it is proven.

use axum::extract::State;
use axum::response::Response;
use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::format::{Prose, When, distance, number};
use super::frame::{Frame, may_run};
use super::{Oops, Visitor, render};
use crate::backup::Listed;
use crate::http::App;
use crate::http::views::readable;
use crate::units::{Span, human_bytes};

/// Weeks of the calendar.
const WEEKS: i64 = 6;
/// Backups that are listed.
const SHOWN: usize = 200;
/// Reports of their runs that are looked through.
const REPORTS: u32 = 500;

#[derive(askama::Template)]
#[template(path = "backups.html")]
struct BackupsPage {
    frame: Frame,
    error: Option<Prose>,
    headline: Prose,
    weeks: Vec<Vec<Day>>,
    rows: Vec<Row>,
    may_run: bool,
}

struct Day {
    date: String,
    class: &'static str,
    said: String,
    proven: bool,
}

struct Row {
    id: String,
    unreadable: Option<String>,
    began: Option<When>,
    took: String,
    rows: String,
    size: String,
    new: String,
    proven: Option<When>,
}

fn day_of(at: Timestamp) -> Date {
    TimeZone::UTC.to_datetime(at).date()
}

fn weeks(listed: &[Listed], now: Timestamp) -> Vec<Vec<Day>> {
    let today = day_of(now);
    let monday = today.saturating_sub(i64::from(today.weekday().since(Weekday::Monday)).days());
    let begin = monday.saturating_sub((WEEKS - 1).weeks());
    let readable: Vec<_> = readable(listed).collect();
    let first = readable.iter().map(|one| day_of(one.started)).min();
    let day = |date: Date| {
        let of_day: Vec<_> = readable.iter().filter(|one| day_of(one.started) == date).collect();
        let proven = of_day.iter().any(|one| one.proven.is_some());
        let class = match of_day.len() {
            _ if date > today => "other",
            0 if first.is_some_and(|first| date > first) && date < today => "missed",
            0 => "other",
            _ if proven => "proven",
            _ => "has",
        };
        let said = match of_day.as_slice() {
            [] if class == "missed" => "none".to_owned(),
            [] => String::new(),
            [one] => human_bytes(one.raw_bytes),
            many => format!("{} backups", many.len()),
        };
        let shown = if date.day() == 1 || date == begin { date.strftime("%-d %b") } else { date.strftime("%-d") };
        Day { date: shown.to_string(), class, said, proven }
    };
    let week = |week: i64| (0..7).map(|n| day(begin.saturating_add((week * 7 + n).days()))).collect();
    (0..WEEKS).map(week).collect()
}

fn headline(listed: &[Listed], oldest: Option<Span>, now: Timestamp) -> String {
    let mut readable = readable(listed);
    let Some(newest) = readable.clone().next() else { return "There is no backup yet.".to_owned() };
    let proven = readable.find(|one| one.proven.is_some());
    let age = distance(newest.started, now);
    let late = oldest.filter(|oldest| now.as_second() - newest.started.as_second() > oldest.as_secs() as i64);
    let late = late.map_or_else(String::new, |oldest| format!(", which is older than the policy wants ({oldest})"));
    let proven = proven.map_or_else(
        || "none is proven yet".to_owned(),
        |one| format!("the newest proven one is {} old", distance(one.started, now)),
    );
    format!("The newest backup is {age} old{late}; {proven}.")
}

pub(super) async fn page(State(app): State<App>, Visitor(visitor): Visitor) -> Result<Response, Oops> {
    let now = Timestamp::now();
    let seen = app.views.backups.seen();
    let listed = seen.get().cloned().unwrap_or_default();
    // What a backup has added to the store stands in the report of its run.
    let new = app.ledger().stored_by_backups(REPORTS).await?;
    let rows = listed.iter().take(SHOWN).map(|one| match one {
        Listed::Unreadable { id, reason } => Row {
            id: id.to_string(),
            unreadable: Some(reason.clone()),
            began: None,
            took: String::new(),
            rows: String::new(),
            size: String::new(),
            new: String::new(),
            proven: None,
        },
        Listed::Readable(one) => Row {
            id: one.id.to_string(),
            unreadable: None,
            began: Some(When::of(one.started, now)),
            took: distance(one.started, one.finished),
            rows: number(one.rows),
            size: human_bytes(one.raw_bytes),
            new: new.get(one.id.as_str()).map_or_else(String::new, |bytes| human_bytes(*bytes)),
            proven: one.proven.map(|at| When::of(at, now)),
        },
    });
    let is_configured = app.site.config.store.is_some();
    let headline = match (is_configured, seen.at) {
        (false, _) => "No `store:` is configured: nothing is backed up.".to_owned(),
        (true, None) => "The store is being looked at.".to_owned(),
        (true, Some(_)) => headline(&listed, app.site.policies.backup.as_ref().map(|policy| policy.max_age), now),
    };
    Ok(render(&BackupsPage {
        frame: Frame::of(&visitor, "Backups", "/backups"),
        error: seen.error.as_ref().map(|error| Prose::from(&error.message)),
        headline: headline.into(),
        weeks: if listed.is_empty() { vec![] } else { weeks(&listed, now) },
        rows: rows.collect(),
        may_run: may_run(&visitor) && is_configured,
    }))
}
