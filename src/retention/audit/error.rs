//! Why an audit, or what acts on one, failed.

use jiff::SignedDuration;

use crate::clients::persistence::ForeignShards;
use crate::clients::postgres::PostgresError;
use crate::clients::temporal::TemporalError;
use crate::failure::{Explain, Kind};
use crate::units::Span;

/// What can go wrong while Temporal's tables are looked through.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// PostgreSQL failed.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// Temporal failed.
    #[error(transparent)]
    Temporal(#[from] TemporalError),
    /// The tables are not as they must be for an answer that can be relied on.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It was asked to stop.
    #[error("cancelled")]
    Cancelled,
}

/// What the tables must not be like.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A schema this version was not made for.
    #[error("database `{database}` has version {version} of Temporal's schema, which this sexton does not know")]
    Schema {
        /// The database.
        database: String,
        /// Its version.
        version: String,
    },
    /// No version of a schema.
    #[error("database `{database}` does not say which version of Temporal's schema it has")]
    NoSchema {
        /// The database.
        database: String,
    },
    /// The shards are not those of the cluster.
    #[error(transparent)]
    Shards(#[from] ForeignShards),
    /// Ages would be wrong.
    #[error("the clocks of sexton and of PostgreSQL differ by {seconds} s")]
    Clock {
        /// By how much.
        seconds: i64,
    },
    /// Rows that are not read.
    #[error("{rows} rows of `executions` are in an encoding that is not read, or do not decode")]
    Unreadable {
        /// How many.
        rows: u64,
    },
    /// What is to be read from is no standby.
    #[error("database `{database}` of `replica:` is not on a standby")]
    NotStandby {
        /// The database.
        database: String,
    },
    /// A standby of another primary.
    #[error("database `{database}` of `replica:` is on a standby of another server than `postgres:`")]
    OtherServer {
        /// The database.
        database: String,
    },
    /// A standby that lacks too much.
    #[error("the standby of `replica:` is {by} behind, or does not say how far")]
    Behind {
        /// The database.
        database: String,
        /// By how much.
        by: Span,
    },
    /// What is asked for would be done on a database that may lack rows.
    #[error("database `{database}` is a standby, on which nothing can be decided for good")]
    Standby {
        /// The database.
        database: String,
    },
}

impl Refusal {
    /// A clock that is off by more than a minute.
    pub(crate) fn clock(off: SignedDuration) -> Option<Self> {
        let seconds = off.abs().as_secs();
        (seconds > 60).then_some(Self::Clock { seconds })
    }
}

impl Explain for AuditError {
    fn kind(&self) -> Kind {
        match self {
            Self::Postgres(error) => error.kind(),
            Self::Temporal(error) => error.kind(),
            Self::Refused(_) => Kind::Refused,
            Self::Cancelled => Kind::Cancelled,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Postgres(PostgresError::Timeout { .. }) => Some(
                "look for locks and a busy disk in pg_stat_activity, or raise `scan.max_snapshot` in \
                 policies/retention.yaml"
                    .into(),
            ),
            // A standby ends queries that keep it from replaying.
            Self::Postgres(error) if error.sqlstate().as_deref() == Some("40001") => Some(
                "set `hot_standby_feedback = on` on the standby, or raise its `max_standby_streaming_delay`; without \
                 `replica:` the primary is read"
                    .into(),
            ),
            Self::Postgres(error) => error.hint(),
            Self::Temporal(error) => error.hint(),
            Self::Refused(refusal) => Some(refusal.hint()),
            Self::Cancelled => None,
        }
    }
}

impl Refusal {
    fn hint(&self) -> String {
        match self {
            Self::NoSchema { .. } => "look at its table schema_version: is this Temporal's main database?".to_owned(),
            Self::Schema { .. } => "look for a newer sexton; docs/retention.md names the versions it knows".to_owned(),
            Self::Shards(shards) => shards.hint(),
            Self::Clock { .. } => "set both clocks by NTP; a run's age decides over its deletion".into(),
            Self::Unreadable { .. } => {
                "a Temporal server of version 1.20 or later writes `Proto3`; look at `SELECT data_encoding, count(*) \
                 FROM executions GROUP BY 1`"
                    .into()
            }
            Self::NotStandby { .. } | Self::OtherServer { .. } => {
                "name a physical standby of `postgres:` under `replica:`, or leave it out".into()
            }
            Self::Behind { .. } => {
                "see pg_stat_replication on the primary; without `replica:` the primary is read".into()
            }
            Self::Standby { .. } => "name the primary under `postgres.host`".into(),
        }
    }
}
