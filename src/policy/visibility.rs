//! `policies/visibility.yaml`: how the visibility index is rolled over and how long its indices are kept.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::failure::{Explain, Kind};
use crate::units::{Size, Span};

/// The whole policy.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct VisibilityPolicy {
    /// The name Temporal writes to.
    pub index: IndexName,
    /// When a new index is begun.
    pub rollover: Rollover,
    /// When an old one is removed.
    pub delete: Delete,
    /// Who rolls.
    pub driver: DriverChoice,
    /// Who deletes.
    pub deletion: Deletion,
    /// How the index is kept true.
    pub reconcile: Reconcile,
}

/// How the documents are kept in agreement with Temporal's runs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reconcile {
    /// What becomes of the documents of closed runs that Temporal has deleted.
    pub ghosts: Ghosts,
    /// What becomes of runs without a document.
    pub missing: Missing,
    /// At most so many documents are changed in one run.
    pub max_changes: usize,
    /// So many documents, and so many runs, are looked at in one run beside those that changed.
    pub sweep: usize,
}

impl Default for Reconcile {
    fn default() -> Self {
        Self { ghosts: Ghosts::Delete, missing: Missing::Repair, max_changes: 100_000, sweep: 50_000 }
    }
}

/// What becomes of a ghost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ghosts {
    /// It is removed.
    #[default]
    Delete,
    /// It stays until its index goes.
    Keep,
}

/// What becomes of a run without a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Missing {
    /// Temporal is made to write it again.
    #[default]
    Repair,
    /// It is reported.
    Report,
}

/// When a new index is begun: as soon as one of the conditions is met.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rollover {
    /// Time since the write index was created.
    pub max_age: Span,
    /// Size of its primary shards.
    pub max_size: Option<Size>,
    /// Documents in its primary shards.
    pub max_docs: Option<u64>,
}

impl Default for Rollover {
    fn default() -> Self {
        Self { max_age: Span::days(30), max_size: None, max_docs: None }
    }
}

/// When an old index is removed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Delete {
    /// This long after [`Self::counted_from`].
    pub after: Span,
    /// From when the age counts.
    pub counted_from: CountedFrom,
}

impl Default for Delete {
    fn default() -> Self {
        Self { after: Span::days(90), counted_from: CountedFrom::Rollover }
    }
}

/// From when the deletion age of an index counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CountedFrom {
    /// From its rollover, so that every document is kept at least that long.
    #[default]
    Rollover,
    /// From its creation, so that no document is kept longer than that.
    Creation,
}

/// Who rolls the index over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DriverChoice {
    /// ILM where the engine has it, else the daemon.
    #[default]
    Auto,
    /// Elasticsearch's index lifecycle management.
    Ilm,
    /// OpenSearch's index state management. Never chosen by `auto`: not run against a real ISM.
    Ism,
    /// sexton itself.
    Daemon,
}

/// Who deletes old indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Deletion {
    /// sexton, after it has seen that no open workflow is left in the index.
    #[default]
    Gated,
    /// The engine's lifecycle, on age alone.
    Engine,
}

/// The name of an index or alias, checked by the engines' own rules.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct IndexName(String);

impl IndexName {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for IndexName {
    fn default() -> Self {
        Self("temporal_visibility_v1".into())
    }
}

impl TryFrom<String> for IndexName {
    type Error = InvalidVisibility;

    fn try_from(name: String) -> Result<Self, InvalidVisibility> {
        let forbidden = |c: char| c.is_uppercase() || c.is_control() || r#"\/*?"<>| ,#:%+"#.contains(c);
        // 240 leaves room for `-000001` below the engines' limit of 255 bytes.
        let wrong =
            name.is_empty() || name.len() > 240 || name.starts_with(['-', '_', '+', '.']) || name.contains(forbidden);
        if wrong { Err(InvalidVisibility::Name(name)) } else { Ok(Self(name)) }
    }
}

impl From<IndexName> for String {
    fn from(name: IndexName) -> Self {
        name.0
    }
}

impl fmt::Display for IndexName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A policy whose values do not fit each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidVisibility {
    /// Not the name of an index.
    #[error("`{0}` is not the name of an index; write lower case, no spaces, none of \\ / * ? \" < > | , # : % +")]
    Name(String),
    /// A condition that is always met.
    #[error("`{0}` must be more than nothing")]
    Zero(&'static str),
    /// The index would be due for deletion before it is rolled over.
    #[error("`delete.after` ({after}) must be longer than `rollover.max_age` ({max_age}) when it counts from creation")]
    DeleteBeforeRollover {
        /// `delete.after`.
        after: Span,
        /// `rollover.max_age`.
        max_age: Span,
    },
    /// Engines count from the rollover only.
    #[error("`deletion: engine` with `counted_from: creation` cannot be kept together with `rollover.{0}`")]
    EngineCannotCount(&'static str),
    /// The daemon has no lifecycle that could delete.
    #[error("`deletion: engine` needs an engine's lifecycle, but `driver: daemon` uses none")]
    EngineWithoutLifecycle,
}

impl InvalidVisibility {
    /// The key of the policy that has to change, dotted.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Name(_) => "index",
            Self::Zero(key) => key,
            Self::DeleteBeforeRollover { .. } => "delete.after",
            Self::EngineWithoutLifecycle => "driver",
            Self::EngineCannotCount(_) => "delete.counted_from",
        }
    }
}

impl Explain for InvalidVisibility {
    fn kind(&self) -> Kind {
        Kind::Config
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Name(_) => "write the name Temporal's configuration has under `indices.visibility`".into(),
            Self::Zero(_) => "write a duration such as `30d`, a size such as `50gb`, or leave the field out".into(),
            Self::DeleteBeforeRollover { .. } => "make `delete.after` longer, or count from the rollover".into(),
            Self::EngineCannotCount(_) => {
                "an index that rolls early would go early: leave the condition out, or use `deletion: gated`".into()
            }
            Self::EngineWithoutLifecycle => "use `deletion: gated`, or `driver: auto`".into(),
        })
    }
}

