//! The visibility indices as a picture: when each was written to, and until when it is kept.

use axum::extract::State;
use axum::response::Response;
use jiff::{SignedDuration, Timestamp};

use super::format::{Prose, When, distance, number};
use super::frame::{Frame, may_run};
use super::{Visitor, render};
use crate::http::App;
use crate::http::views::VisibilityView;
use crate::policy::visibility::VisibilityPolicy;
use crate::units::human_bytes;
use crate::visibility::{Explanation, Line};

#[derive(askama::Template)]
#[template(path = "visibility.html")]
struct VisibilityPage {
    frame: Frame,
    error: Option<Prose>,
    refusal: Option<Prose>,
    headline: Option<String>,
    notes: Vec<Prose>,
    rows: Vec<Row>,
    ticks: Vec<Tick>,
    now: String,
    first: String,
    last: String,
    next: Vec<Coming>,
    changes: Vec<Prose>,
    may_run: bool,
}

struct Row {
    index: String,
    write: bool,
    health: Option<String>,
    health_tone: &'static str,
    from: String,
    filled: String,
    kept: Option<(String, String)>,
    said: String,
    alt: String,
}

struct Tick {
    at: String,
    said: String,
    anchor: &'static str,
}

struct Coming {
    at: Option<When>,
    what: Prose,
}

/// The time that is drawn.
#[derive(Debug, Clone, Copy)]
struct Scale {
    from: f64,
    to: f64,
}

impl Scale {
    /// From the first index to the last deletion that is foreseen.
    fn of(lines: &[Line], policy: &VisibilityPolicy, now: Timestamp) -> Self {
        let seconds = |at: Timestamp| at.as_second() as f64;
        let from = lines.iter().map(|line| seconds(line.created)).fold(seconds(now), f64::min);
        let kept = SignedDuration::from(policy.rollover.max_age) + SignedDuration::from(policy.delete.after);
        let last = lines.iter().filter_map(|line| line.deleted_at).map(seconds).fold(seconds(now), f64::max);
        let foreseen = lines.iter().filter(|line| line.write).map(|line| seconds(line.created) + kept.as_secs_f64());
        let to = foreseen.fold(last, f64::max);
        // A day of room at the least, so that everything has a width.
        Self { from, to: to.max(from + 86_400.0) }
    }

    fn percent(self, seconds: f64) -> f64 {
        ((seconds - self.from) / (self.to - self.from) * 100.0).clamp(0.0, 100.0)
    }

    fn place(self, at: Timestamp) -> f64 {
        self.percent(at.as_second() as f64)
    }

    /// Marks in a distance that leaves room for their words.
    fn ticks(self) -> Vec<Tick> {
        let days = (self.to - self.from) / 86_400.0;
        let step = [1.0, 7.0, 30.0, 90.0, 365.0].into_iter().find(|step| days / step <= 6.0).unwrap_or(3_650.0);
        let mut ticks = Vec::new();
        let mut day = 0.0;
        while day <= days && ticks.len() < 12 {
            let at = self.percent(self.from + day * 86_400.0);
            let date = Timestamp::from_second((self.from + day * 86_400.0) as i64).unwrap_or(Timestamp::UNIX_EPOCH);
            let anchor = if at < 5.0 {
                "start"
            } else if at > 95.0 {
                "end"
            } else {
                "middle"
            };
            ticks.push(Tick { at: format!("{at:.2}"), said: date.strftime("%-d %b").to_string(), anchor });
            day += step;
        }
        ticks
    }
}

