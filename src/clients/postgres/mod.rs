//! PostgreSQL through sqlx: connections with explicit time-outs and TLS, errors that say what to do, and the server's
//! own `pg_dump`.

mod client;
mod copy_out;
mod databases;
mod error;
pub(crate) mod instant;
mod settings;
mod tools;

pub use client::{Postgres, ServerVersion, quote_identifier, quote_literal};
pub use copy_out::{CopyOut, Fields};
pub use databases::{Databases, NewDatabase, becomes, draft};
pub use error::{PostgresError, said};
pub use settings::{Settings, TlsMode};
pub use tools::{Tool, find_tool};

/// The database that a session is in which makes or drops others, or that has no other to be in.
pub const MAINTENANCE: &str = "postgres";
