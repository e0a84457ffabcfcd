//! Webhooks: the end of a run, told to others. What is to be told is written together with the run's end
//! (`ledger/webhooks.rs`), so that a crash loses none; the dispatcher delivers it, at least once.

mod backoff;
mod body;
mod dispatch;
mod send;
mod sign;

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use super::ledger::Outcome;
use crate::clients::hook;
use crate::clients::temporal::{self, Signal};
use crate::job::JobName;

pub(super) use body::run_ended;
pub use dispatch::Dispatcher;
pub use send::{Attempt, send_test};

/// What a webhook is told of unless it says otherwise: whatever a person should look at.
pub const DEFAULT_ON: [Outcome; 3] = [Outcome::Failed, Outcome::Interrupted, Outcome::Refused];

/// Somebody who is told how runs end.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// Its name: unique, and what its deliveries are known by.
    pub name: String,
    /// Where it is told, and in which form.
    pub to: To,
    /// Of which outcomes.
    pub on: Vec<Outcome>,
    /// Of which jobs; `None` is all.
    pub jobs: Option<Vec<JobName>>,
    /// The limit of one attempt.
    pub timeout: Duration,
    /// The pause after the first attempt that failed; later ones grow.
    pub retry_after: Duration,
}

/// Where a webhook is told.
#[derive(Debug, Clone)]
pub enum To {
    /// Any receiver, as JSON, signed where there is a secret.
    Generic {
        /// Where it is.
        hook: hook::Settings,
        /// What the signature is made with.
        secret: Option<SecretString>,
    },
    /// Slack, or what takes its form, as a text.
    Slack {
        /// Where it is.
        hook: hook::Settings,
    },
    /// A workflow of the site's own Temporal, as a signal.
    Temporal {
        /// The frontend.
        frontend: Box<temporal::Settings>,
        /// The workflow and the signal.
        signal: Signal,
    },
    /// Somewhere that nothing is sent to from here, since what is needed for it was not read.
    Unread {
        /// Its form.
        kind: &'static str,
        /// Where it is, or where that is kept.
        place: String,
    },
}

impl To {
    /// The word for its form: `generic`, `slack` or `temporal`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Generic { .. } => "generic",
            Self::Slack { .. } => "slack",
            Self::Temporal { .. } => "temporal",
            Self::Unread { kind, .. } => kind,
        }
    }

    /// Where that is, without anything secret.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            Self::Unread { place, .. } => place.clone(),
            Self::Generic { hook, .. } | Self::Slack { hook } => hook.address.to_string(),
            Self::Temporal { signal, .. } => {
                format!("workflow {} in namespace {}, signal {}", signal.workflow, signal.namespace, signal.name)
            }
        }
    }
}

impl Webhook {
    /// Whether it is told of such an end.
    #[must_use]
    pub fn wants(&self, job: JobName, outcome: Outcome) -> bool {
        self.on.contains(&outcome) && self.jobs.as_ref().is_none_or(|jobs| jobs.contains(&job))
    }
}

/// All webhooks of a site. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Webhooks(Arc<[Webhook]>);

impl Webhooks {
    /// These.
    #[must_use]
    pub fn new(webhooks: Vec<Webhook>) -> Self {
        Self(webhooks.into())
    }

    /// In the order of the configuration.
    pub fn iter(&self) -> std::slice::Iter<'_, Webhook> {
        self.0.iter()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Webhook> {
        self.iter().find(|webhook| webhook.name == name)
    }

    /// Their names.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.iter().map(|webhook| webhook.name.as_str()).collect()
    }
}
