//! Temporal's frontend over gRPC.

mod settings;

pub use settings::Settings;
