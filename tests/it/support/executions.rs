//! Temporal's tables as far as sexton reads them, with runs that a test makes and removes: for what a real server would
//! do too quickly, too slowly or never.

use std::hash::{DefaultHasher, Hash, Hasher};

use prost::Message;
use sexton::clients::persistence::Persistence;
use sexton::visibility::reconcile::Ground;
use uuid::Uuid;

use super::postgres::{Scratch as Database, postgres15};
use super::search::Scratch;

/// The namespace of every run.
pub const NAMESPACE: Uuid = Uuid::from_u128(0x5e47_0000_0000_4000_8000_0000_0000_0001);

/// The shard of every run.
pub const SHARD: i32 = 1;

/// When every run started: the beginning of 2026, in seconds since 1970.
const STARTED: i64 = 1_767_225_600;

/// The same run for the same workflow, always.
pub fn run_of(workflow: &str) -> Uuid {
    let mut hasher = DefaultHasher::new();
    workflow.hash(&mut hasher);
    Uuid::from_u64_pair(hasher.finish(), 0x8000_0000_0000_0000)
}

/// The id of its document: at most 512 bytes, of which a tilde and the run take 37.
pub fn document_of(workflow: &str) -> String {
    let mut end = workflow.len().min(475);
    while !workflow.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}~{}", &workflow[..end], run_of(workflow))
}

#[derive(Clone, PartialEq, Message)]
struct State {
    #[prost(int32, tag = "3")]
    state: i32,
    #[prost(int32, tag = "4")]
    status: i32,
    #[prost(message, optional, tag = "6")]
    started: Option<Instant>,
}

#[derive(Clone, PartialEq, Message)]
struct Info {
    #[prost(message, optional, tag = "54")]
    histories: Option<Histories>,
    #[prost(message, optional, tag = "66")]
    closed: Option<Instant>,
}

#[derive(Clone, PartialEq, Message)]
struct Histories {
    #[prost(message, repeated, tag = "2")]
    all: Vec<History>,
}

#[derive(Clone, PartialEq, Message)]
struct History {
    #[prost(bytes = "vec", tag = "1")]
    branch: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Instant {
    #[prost(int64, tag = "1")]
    seconds: i64,
}

/// Appended to `executions.data`, this gives the run another end: of a field that is there twice the last one counts.
pub fn ended(seconds: i64) -> Vec<u8> {
    Info { histories: None, closed: Some(Instant { seconds }) }.encode_to_vec()
}

/// A database with the tables `namespaces`, `shards` and `executions` of schema v12.
#[derive(Debug)]
pub struct Executions {
    pub database: Database,
}

impl Executions {
    pub fn new() -> Self {
        let database = Database::new("executions");
        database.psql(&format!(
            "CREATE TABLE namespaces (partition_id int, id bytea, name varchar(255) UNIQUE NOT NULL);
             CREATE TABLE shards (shard_id int PRIMARY KEY, range_id bigint NOT NULL);
             CREATE TABLE cluster_metadata_info (
                 metadata_partition int, cluster_name varchar(255), data bytea NOT NULL,
                 data_encoding varchar(16) NOT NULL, version bigint NOT NULL);
             CREATE TABLE executions (
                 shard_id int, namespace_id bytea, workflow_id varchar(255), run_id bytea,
                 data bytea NOT NULL, data_encoding varchar(16) NOT NULL,
                 state bytea NOT NULL, state_encoding varchar(16) NOT NULL,
                 PRIMARY KEY (shard_id, namespace_id, workflow_id, run_id));
             INSERT INTO namespaces VALUES (0, '\\x{}', 'it');
             INSERT INTO shards VALUES ({SHARD}, 7);",
            hex::encode(NAMESPACE.as_bytes())
        ));
        Self { database }
    }

    /// A run that Temporal has, started at the beginning of 2026.
    pub fn run(&self, workflow: &str, open: bool) {
        self.runs([workflow], open);
    }

    /// Several of them.
    pub fn runs<W: AsRef<str>>(&self, workflows: impl IntoIterator<Item = W>, open: bool) {
        let started = Some(Instant { seconds: STARTED });
        let state = if open { State { state: 2, status: 1, started } } else { State { state: 3, status: 2, started } };
        let histories = Some(Histories { all: vec![History { branch: vec![1] }] });
        let closed = (!open).then_some(Instant { seconds: STARTED + 60 });
        let (state, info) = (state.encode_to_vec(), Info { histories, closed }.encode_to_vec());
        let row = |workflow: W| {
            let workflow = workflow.as_ref();
            format!(
                "({SHARD}, '\\x{}', '{}', '\\x{}', '\\x{}', 'Proto3', '\\x{}', 'Proto3')",
                hex::encode(NAMESPACE.as_bytes()),
                workflow.replace('\'', "''"),
                hex::encode(run_of(workflow).as_bytes()),
                hex::encode(&info),
                hex::encode(&state)
            )
        };
        let rows: Vec<String> = workflows.into_iter().map(row).collect();
        self.database.psql(&format!("INSERT INTO executions VALUES {}", rows.join(", ")));
    }

    /// Temporal deletes the run.
    pub fn remove(&self, workflow: &str) {
        self.database.psql(&format!("DELETE FROM executions WHERE workflow_id = '{}'", workflow.replace('\'', "''")));
    }

    pub fn persistence(&self) -> Persistence {
        Persistence::new(postgres15(), &self.database.name)
    }

    /// With an alias, and without a Temporal that could write anything again.
    pub async fn ground(&self, scratch: &Scratch) -> Ground {
        Ground { search: scratch.engine.client().await, persistence: self.persistence(), temporal: None }
    }
}
