//! The jobs: each file ties one domain to the [`crate::job::Job`] the runner knows.

mod backup;
mod migrate;
mod retention;
mod site;
mod visibility;

pub use site::Site;
