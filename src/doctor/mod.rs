//! The examination behind `sexton doctor`: every connection, version and privilege, one finding each, with what is
//! missing and how to grant it. It changes nothing.

mod postgres;
mod search;
mod store;
mod temporal;
mod webhooks;

use std::time::Duration;

use serde::Serialize;

use crate::daemon::jobs::Site;
use crate::failure::{Failure, Kind};
use crate::job::JobName;

/// How one thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Works, but should be looked at.
    Warning,
    /// A job that is configured cannot run.
    Failed,
}

/// One examined thing.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// Which system: `postgres`, `temporal`.
    pub system: &'static str,
    /// What of it: `connection`, `version`, `privileges`.
    pub subject: String,
    /// How it is.
    pub verdict: Verdict,
    /// What was seen.
    pub detail: String,
    /// What to do, when something is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Finding {
    pub(crate) fn ok(system: &'static str, subject: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { system, subject: subject.into(), verdict: Verdict::Ok, detail: detail.into(), hint: None }
    }

    pub(crate) fn warning(
        system: &'static str,
        subject: impl Into<String>,
        detail: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { verdict: Verdict::Warning, hint: Some(hint.into()), ..Self::ok(system, subject, detail) }
    }

    /// The system stands in front of the finding, so the message need not begin with it.
    pub(crate) fn failed(system: &'static str, subject: impl Into<String>, failure: impl Into<Failure>) -> Self {
        let failure = failure.into();
        let detail = failure.message.strip_prefix(&format!("the {system}: ")).unwrap_or(&failure.message);
        Self { verdict: Verdict::Failed, hint: failure.hint, ..Self::ok(system, subject, detail) }
    }
}

/// How long a system may take. Less than what whoever asks for all of them waits.
const PATIENCE: Duration = Duration::from_secs(45);

/// Examines the systems a site is configured for, all at once; the findings are in the order of the configuration.
pub async fn examine(site: &Site) -> Vec<Finding> {
    let config = &site.config;
    let temporal = async {
        let settings = config.temporal.as_ref()?;
        Some(limited("temporal", temporal::examine(settings, site)).await)
    };
    let search = async {
        let settings = config.search.as_ref()?;
        Some(limited("search", search::examine(settings, site.policies.visibility.as_ref())).await)
    };
    let store = async {
        let settings = config.store.as_ref()?;
        Some(limited("store", async { vec![store::examine(settings).await] }).await)
    };
    let (postgres, temporal, search, store, webhooks) = tokio::join!(
        limited("postgres", postgres::examine(site)),
        temporal,
        search,
        store,
        limited("webhooks", webhooks::examine(site))
    );
    let systems = [Some(postgres), temporal, search, store, Some(webhooks)];
    policies(site).into_iter().chain(drill(site)).chain(systems.into_iter().flatten().flatten()).collect()
}

/// What is found within that time; a system that takes connections and says nothing has failed.
async fn limited(system: &'static str, examined: impl Future<Output = Vec<Finding>>) -> Vec<Finding> {
    let late = || {
        let failure = Failure::new(Kind::Failed, format!("no answer within {} s", PATIENCE.as_secs()));
        vec![Finding::failed(system, "connection", failure)]
    };
    tokio::time::timeout(PATIENCE, examined).await.unwrap_or_else(|_| late())
}

/// What a drill that is on the schedule lacks, without which it fails each time.
fn drill(site: &Site) -> Option<Finding> {
    let is_scheduled = site.policies.schedule.timed().any(|(job, ..)| job == JobName::Drill);
    if !is_scheduled || !site.is_configured(JobName::Backup) {
        return None;
    }
    let config = &site.config;
    let seals = site.policies.backup.as_ref().is_some_and(|policy| policy.encryption.recipients().is_some());
    let (lack, add) = if config.scratch.is_none() {
        ("there is no server to restore on", "add `scratch:` to sexton.yaml")
    } else if seals && config.identities.is_empty() {
        (
            "nothing here opens the encrypted backups",
            "name the file of a secret key under `store.identities` in sexton.yaml",
        )
    } else {
        return None;
    };
    let (detail, hint) =
        (format!("it fails each time: {lack}"), format!("{add}, or take `drill` out of schedule.yaml"));
    Some(Finding::warning("config", "schedule drill", detail, hint))
}

fn policies(site: &Site) -> Vec<Finding> {
    let policies = &site.policies;
    let config = &site.config;
    // A job without a policy is a choice where its system is not configured, and a mistake where it is.
    let wanted = [
        (JobName::Retention, config.temporal.is_some(), policies.retention.is_some()),
        (JobName::Visibility, config.search.is_some(), policies.visibility.is_some()),
        (JobName::Backup, config.store.is_some(), policies.backup.is_some()),
    ];
    let mut findings = vec![Finding::ok("config", "file", config.path.display().to_string())];
    for (job, connected, governed) in wanted {
        let file = config.policies.join(format!("{job}.yaml"));
        findings.push(match (connected, governed) {
            (true, true) => Finding::ok("config", format!("policy {job}"), file.display().to_string()),
            (true, false) => Finding::warning(
                "config",
                format!("policy {job}"),
                format!("{} does not exist, so the job `{job}` is not run", file.display()),
                "start from the file of that name that comes with sexton",
            ),
            (false, _) => Finding::ok("config", format!("policy {job}"), "not used: its system is not configured"),
        });
    }
    findings
}
