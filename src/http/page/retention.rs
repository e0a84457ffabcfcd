//! The namespaces beside the policy, and whether their retention holds.

use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;

use super::format::{Prose, When, number};
use super::frame::{Frame, may_run};
use super::{Visitor, render};
use crate::http::App;
use crate::http::views::NamespaceRow;

#[derive(askama::Template)]
#[template(path = "retention.html")]
struct RetentionPage {
    frame: Frame,
    error: Option<Prose>,
    waiting: bool,
    seen: Option<When>,
    audited: Option<When>,
    rows: Vec<Row>,
    missing: Vec<String>,
    notes: Vec<Prose>,
    orphans: Option<String>,
    may_run: bool,
}

struct Row {
    namespace: String,
    in_scope: bool,
    retention: String,
    drift: Vec<String>,
    closed: String,
    oldest: Option<When>,
    holds: Option<bool>,
    overdue: String,
}

impl Row {
    fn of(row: &NamespaceRow, now: Timestamp) -> Self {
        let drift = row.changes.iter().map(|change| {
            let field = change.field.as_deref().unwrap_or("it");
            format!("{field} should be {}", change.to.as_deref().unwrap_or("another"))
        });
        Self {
            namespace: row.namespace.clone(),
            in_scope: row.in_scope,
            retention: row.retention.to_string(),
            drift: drift.collect(),
            closed: row.closed.map_or_else(String::new, number),
            oldest: row.oldest_closed.map(|at| When::of(at, now)),
            holds: row.overdue.map(|overdue| overdue == 0),
            overdue: row.overdue.map_or_else(String::new, number),
        }
    }
}

pub(super) async fn page(State(app): State<App>, Visitor(visitor): Visitor) -> Response {
    let now = Timestamp::now();
    let seen = app.views.retention.seen();
    let view = seen.get();
    let orphans = view.and_then(|view| view.orphans).filter(|orphans| *orphans > 0);
    let no_temporal = || "no `temporal:` is configured".to_owned();
    let error = match app.site.config.temporal {
        None => Some(no_temporal()),
        Some(_) => seen.error.as_ref().map(|error| error.message.clone()),
    };
    render(&RetentionPage {
        frame: Frame::of(&visitor, "Retention", "/retention"),
        waiting: seen.at.is_none(),
        error: error.map(Prose::from),
        seen: seen.value.as_ref().map(|(at, _)| When::of(*at, now)),
        audited: view.and_then(|view| view.audited).map(|at| When::of(at, now)),
        rows: view.map_or_else(Vec::new, |view| view.namespaces.iter().map(|row| Row::of(row, now)).collect()),
        missing: view.map_or_else(Vec::new, |view| view.missing.clone()),
        notes: view.map_or_else(Vec::new, |view| view.notes.iter().map(Prose::from).collect()),
        orphans: orphans.map(|orphans| format!("{} histories belong to no run, by the last audit.", number(orphans))),
        may_run: may_run(&visitor),
    })
}