impl VisibilityPolicy {
    /// Checks the values against each other.
    ///
    /// # Errors
    /// The first contradiction found.
    pub fn validate(&self) -> Result<(), InvalidVisibility> {
        let Rollover { max_age, max_size, max_docs } = &self.rollover;
        let zeros = [
            ("rollover.max_age", max_age.as_millis() == 0),
            ("rollover.max_size", max_size.is_some_and(|size| size.as_bytes() == 0)),
            ("rollover.max_docs", *max_docs == Some(0)),
            ("delete.after", self.delete.after.as_millis() == 0),
            ("reconcile.max_changes", self.reconcile.max_changes == 0),
            ("reconcile.sweep", self.reconcile.sweep == 0),
        ];
        if let Some((name, _)) = zeros.into_iter().find(|(_, zero)| *zero) {
            return Err(InvalidVisibility::Zero(name));
        }
        if self.delete.counted_from == CountedFrom::Creation && self.delete.after <= *max_age {
            return Err(InvalidVisibility::DeleteBeforeRollover { after: self.delete.after, max_age: *max_age });
        }
        if self.deletion == Deletion::Engine {
            if self.driver == DriverChoice::Daemon {
                return Err(InvalidVisibility::EngineWithoutLifecycle);
            }
            if self.delete.counted_from == CountedFrom::Creation {
                let early = [("max_size", max_size.is_some()), ("max_docs", max_docs.is_some())];
                if let Some((name, _)) = early.into_iter().find(|(_, set)| *set) {
                    return Err(InvalidVisibility::EngineCannotCount(name));
                }
            }
        }
        Ok(())
    }

    /// The shortest time that any document stays findable after it was written: what a namespace's retention must
    /// not exceed, or closed workflows vanish from lists before their time.
    #[must_use]
    pub fn shortest_life(&self) -> Span {
        match self.delete.counted_from {
            CountedFrom::Rollover => self.delete.after,
            // A document may be written right before the rollover, when its index is already max_age old.
            CountedFrom::Creation => {
                let millis = self.delete.after.as_millis().saturating_sub(self.rollover.max_age.as_millis());
                Span::from(std::time::Duration::from_millis(millis))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<VisibilityPolicy, String> {
        serde_saphyr::from_str(yaml).map_err(|error| error.to_string())
    }

    #[test]
    fn the_shipped_policy_holds_the_defaults() {
        let shipped = read(include_str!("../../policies/visibility.yaml")).unwrap();
        let defaults = VisibilityPolicy::default();
        let rollover = Rollover { max_size: Some(Size::bytes(50 << 30)), ..defaults.rollover.clone() };
        assert_eq!(shipped, VisibilityPolicy { rollover, ..defaults });
        assert_eq!(shipped.validate(), Ok(()));
        assert_eq!(shipped.shortest_life(), Span::days(90));
    }

    #[test]
    fn contradictions_are_found() {
        let check = |yaml: &str, expect: Result<(), InvalidVisibility>| {
            assert_eq!(read(yaml).unwrap().validate(), expect, "{yaml}");
        };
        let creation = "{after: 30d, counted_from: creation}";
        check("rollover: {max_age: 0s}", Err(InvalidVisibility::Zero("rollover.max_age")));
        check("rollover: {max_docs: 0}", Err(InvalidVisibility::Zero("rollover.max_docs")));
        check("delete: {after: 10d}", Ok(()));
        check("{driver: ism, deletion: engine}", Ok(()));
        check(
            &format!("delete: {creation}"),
            Err(InvalidVisibility::DeleteBeforeRollover { after: Span::days(30), max_age: Span::days(30) }),
        );
        check("{deletion: engine, driver: daemon}", Err(InvalidVisibility::EngineWithoutLifecycle));
        check(
            "{deletion: engine, delete: {counted_from: creation}, rollover: {max_size: 50gb}}",
            Err(InvalidVisibility::EngineCannotCount("max_size")),
        );
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let check = |yaml: &str, word: &str| {
            let error = read(yaml).unwrap_err();
            assert!(error.contains(word), "{yaml}: {error}");
        };
        check("index: Temporal*", "is not the name of an index");
        check("rollover: {max_age: a month}", "is not a duration");
        check("driver: slm", "unknown variant");
        check("rolover: {}", "unknown field");
    }

    #[test]
    fn counting_from_creation_shortens_the_life_of_the_last_documents() {
        let policy = read("delete: {after: 90d, counted_from: creation}").unwrap();
        assert_eq!(policy.shortest_life(), Span::days(60));
    }
}
