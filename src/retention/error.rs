//! Why a retention run failed.

use super::report::RetentionReport;
use super::shortening::Hold;
use crate::clients::temporal::TemporalError;
use crate::failure::{Explain, Kind};

/// Why planning or applying failed. What was done before that is in the report.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// The namespaces could not be read; nothing was done.
    #[error("reading the namespaces")]
    Observe(#[from] TemporalError),
    /// Some namespaces failed; the others were done.
    #[error("{} of {planned} namespaces could not be brought to the policy: {}", report.failed, report.failures())]
    Namespaces {
        /// What was done.
        report: RetentionReport,
        /// Steps in the plan.
        planned: usize,
        /// The hint of the first failure.
        hint: Option<String>,
    },
    /// The connection or the login failed on the way; the rest of the plan was not tried.
    #[error("stopped after {} of {planned} namespaces: {}", report.namespaces.len(), report.failures())]
    Stopped {
        /// What was done.
        report: RetentionReport,
        /// Steps in the plan.
        planned: usize,
        /// The hint of the failure.
        hint: Option<String>,
    },
    /// Everything was done but what makes a retention shorter, to which nobody has agreed.
    #[error("a shorter retention was held back: {}", report.held_back())]
    HeldBack {
        /// What was done.
        report: RetentionReport,
        /// Why, of the first one.
        hold: Hold,
    },
    /// The run was asked to stop.
    #[error("cancelled after {} namespaces", report.namespaces.len())]
    Cancelled {
        /// What was done.
        report: RetentionReport,
    },
}

impl RetentionError {
    /// What was done before the failure; `None` when nothing was tried.
    #[must_use]
    pub fn report(&self) -> Option<&RetentionReport> {
        match self {
            Self::Observe(_) => None,
            Self::Namespaces { report, .. }
            | Self::Stopped { report, .. }
            | Self::HeldBack { report, .. }
            | Self::Cancelled { report } => Some(report),
        }
    }
}

impl Explain for RetentionError {
    fn kind(&self) -> Kind {
        match self {
            Self::Observe(error) => error.kind(),
            Self::Namespaces { .. } | Self::Stopped { .. } => Kind::Failed,
            Self::HeldBack { .. } => Kind::Refused,
            Self::Cancelled { .. } => Kind::Cancelled,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Observe(error) => error.hint(),
            Self::Namespaces { hint, .. } | Self::Stopped { hint, .. } => hint.clone(),
            Self::HeldBack { hold: Hold::NoConsent, .. } => Some(
                "see in `sexton plan retention` what it makes deletable; then `sexton once retention --yes`, or \
                 `allow_shortening: true` in policies/retention.yaml"
                    .into(),
            ),
            Self::HeldBack { hold: Hold::NotCounted, .. } => Some(
                "see in `sexton plan retention` why the closed runs cannot be counted; `sexton once retention --yes` \
                 does without the number"
                    .into(),
            ),
            Self::Cancelled { .. } => None,
        }
    }
}
