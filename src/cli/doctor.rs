use clap::Args;

use super::failures::Shown;
use super::output;
use crate::daemon::jobs::Site;
use crate::doctor::{self, Verdict};
use crate::exit::Exit;
use crate::http;

/// `sexton doctor`.
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn doctor(site: Site, args: &DoctorArgs) -> Result<Exit, Shown> {
    let mut findings = doctor::examine(&site).await;
    findings.extend(http::examine(&site).await);
    let failed = findings.iter().filter(|f| f.verdict == Verdict::Failed).count();
    let warnings = findings.iter().filter(|f| f.verdict == Verdict::Warning).count();
    if args.json {
        output::json(&serde_json::json!({ "findings": findings, "failed": failed, "warnings": warnings }));
    } else {
        for finding in &findings {
            let verdict = match finding.verdict {
                Verdict::Ok => "ok",
                Verdict::Warning => "warn",
                Verdict::Failed => "FAIL",
            };
            output::text(format_args!("{verdict:<5} {:<9} {}: {}", finding.system, finding.subject, finding.detail));
            if let Some(hint) = &finding.hint {
                output::text(format_args!("{:<15} hint: {hint}", ""));
            }
        }
        output::text(match (failed, warnings) {
            (0, 0) => "\nall is well".to_owned(),
            (0, n) => format!("\nnothing failed; {n} to look at"),
            (f, n) => format!("\n{f} failed, {n} to look at"),
        });
    }
    Ok(if failed > 0 { Exit::Failed } else { Exit::Done })
}
