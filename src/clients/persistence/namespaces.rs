//! `namespaces` and what the cluster says of itself.

use std::time::Duration;

use jiff::Timestamp;
use prost::Message;
use uuid::Uuid;

use super::Session;
use super::executions::readable;
use super::messages::{ClusterMetadata, NamespaceDetail};
use crate::clients::postgres::PostgresError;

/// A row of `namespaces`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceRow {
    /// Its identity.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// How long a closed run is kept; `None` when the row does not say.
    pub retention: Option<Duration>,
    /// True while it is being deleted.
    pub is_deleted: bool,
    /// True once no new workflows should start there.
    pub is_deprecated: bool,
    /// True when histories are archived before they are deleted.
    pub archives: bool,
}

/// What the cluster says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Its history shards.
    pub shards: Shards,
    /// The version of the tables' schema; a database that was restored under another name has it under its old one.
    pub schema: Option<String>,
    /// What the database's clock says.
    pub now: Timestamp,
}

/// History shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shards {
    /// How many there are, as the cluster was set up; `None` when it does not say.
    pub said: Option<i32>,
    /// The highest one that has a row, be it of its own or of a run.
    pub highest: i32,
}

/// Tables with rows of shards that the cluster does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the cluster says that it has {said} history shards, but database `{database}` has a shard {highest}")]
pub struct ForeignShards {
    /// The database.
    pub database: String,
    /// The count in the cluster's metadata.
    pub said: i32,
    /// The highest shard with a row.
    pub highest: i32,
}

impl ForeignShards {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        "see whether `postgres.databases.main` is the database of this cluster, and of this cluster only".into()
    }
}

impl Shards {
    /// That no row lies beyond those that there are.
    ///
    /// # Errors
    /// [`ForeignShards`] when one does: the tables are of two clusters, or of one that was set up again.
    pub fn check(self, database: &str) -> Result<(), ForeignShards> {
        match self.said {
            Some(said) if self.highest > said => {
                Err(ForeignShards { database: database.to_owned(), said, highest: self.highest })
            }
            _ => Ok(()),
        }
    }

    /// How many there are, as far as that is known.
    #[must_use]
    pub fn count(self) -> i32 {
        self.said.unwrap_or(self.highest)
    }
}

const OF_ITSELF: &str = "reading what Temporal's cluster says of itself";

impl Session {
    /// Every namespace.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn namespace_rows(&mut self) -> Result<Vec<NamespaceRow>, PostgresError> {
        type Row = (Vec<u8>, String, Vec<u8>, String);
        let asked: Result<Vec<Row>, _> =
            sqlx::query_as("SELECT id, name, data, data_encoding FROM namespaces ORDER BY name")
                .fetch_all(&mut self.connection)
                .await;
        let rows = asked.map_err(|error| self.persistence.error("reading Temporal's namespaces", error))?;
        let row = |(id, name, data, encoding): Row| {
            let detail = readable(&encoding).then(|| NamespaceDetail::decode(&*data).ok()).flatten();
            let (info, config) = detail.map_or((None, None), |detail| (detail.info, detail.config));
            let seconds = config.and_then(|config| config.retention).map(|retention| retention.seconds);
            Some(NamespaceRow {
                id: Uuid::from_slice(&id).ok()?,
                name,
                retention: seconds.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs),
                is_deleted: info.as_ref().is_some_and(|info| info.state == 3),
                is_deprecated: info.as_ref().is_some_and(|info| info.state == 2),
                archives: config.is_some_and(|config| config.history_archival_state == 2),
            })
        };
        Ok(rows.into_iter().filter_map(row).collect())
    }

    /// What the cluster says of itself.
    ///
    /// # Errors
    /// When a query fails.
    pub async fn cluster(&mut self) -> Result<Cluster, PostgresError> {
        const ASKED: &str = "SELECT (SELECT curr_version FROM schema_version WHERE version_partition = 0 \
                ORDER BY db_name = current_database() DESC LIMIT 1), \
            (extract(epoch FROM clock_timestamp()) * 1000000)::int8";
        let asked: Result<(Option<String>, i64), _> = sqlx::query_as(ASKED).fetch_one(&mut self.connection).await;
        let (schema, micros) = asked.map_err(|error| self.persistence.error(OF_ITSELF, error))?;
        let now = Timestamp::from_microsecond(micros).unwrap_or_default();
        Ok(Cluster { shards: self.shards().await?, schema, now })
    }

    /// The history shards that the cluster has, and those that have rows.
    ///
    /// # Errors
    /// When a query fails.
    pub async fn shards(&mut self) -> Result<Shards, PostgresError> {
        const HIGHEST: &str =
            "SELECT greatest(0, (SELECT max(shard_id) FROM shards), (SELECT max(shard_id) FROM executions))";
        let asked = sqlx::query_scalar(HIGHEST).fetch_one(&mut self.connection).await;
        let highest = asked.map_err(|error| self.persistence.error(OF_ITSELF, error))?;
        let asked: Result<Vec<(Vec<u8>, String)>, _> =
            sqlx::query_as("SELECT data, data_encoding FROM cluster_metadata_info")
                .fetch_all(&mut self.connection)
                .await;
        let rows = asked.map_err(|error| self.persistence.error(OF_ITSELF, error))?;
        let shards = |(data, encoding): &(Vec<u8>, String)| {
            let decoded = readable(encoding).then(|| ClusterMetadata::decode(&**data).ok()).flatten();
            decoded.map(|metadata| metadata.history_shard_count).filter(|count| *count > 0)
        };
        Ok(Shards { said: rows.iter().find_map(shards), highest })
    }
}
