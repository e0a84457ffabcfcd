//! (to be filled)
pub mod store;
