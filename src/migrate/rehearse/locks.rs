//! Which locks a rehearsed migration holds, on what and for how long, as sessions beside it see them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sqlx::{Connection, Row};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::load::PROGRAM;
use crate::migrate::world::Place;
use crate::units::Span;

/// How often it is looked. A lock that is held for less may not be seen.
const LOOK: Duration = Duration::from_millis(10);

/// A lock that was held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// `database.relation`.
    pub relation: String,
    /// PostgreSQL's name of the mode, such as `AccessExclusiveLock`.
    pub mode: String,
    /// When it was first seen, in milliseconds since the rehearsal's run began.
    pub from: u64,
    /// For how long it was seen, in milliseconds; to within two looks (20 ms) of what it was.
    pub milliseconds: u64,
}

impl Held {
    /// Whether writers of the table waited for it.
    #[must_use]
    pub fn keeps_writers_waiting(&self) -> bool {
        matches!(self.mode.as_str(), "ShareLock" | "ShareRowExclusiveLock" | "ExclusiveLock" | "AccessExclusiveLock")
    }
}

/// Relation locks of others than the load and the watcher. What lies under reading alone keeps nobody waiting.
const LOCKS: &str = "SELECT l.pid, l.virtualtransaction AS transaction, l.mode, c.oid::regclass::text AS relation \
    FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace \
    JOIN pg_stat_activity a ON a.pid = l.pid \
    WHERE l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
      AND l.pid <> pg_backend_pid() AND a.application_name <> $1 AND a.backend_type = 'client backend' \
      AND l.mode NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock') \
      AND n.nspname !~ '^pg_' AND c.relkind IN ('r', 'p', 'm')";

/// Watches every database of a place until it is stopped; `None` when it could not watch one to the end.
pub(super) async fn watch(place: Place, origin: Instant, stop: CancellationToken) -> Option<Vec<Held>> {
    let mut watchers = JoinSet::new();
    for name in place.all() {
        watchers.spawn(one(place.clone(), name, origin, stop.clone()));
    }
    let all: Option<Vec<Vec<Held>>> = watchers.join_all().await.into_iter().collect();
    let mut all: Vec<Held> = all?.into_iter().flatten().collect();
    all.sort_by_key(|held| held.from);
    Some(all)
}

async fn one(place: Place, database: String, origin: Instant, stop: CancellationToken) -> Option<Vec<Held>> {
    let mut seen: BTreeMap<(i32, String, String, String), (Instant, Instant)> = BTreeMap::new();
    let mut session = place.postgres.connect_held(&database).await.ok()?;
    while !stop.is_cancelled() {
        let now = Instant::now();
        let rows = sqlx::query(LOCKS).bind(PROGRAM).fetch_all(&mut session).await.ok()?;
        for row in rows {
            let key = (|| {
                Ok::<_, sqlx::Error>((
                    row.try_get("pid")?,
                    row.try_get("transaction")?,
                    row.try_get("mode")?,
                    row.try_get("relation")?,
                ))
            })();
            if let Ok(key) = key {
                seen.entry(key).or_insert((now, now)).1 = now;
            }
        }
        tokio::time::sleep(LOOK).await;
    }
    let _ = session.close().await;
    let millis = |duration: Duration| Span::from(duration).as_millis();
    let held = |((_, _, mode, relation), (first, last)): ((i32, String, String, String), (Instant, Instant))| Held {
        relation: format!("{database}.{relation}"),
        mode,
        from: millis(first.duration_since(origin)),
        // It was there before it was seen first and after it was seen last: half a look each.
        milliseconds: millis(last.duration_since(first) + LOOK),
    };
    Some(seen.into_iter().map(held).collect())
}
