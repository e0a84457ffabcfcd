//! What the relations are called that a log tells of by their OIDs.

use std::collections::BTreeMap;

use sqlx::{Connection, Row};

use super::files::said;
use crate::migrate::world::Place;

/// `database.relation` and `database.table` by the OIDs of a database and of a relation in it.
pub(super) type Names = BTreeMap<(i64, i64), (String, String)>;

pub(super) async fn names_in(place: &Place, database: &str, oids: &[i64]) -> Result<Names, String> {
    const NAMES: &str = "SELECT d.oid::int8 AS database, c.oid::int8 AS relation, c.oid::regclass::text AS name, \
        coalesce(i.indrelid, c.oid)::regclass::text AS of_table \
        FROM pg_database d, pg_class c LEFT JOIN pg_index i ON i.indexrelid = c.oid \
        WHERE d.datname = current_database() AND c.oid::int8 = ANY ($1)";
    let mut session = place.postgres.connect(database).await.map_err(|error| error.to_string())?;
    let rows = sqlx::query(NAMES).bind(oids).fetch_all(&mut session).await.map_err(|error| said(&error))?;
    let _ = session.close().await;
    let named = |row: &sqlx::postgres::PgRow| -> Result<_, sqlx::Error> {
        let (name, table): (String, String) = (row.try_get("name")?, row.try_get("of_table")?);
        let names = (format!("{database}.{name}"), format!("{database}.{table}"));
        Ok(((row.try_get("database")?, row.try_get("relation")?), names))
    };
    rows.iter().map(named).collect::<Result<_, _>>().map_err(|error| said(&error))
}
