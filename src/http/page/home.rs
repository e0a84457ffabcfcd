//! The first page: whether all is well, what runs, every job, every connection.

use axum::extract::State;
use axum::response::Response;

use super::format::{Prose, Row, When, tone};
use super::frame::{Frame, may_run};
use super::{Oops, Visitor, render};
use crate::doctor::Verdict;
use crate::http::App;
use crate::http::api::{overall, running};

#[derive(askama::Template)]
#[template(path = "home.html")]
struct HomePage {
    frame: Frame,
    health: &'static str,
    headline: &'static str,
    problems: Vec<Prose>,
    running: Vec<Row>,
    jobs: Vec<JobRow>,
    connections: Vec<ConnectionCard>,
    not_seen: Option<Prose>,
    may_run: bool,
}

struct JobRow {
    name: String,
    configured: bool,
    running: bool,
    last: Option<Row>,
    next: Option<When>,
}

struct ConnectionCard {
    system: &'static str,
    tone: &'static str,
    word: &'static str,
    lines: Vec<Prose>,
}

pub(super) async fn page(State(app): State<App>, Visitor(visitor): Visitor) -> Result<Response, Oops> {
    let status = overall(&app).await?;
    let running = running(&app).await?;
    let now = status.now;
    let jobs = status.jobs.iter().map(|job| JobRow {
        name: job.job.clone(),
        configured: job.configured,
        running: job.last.as_ref().is_some_and(|run| run.outcome == "running"),
        last: job.last.as_ref().map(|run| Row::of(run, now)),
        next: job.next.map(|next| When::of(next, now)),
    });
    let seen = app.views.connections.seen();
    let connections = seen.get().into_iter().flatten().map(|connection| {
        let word = match connection.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Failed => "failed",
        };
        // Of what is well one line is enough.
        let bad = connection.findings.iter().filter(|finding| finding.verdict != Verdict::Ok);
        let mut lines: Vec<String> = bad
            .map(|finding| {
                let hint = finding.hint.as_ref().map_or_else(String::new, |hint| format!(" ({hint})"));
                format!("{}: {}{hint}", finding.subject, finding.detail)
            })
            .collect();
        if lines.is_empty() {
            let of = |subject: &str| connection.findings.iter().find(|finding| finding.subject == subject);
            let first = of("version").or_else(|| of("connection")).or(connection.findings.first());
            lines.extend(first.map(|finding| finding.detail.clone()));
        }
        ConnectionCard {
            system: connection.system,
            tone: tone(word),
            word,
            lines: lines.into_iter().map(Prose::from).collect(),
        }
    });
    let headline = match status.health {
        "ok" => "All is well",
        "warning" => "Something should be looked at",
        _ => "Something is wrong",
    };
    let not_seen = match (&seen.error, seen.at) {
        (Some(error), _) => Some(error.message.clone()),
        (None, None) => Some("They are being looked at.".to_owned()),
        _ => None,
    };
    Ok(render(&HomePage {
        frame: Frame::of(&visitor, "Status", "/"),
        health: status.health,
        headline,
        running: running.iter().map(|run| Row::of(run, now)).collect(),
        jobs: jobs.collect(),
        connections: connections.collect(),
        not_seen: not_seen.map(Prose::from),
        may_run: may_run(&visitor),
        problems: status.problems.into_iter().map(Prose::from).collect(),
    }))
}
