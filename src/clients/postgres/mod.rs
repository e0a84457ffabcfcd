//! PostgreSQL through sqlx: connections with explicit time-outs and TLS.

mod settings;

pub use settings::{Settings, TlsMode};
