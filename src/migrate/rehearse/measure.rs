//! What a step costs: WAL, temporary files, size, and the tables and indexes that were written anew.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sqlx::{Connection, Row};

use crate::migrate::error::MigrateError;
use crate::migrate::world::Place;

/// What a step cost.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cost {
    /// Bytes of WAL the server wrote meanwhile; the load's own are among them.
    pub wal_bytes: i64,
    /// Bytes of temporary files.
    pub temp_bytes: i64,
    /// By how much the databases have grown, in bytes.
    pub grown_bytes: i64,
    /// Relations whose file was replaced: they were written anew, or made.
    pub rewrites: Vec<Rewrite>,
}

/// A relation that was written anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewrite {
    /// `database.relation`.
    pub relation: String,
    /// `table` or `index`.
    pub kind: String,
    /// Its size now, in bytes.
    pub bytes: i64,
}

/// The databases at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    wal: i64,
    temp: i64,
    sizes: Vec<i64>,
    files: BTreeMap<String, (i64, String, i64)>,
}

impl State {
    /// The size of all of them, in bytes.
    pub(super) fn bytes(&self) -> i64 {
        self.sizes.iter().sum()
    }
}

const DATABASE: &str = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::int8 AS wal, \
    coalesce(pg_stat_get_db_temp_bytes(d.oid), 0) AS temp, pg_database_size(d.oid) AS bytes \
    FROM pg_database d WHERE d.datname = current_database()";
const FILES: &str = "SELECT c.oid::regclass::text AS relation, c.relkind::text AS kind, \
    pg_relation_filenode(c.oid)::int8 AS file, pg_relation_size(c.oid) AS bytes \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'm', 'i') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
      AND pg_relation_filenode(c.oid) IS NOT NULL";

/// Looks at all of a place's databases.
pub(super) async fn look(place: &Place) -> Result<State, MigrateError> {
    let mut state = State::default();
    for name in place.all() {
        let failed = |error| place.postgres.error(&name, "measuring", error);
        let mut session = place.postgres.connect(&name).await?;
        let row = sqlx::query(DATABASE).fetch_one(&mut session).await.map_err(failed)?;
        state.wal = row.try_get("wal").map_err(failed)?;
        state.temp += row.try_get::<i64, _>("temp").map_err(failed)?;
        state.sizes.push(row.try_get("bytes").map_err(failed)?);
        for row in sqlx::query(FILES).fetch_all(&mut session).await.map_err(failed)? {
            let relation: String = row.try_get("relation").map_err(failed)?;
            let kind: String = row.try_get("kind").map_err(failed)?;
            let (file, bytes) = (row.try_get("file").map_err(failed)?, row.try_get("bytes").map_err(failed)?);
            state.files.insert(format!("{name}.{relation}"), (file, kind, bytes));
        }
        let _ = session.close().await;
    }
    Ok(state)
}

/// What lies between two looks.
pub(super) fn cost(before: &State, after: &State) -> Cost {
    let new = after
        .files
        .iter()
        .filter(|(relation, (file, ..))| before.files.get(*relation).is_none_or(|(earlier, ..)| earlier != file));
    let rewrite = |(relation, (_, kind, bytes)): (&String, &(i64, String, i64))| Rewrite {
        relation: relation.clone(),
        kind: if kind == "i" { "index" } else { "table" }.to_owned(),
        bytes: *bytes,
    };
    Cost {
        wal_bytes: after.wal - before.wal,
        temp_bytes: after.temp - before.temp,
        grown_bytes: after.bytes() - before.bytes(),
        rewrites: new.map(rewrite).collect(),
    }
}

/// Indexes that a build has left and that are of no use.
pub(super) async fn invalid_indexes(place: &Place) -> Result<Vec<String>, MigrateError> {
    const INVALID: &str =
        "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid OR NOT indisready ORDER BY 1";
    let mut all = Vec::new();
    for name in place.all() {
        let mut session = place.postgres.connect(&name).await?;
        let found: Vec<String> = sqlx::query_scalar(INVALID)
            .fetch_all(&mut session)
            .await
            .map_err(|error| place.postgres.error(&name, "looking for indexes that are not valid", error))?;
        all.extend(found.into_iter().map(|index| format!("{name}.{index}")));
        let _ = session.close().await;
    }
    Ok(all)
}
