//! The examination behind `sexton doctor`: every connection, version and privilege, one finding each, with what is
//! missing and how to grant it. It changes nothing.

mod postgres;
mod search;
mod store;
mod temporal;
mod webhooks;

use serde::Serialize;

use crate::daemon::jobs::Site;
use crate::failure::Failure;
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
    fn ok(system: &'static str, subject: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { system, subject: subject.into(), verdict: Verdict::Ok, detail: detail.into(), hint: None }
    }

    fn warning(
        system: &'static str,
        subject: impl Into<String>,
        detail: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { verdict: Verdict::Warning, hint: Some(hint.into()), ..Self::ok(system, subject, detail) }
    }

    /// The system stands in front of the finding, so the message need not begin with it.
    fn failed(system: &'static str, subject: impl Into<String>, failure: impl Into<Failure>) -> Self {
        let failure = failure.into();
        let detail = failure.message.strip_prefix(&format!("the {system}: ")).unwrap_or(&failure.message);
        Self { verdict: Verdict::Failed, hint: failure.hint, ..Self::ok(system, subject, detail) }
    }
}

/// Examines everything a site is configured for. Systems are examined one after the other, so that the output reads
/// in the order of the configuration.
pub async fn examine(site: &Site) -> Vec<Finding> {
    let mut findings = policies(site);
    findings.extend(postgres::examine(site).await);
    if let Some(settings) = &site.config.temporal {
        findings.extend(temporal::examine(settings, site.config.search.is_some()).await);
    }
    if let Some(settings) = &site.config.search {
        findings.extend(search::examine(settings, site.policies.visibility.as_ref()).await);
    }
    if let Some(settings) = &site.config.store {
        findings.push(store::examine(settings).await);
    }
    findings.extend(webhooks::examine(site).await);
    findings
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
