//! What starts a run, and how it ends.

use serde::{Deserialize, Serialize};

use crate::failure::Kind;

/// What started a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// The daemon's schedule.
    Schedule,
    /// A schedule that was missed.
    CatchUp,
    /// The command line, so also a CronJob.
    Cli,
    /// The API or the status page.
    Http,
}

impl Trigger {
    /// As it stands in the ledger.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::CatchUp => "catch-up",
            Self::Cli => "cli",
            Self::Http => "http",
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// There was nothing to do.
    Unchanged,
    /// Done.
    Changed,
    /// Nothing was done, because it would have been wrong.
    Refused,
    /// It went wrong.
    Failed,
    /// It was asked to stop, or its deadline passed.
    Cancelled,
    /// Its process died; found by a later run.
    Interrupted,
}

impl Outcome {
    /// As it stands in the ledger.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Changed => "changed",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
        }
    }

    /// The outcome that a failure of this kind is.
    #[must_use]
    pub const fn of(kind: Kind) -> Self {
        match kind {
            Kind::Refused | Kind::Awaited | Kind::Stale | Kind::Config | Kind::Usage => Self::Refused,
            Kind::Cancelled => Self::Cancelled,
            Kind::Failed | Kind::VerificationFailed | Kind::CouldNotVerify | Kind::Compensated => Self::Failed,
        }
    }
}
