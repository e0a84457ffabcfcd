//! A database at one instant but for its rows: its schema, its sequences, and what is said of it.

use super::catalog;
use super::error::BackupError;
use super::manifest::Database;
use super::plan::not_covered;
use super::schema;
use super::snapshot::Snapshot;
use crate::clients::postgres::Postgres;

/// Everything of a database that a snapshot holds, but for its tables and what may be built on it.
///
/// # Errors
/// When it cannot be read, or `pg_dump` refuses.
pub(super) async fn outline(snapshot: &mut Snapshot, postgres: &Postgres, name: &str) -> Result<Database, BackupError> {
    let fail = |doing: &'static str| move |error| postgres.error(name, doing, error);
    let sequences = snapshot.catalog.sequences.clone();
    let sequences = catalog::sequences(snapshot.leader(), &sequences).await.map_err(fail("reading the sequences"))?;
    let tables = snapshot.catalog.tables.clone();
    let schema_versions = catalog::schema_versions(snapshot.leader(), &tables)
        .await
        .map_err(fail("reading Temporal's schema versions"))?;
    let tool = postgres.pg_dump(snapshot.version.major()).await?;
    let pre_data = schema::dump(postgres, &tool, name, &snapshot.exported, "pre-data").await?;
    let post_data = schema::dump(postgres, &tool, name, &snapshot.exported, "post-data").await?;
    let catalog = snapshot.catalog.clone();
    let lacks = not_covered(name, &catalog);
    Ok(Database {
        name: name.to_owned(),
        server_version: snapshot.version.0,
        encoding: catalog.encoding,
        snapshot_at: snapshot.at,
        snapshot_lsn: snapshot.lsn.clone(),
        origin: None,
        schema_versions,
        pre_data,
        post_data,
        sequences,
        materialized_views: catalog.materialized_views,
        tables: Vec::new(),
        not_covered: lacks,
    })
}
