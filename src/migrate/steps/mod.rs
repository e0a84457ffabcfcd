//! The closed set of typed operations a step can be.

mod sql;

use serde::{Deserialize, Serialize};

use super::parameters::{ParameterError, Values};
use super::recipe::Sql;
pub use sql::SqlStep;
pub(crate) use sql::{SqlFailure, holds, texts};

/// What a step does. Every operation has the same four parts:
/// check (does it hold already?), run, undo, and verify (does it hold now?).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Operation {
    /// SQL statements on the migration's database.
    Sql(SqlStep),
}

impl Operation {
    /// Its name in a recipe.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sql(_) => "sql",
        }
    }

    /// True when its undo is known; a step without one is a point of no return.
    #[must_use]
    pub fn can_be_undone(&self) -> bool {
        match self {
            Self::Sql(sql) => !sql.undo.is_empty() || sql.undo_query.is_some(),
        }
    }

    pub(crate) fn validate(&self) -> Result<(), String> {
        match self {
            Self::Sql(sql) => sql.validate(),
        }
    }

    pub(crate) fn statements(&self) -> impl Iterator<Item = &Sql> {
        match self {
            Self::Sql(sql) => sql.statements(),
        }
    }

    pub(crate) fn render(&self, values: &Values) -> Result<Self, ParameterError> {
        match self {
            Self::Sql(sql) => sql.render(values).map(Self::Sql),
        }
    }
}
