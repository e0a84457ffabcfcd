//! Elasticsearch and OpenSearch over HTTP.
//!
//! The `elasticsearch` crate gives the transport (connections, TLS, compression); the calls are declared here, since
//! the crate's typed ones follow Elasticsearch 9 while Temporal clusters run Elasticsearch 7 and 8 and OpenSearch.
//! Its transport asks for plain `application/json`, which every one of these engines accepts.

mod block;
mod bulk;
mod cluster;
mod columns;
mod documents;
mod engine;
mod error;
mod indices;
mod lifecycle;
mod pick;
mod resize;
mod sequence;
mod settings;
mod state_management;
mod transport;

pub use block::{BlockState, WriteBlock};
pub use bulk::{Bulk, Done, Op};
pub use cluster::NodeDisk;
pub use columns::Row;
pub use documents::{Hit, PAGE, Scan};
pub use engine::{Engine, Product, Version};
pub use error::SearchError;
pub use indices::{Alias, AliasMember, Health, IndexFacts, Resolved, RolloverAnswer, RolloverConditions};
pub use lifecycle::{Guard, LifecycleState, StoredPolicy, Template};
pub use resize::{IndexDescription, ShardCopies};
pub use settings::{Auth, Settings};
pub use state_management::ManagedIndex;
pub use transport::Search;
