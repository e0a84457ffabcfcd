//! What was seen of the systems: connections, namespaces, indices, backups. A look that failed leaves the last one, whose
//! age is told beside it.

use super::scrape::{Scrape, seconds};
use crate::doctor::Verdict;
use crate::http::App;
use crate::http::views::{VisibilityView, readable};

pub(super) fn collect(app: &App, scrape: &mut Scrape) {
    connections(app, scrape);
    retention(app, scrape);
    visibility(app, scrape);
    backups(app, scrape);
}

fn connections(app: &App, scrape: &mut Scrape) {
    let seen = app.views.connections.seen();
    let at = seen.value.as_ref().map(|(at, _)| *at);
    for connection in seen.get().into_iter().flatten().filter(|connection| connection.system != "config") {
        let labels = [("connection", connection.system)];
        let up = connection.verdict != Verdict::Failed;
        scrape.flag("connection_up", "Whether the last look found nothing that has failed", &labels, up);
        scrape.age("connection_checked_age_seconds", "When that was", &labels, at);
    }
}

fn retention(app: &App, scrape: &mut Scrape) {
    let seen = app.views.retention.seen();
    let Some(view) = seen.get() else { return };
    scrape.gauge("retention_drift", "Fields of namespaces that differ from the policy", &[], view.drift as f64);
    let orphans = view.orphans.map(|orphans| orphans as f64);
    scrape.maybe("orphaned_histories", "Histories that nothing refers to, by the last audit", &[], orphans);
    scrape.age("audit_age_seconds", "When the last audit was made", &[], view.audited);
    for row in &view.namespaces {
        let labels = [("namespace", row.namespace.as_str())];
        let kept = row.retention.as_secs() as f64;
        scrape.gauge("retention_seconds", "The retention that Temporal has", &labels, kept);
        if let Some(overdue) = row.overdue {
            scrape.flag("retention_holds", "Whether no run is overdue, by the last audit", &labels, overdue == 0);
            scrape.gauge("overdue_runs", "Closed runs that should be gone, by the last audit", &labels, overdue as f64);
        }
        let help = "How long ago the oldest closed run ended that was there at the last audit";
        scrape.age("retention_oldest_closed_age_seconds", help, &labels, row.oldest_closed);
    }
}

fn visibility(app: &App, scrape: &mut Scrape) {
    let seen = app.views.visibility.seen();
    let Some(VisibilityView::Index(explanation)) = seen.get() else { return };
    let drift = explanation.plan.as_ref().is_some_and(|plan| {
        plan.changes.iter().any(|change| change.action == crate::plan::Action::Update && !change.destructive)
    });
    scrape.flag("visibility_drift", "Whether policy or template differ from what is wanted", &[], drift);
    let now = scrape.now;
    for line in &explanation.indices {
        let labels = [("index", line.index.as_str())];
        scrape.age("visibility_index_age_seconds", "How long ago it was created", &labels, Some(line.created));
        let number = |value: Option<u64>| value.map(|value| value as f64);
        scrape.maybe("visibility_index_documents", "Its documents", &labels, number(line.documents));
        scrape.maybe("visibility_index_open_documents", "Those of open workflows", &labels, number(line.open));
        scrape.maybe("visibility_index_bytes", "Bytes of its primary shards", &labels, number(line.bytes));
        let due = line.deleted_at.map(|at| seconds(at) - seconds(now));
        scrape.maybe("visibility_index_deletion_due_seconds", "Until it is old enough to go", &labels, due);
        scrape.flag("visibility_is_write_index", "Whether Temporal writes to it", &labels, line.write);
    }
}

fn backups(app: &App, scrape: &mut Scrape) {
    if let Some(policy) = &app.site.policies.backup {
        let oldest = policy.max_age.as_secs() as f64;
        scrape.gauge("backup_max_age_seconds", "How old the newest one may be", &[], oldest);
    }
    let seen = app.views.backups.seen();
    let Some(listed) = seen.get() else { return };
    let readable: Vec<_> = readable(listed).collect();
    scrape.gauge("backups", "Backups in the store", &[], readable.len() as f64);
    let unreadable = listed.len() - readable.len();
    scrape.gauge("backups_unreadable", "Those whose manifest cannot be read", &[], unreadable as f64);
    let mut proven = readable.iter().filter(|one| one.proven.is_some());
    let newest_proven = proven.next();
    let count = proven.count() + usize::from(newest_proven.is_some());
    scrape.gauge("backups_proven", "Those that a drill has proved", &[], count as f64);
    let newest = readable.first();
    scrape.age("backup_age_seconds", "Since the newest one began", &[], newest.map(|one| one.started));
    scrape.age(
        "backup_proven_age_seconds",
        "The same of the newest proven one",
        &[],
        newest_proven.map(|one| one.started),
    );
    scrape.maybe("backup_bytes", "Bytes of rows in the newest one", &[], newest.map(|one| one.raw_bytes as f64));
    let stored = newest.map(|one| one.stored_bytes as f64);
    scrape.maybe("backup_stored_bytes", "Bytes of its chunks in the store", &[], stored);
    scrape.maybe("backup_rows", "Rows in the newest one", &[], newest.map(|one| one.rows as f64));
}
