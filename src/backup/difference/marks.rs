//! Whether anybody has written to a table between two runs of a comparison, by what the server counts.

use std::collections::BTreeMap;

use sqlx::{PgConnection, Row};

use crate::backup::manifest::Name;

/// A mark for each table: its file, the rows that were written to it since the server started, and when that was. A
/// server that starts again counts anew. A standby counts nothing; there the place in the log takes that part.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// Which database it is.
    pub(super) database: String,
    /// What all tables have in common.
    server: String,
    tables: BTreeMap<Name, String>,
}

impl Marks {
    /// Reads them. They lag behind by what sessions have not reported yet, a minute at most.
    ///
    /// # Errors
    /// When a query fails.
    pub(super) async fn read(connection: &mut PgConnection) -> Result<Self, sqlx::Error> {
        const SERVER: &str = "SELECT concat_ws('/', (SELECT system_identifier FROM pg_control_system()), \
            (SELECT oid FROM pg_database WHERE datname = current_database())) AS database, \
            concat_ws(' ', extract(epoch FROM pg_postmaster_start_time())::text, current_setting('track_counts'), \
            CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()::text END) AS server";
        const TABLES: &str = "SELECT s.schemaname::text AS schema, s.relname::text AS name, \
            concat_ws(' ', c.relfilenode, s.n_tup_ins, s.n_tup_upd, s.n_tup_del) AS mark \
            FROM pg_stat_all_tables s JOIN pg_class c ON c.oid = s.relid";
        let row = sqlx::query(SERVER).fetch_one(&mut *connection).await?;
        let mut marks =
            Self { database: row.try_get("database")?, server: row.try_get("server")?, tables: BTreeMap::new() };
        for row in sqlx::query(TABLES).fetch_all(connection).await? {
            let name = Name { schema: row.try_get("schema")?, name: row.try_get("name")? };
            marks.tables.insert(name, row.try_get("mark")?);
        }
        Ok(marks)
    }

    /// The mark of a table; `None` when the server does not count (`track_counts`).
    pub(super) fn of(&self, name: &Name) -> Option<String> {
        if self.server.contains(" off") {
            return None;
        }
        self.tables.get(name).map(|mark| format!("{mark} {}", self.server))
    }
}