fn row(line: &Line, scale: Scale, policy: &VisibilityPolicy, now: Timestamp) -> Row {
    let (from, until) = (scale.place(line.created), scale.place(line.rolled.unwrap_or(now)));
    let filled = (until - from).max(0.4);
    let kept_until = line.deleted_at.or_else(|| {
        let age = SignedDuration::from(policy.rollover.max_age) + SignedDuration::from(policy.delete.after);
        line.write.then(|| line.created.checked_add(age).ok()).flatten()
    });
    let kept = kept_until.map(|at| scale.place(at) - (from + filled)).filter(|width| *width > 0.0);
    let mut said = Vec::new();
    said.extend(
        line.documents.map(|count| format!("{} {}", number(count), if count == 1 { "document" } else { "documents" })),
    );
    said.extend(line.open.map(|count| format!("{} of open workflows", number(count))));
    said.extend(line.bytes.map(human_bytes));
    said.push(format!("made {} ago", distance(line.created, now)));
    said.extend(line.rolled.map(|at| format!("rolled {} ago", distance(at, now))));
    said.extend(line.deleted_at.map(|at| match at <= now {
        true => format!("old enough to go since {}", distance(at, now)),
        false => format!("goes in {}", distance(now, at)),
    }));
    if !line.write {
        said.extend(line.stays.as_ref().map(|why| format!("stays: {why}")));
    }
    let health = line.health.map(|health| format!("{health:?}").to_lowercase());
    let said = said.join(" · ");
    Row {
        index: line.index.clone(),
        write: line.write,
        health_tone: match health.as_deref() {
            Some("green") => "good",
            Some("yellow") => "warn",
            _ => "bad",
        },
        health,
        from: format!("{from:.2}"),
        filled: format!("{filled:.2}"),
        kept: kept.map(|width| (format!("{:.2}", from + filled), format!("{width:.2}"))),
        alt: format!("{}: {said}", line.index),
        said,
    }
}

impl VisibilityPage {
    fn explained(self, explanation: &Explanation, policy: &VisibilityPolicy, now: Timestamp) -> Self {
        let scale = Scale::of(&explanation.indices, policy, now);
        let plan = explanation.plan.clone().unwrap_or_default();
        let mut notes = plan.notes;
        if explanation.kind == "plain index" {
            notes.push(
                "It is a plain index, which is neither rolled nor deleted; `sexton adopt` makes an alias of it.".into(),
            );
        }
        let coming = explanation
            .next
            .iter()
            .map(|event| Coming { at: event.at.map(|at| When::of(at, now)), what: Prose::from(&event.what) });
        let changes = plan
            .changes
            .iter()
            .map(|change| Prose::from(format!("{:?} {}: {}", change.action, change.subject, change.reason)));
        Self {
            headline: Some(format!(
                "{}: {} on {}; rolled over after {}, deleted {} after that.",
                explanation.index, explanation.kind, explanation.engine, policy.rollover.max_age, policy.delete.after
            )),
            refusal: explanation.refusal.as_ref().map(|failure| Prose::from(&failure.message)),
            rows: explanation.indices.iter().map(|line| row(line, scale, policy, now)).collect(),
            ticks: scale.ticks(),
            now: format!("{:.2}", scale.place(now)),
            first: Timestamp::from_second(scale.from as i64)
                .map(|at| at.strftime("%F").to_string())
                .unwrap_or_default(),
            last: Timestamp::from_second(scale.to as i64).map(|at| at.strftime("%F").to_string()).unwrap_or_default(),
            next: coming.collect(),
            changes: changes.collect(),
            notes: notes.into_iter().map(Prose::from).collect(),
            ..self
        }
    }
}

pub(super) async fn page(State(app): State<App>, Visitor(visitor): Visitor) -> Response {
    let now = Timestamp::now();
    let seen = app.views.visibility.seen();
    let policy = app.site.policies.visibility.as_ref();
    let mut page = VisibilityPage {
        frame: Frame::of(&visitor, "Visibility", "/visibility"),
        error: seen.error.as_ref().map(|error| Prose::from(&error.message)),
        refusal: None,
        headline: None,
        notes: vec![],
        rows: vec![],
        ticks: vec![],
        now: String::new(),
        first: String::new(),
        last: String::new(),
        next: vec![],
        changes: vec![],
        may_run: may_run(&visitor),
    };
    page = match (seen.get(), policy) {
        (Some(VisibilityView::Index(explanation)), Some(policy)) => page.explained(explanation, policy, now),
        (Some(VisibilityView::Postgresql { notes }), _) => {
            VisibilityPage { notes: notes.iter().map(Prose::from).collect(), ..page }
        }
        (_, None) => VisibilityPage { notes: vec!["There is no policy for visibility.".into()], ..page },
        (None, _) if seen.at.is_none() => VisibilityPage { notes: vec!["It is being looked at.".into()], ..page },
        _ => page,
    };
    render(&page)
}
