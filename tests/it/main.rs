//! Tests on the real engines of `tests/stack`: one binary, one file per domain.

mod support;
mod visibility;
