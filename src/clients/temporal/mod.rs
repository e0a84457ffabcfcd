//! Temporal's frontend over gRPC: connection, server information, namespaces.
//!
//! Protobuf types stay inside this folder; callers get small types of this crate. Every call has a time-out. Reads
//! are retried while the server says "unavailable" or "too many requests"; writes never are, because a write whose
//! answer was lost may have happened.

mod admin;
mod attributes;
mod call;
mod connect;
mod error;
mod listed;
mod namespace;
mod runs;
mod server;
mod settings;
mod signal;
mod tls;

pub use attributes::AttributeType;
pub use error::TemporalError;
pub use listed::{ListedPage, ListedRun};
pub use namespace::{Namespace, NamespaceState, NamespaceUpdate, NewNamespace};
pub use runs::{HistoryEnd, RunState, status_word};
pub use server::{Health, ServerInfo, Support, support};
pub use settings::Settings;
pub use signal::Signal;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use connect::Wire;

/// A connection to one Temporal frontend. Cheap to clone; clones share the connection, which is made anew by itself
/// when it breaks.
#[derive(Clone)]
pub struct Temporal {
    address: Arc<str>,
    tls: tls::Mode,
    timeout: Duration,
    wire: Wire,
}

impl Temporal {
    /// Connects, and proves with one call (`GetSystemInfo`, which every caller may make) that a Temporal frontend
    /// answers: some TLS failures only show then.
    ///
    /// # Errors
    /// Any connection variant of [`TemporalError`]; the certificate files are read here.
    pub async fn connect(settings: &Settings) -> Result<Self, TemporalError> {
        connect::connect(settings).await
    }

    /// `host:port` as configured.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl fmt::Debug for Temporal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Temporal").field("address", &self.address).field("tls", &self.tls).finish_non_exhaustive()
    }
}
