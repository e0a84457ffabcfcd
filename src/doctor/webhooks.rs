use super::Finding;
use crate::daemon::jobs::Site;
use crate::daemon::webhooks::{To, Webhook};
use crate::units::counted;

const SYSTEM: &str = "webhooks";

/// What can be said of each without sending anything, and whether deliveries were given up.
pub(super) async fn examine(site: &Site) -> Vec<Finding> {
    let webhooks = match site.config.webhooks_to_tell() {
        Ok(webhooks) => webhooks,
        Err(error) => return vec![Finding::failed(SYSTEM, "settings", error)],
    };
    if webhooks.is_empty() {
        return Vec::new();
    }
    let mut findings: Vec<Finding> = webhooks.iter().map(of).collect();
    // A ledger that cannot be read is a finding of its own, above.
    if let Ok(ledger) = site.ledger().await
        && let Ok(counts) = ledger.delivery_counts().await
    {
        let pending = counted(usize::try_from(counts.pending).unwrap_or_default(), "delivery", "deliveries");
        findings.push(match counts.dead {
            0 => Finding::ok(SYSTEM, "outbox", format!("{pending} pending, none given up")),
            dead => Finding::warning(
                SYSTEM,
                "outbox",
                format!("{pending} pending, {dead} given up"),
                "`sexton webhooks list --dead` says why; `sexton webhooks retry --dead` delivers them again, `dismiss --dead` removes them",
            ),
        });
    }
    findings
}

fn of(webhook: &Webhook) -> Finding {
    let (name, place) = (webhook.name.clone(), webhook.to.place());
    let unsafe_way = match &webhook.to {
        To::Generic { hook, .. } | To::Slack { hook } => !hook.address.is_https() && !hook.address.is_loopback(),
        To::Temporal { .. } | To::Unread { .. } => false,
    };
    match &webhook.to {
        _ if unsafe_way => Finding::warning(
            SYSTEM,
            name,
            format!("{place}: what is sent, and its signature, can be read on the way"),
            "use an https address",
        ),
        To::Generic { secret: None, .. } => Finding::warning(
            SYSTEM,
            name,
            format!("{place}: deliveries are not signed"),
            "set `secret`, so that the receiver can tell whom they are from",
        ),
        To::Generic { secret: Some(_), .. } => Finding::ok(SYSTEM, name, format!("{place}, signed; nothing was sent")),
        To::Slack { .. } | To::Temporal { .. } | To::Unread { .. } => {
            Finding::ok(SYSTEM, name, format!("{place}; nothing was sent"))
        }
    }
}
