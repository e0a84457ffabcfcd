//! The connections, as `sexton doctor` examines them.

use serde::Serialize;

use crate::daemon::jobs::Site;
use crate::doctor::{Finding, Verdict, examine};
use crate::failure::Failure;

/// One system and what was found about it.
#[derive(Debug, Clone, Serialize)]
pub(in crate::http) struct Connection {
    /// Its name in the configuration.
    pub system: &'static str,
    /// The worst of its findings.
    pub verdict: Verdict,
    /// The findings.
    pub findings: Vec<Finding>,
}

pub(super) async fn look(site: &Site) -> Result<Vec<Connection>, Failure> {
    let mut all: Vec<Connection> = Vec::new();
    for finding in examine(site).await {
        match all.iter_mut().find(|connection| connection.system == finding.system) {
            Some(connection) => {
                connection.verdict = connection.verdict.max(finding.verdict);
                connection.findings.push(finding);
            }
            None => all.push(Connection { system: finding.system, verdict: finding.verdict, findings: vec![finding] }),
        }
    }
    Ok(all)
}
