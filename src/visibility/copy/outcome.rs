//! What a copy came to: both sides compared, or what stopped it.

use serde::Serialize;

use crate::clients::search::SearchError;
use crate::failure::{Explain, Kind};

/// Whether both sides hold the same.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Verified {
    /// Documents compared one by one.
    pub compared: u64,
    /// Documents in the source.
    pub source: u64,
    /// Documents in the target.
    pub target: u64,
    /// How many documents differ.
    pub differing: u64,
    /// The first of them.
    pub differences: Vec<Difference>,
}

/// A document that is not the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its id.
    pub id: String,
    /// Its version in the source.
    pub source: u64,
    /// Its version in the target; `None` when it is not there.
    pub target: Option<u64>,
}

/// A copy that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// An engine could not be asked or told.
    #[error(transparent)]
    Search(#[from] SearchError),
    /// The target refuses a document.
    #[error("index `{index}` refuses the document `{id}`: {reason}")]
    Refused {
        /// The index written to.
        index: String,
        /// The document.
        id: String,
        /// The engine's words.
        reason: String,
    },
    /// Documents cannot be read in full: `_source` is switched off.
    #[error("index `{0}` keeps no `_source`, so that its documents cannot be copied")]
    NoSource(String),
    /// Both sides do not hold the same.
    #[error("the copy in `{to}` differs from `{from}`: {}", told(verified))]
    Differs {
        /// The index read.
        from: String,
        /// The index written.
        to: String,
        /// What was found.
        verified: Box<Verified>,
    },
    /// The run was asked to stop between two batches.
    #[error("the copy was stopped after {0} documents")]
    Cancelled(u64),
}

impl Explain for CopyError {
    fn kind(&self) -> Kind {
        match self {
            Self::Search(error) => error.kind(),
            Self::Refused { .. } | Self::NoSource(_) => Kind::Failed,
            Self::Differs { .. } => Kind::VerificationFailed,
            Self::Cancelled(_) => Kind::Cancelled,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Search(error) => error.hint(),
            Self::Refused { .. } => Some("compare the mappings of the two indices (`GET <index>/_mapping`)".into()),
            Self::NoSource(_) => Some("an index without `_source` can only be cloned".into()),
            Self::Differs { .. } => Some("look whether somebody else writes to the copy, then run again".into()),
            Self::Cancelled(_) => Some("run again: what was copied is not copied twice".into()),
        }
    }
}

impl Verified {
    /// True when both sides hold the same documents with the same versions.
    #[must_use]
    pub fn equal(&self) -> bool {
        self.differing == 0 && self.source == self.target
    }
}

fn told(verified: &Verified) -> String {
    let mut text = format!("{} documents against {}", verified.target, verified.source);
    for difference in verified.differences.iter().take(3) {
        let found = difference.target.map_or_else(|| "missing".to_owned(), |version| format!("version {version}"));
        text += &format!(", `{}` is {found} and should be version {}", difference.id, difference.source);
    }
    text
}
