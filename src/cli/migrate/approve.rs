use clap::Args;
use uuid::Uuid;

use super::{NamedArgs, check, output, signals};
use crate::cli::failures::Shown;
use crate::context::Context;
use crate::daemon::jobs::Site;
use crate::exit::Exit;
use crate::failure::{Failure, Kind};
use crate::migrate::{self, Granted};
use crate::units::{Span, counted};

/// `sexton migrate approve`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ApproveArgs {
    #[command(flatten)]
    named: NamedArgs,
    /// Who approves; it is journaled
    #[arg(long, value_name = "PERSON", required_unless_present = "revoke")]
    by: Option<String>,
    /// The digest of the plan as it was read, or its first 8 characters or more; another one now is refused
    #[arg(long, value_name = "DIGEST")]
    plan: Option<String>,
    /// Approve this step, at which the migration waits, instead of the beginning
    #[arg(long, value_name = "STEP")]
    step: Option<String>,
    /// For how long the approval is good
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    expires: Span,
    /// Take back every approval that was not used yet
    #[arg(long, conflicts_with_all = ["by", "plan", "step"])]
    revoke: bool,
}

/// The longest that an approval is good for.
const LONGEST: Span = Span::days(30);

pub(super) async fn approve(site: &Site, args: &ApproveArgs) -> Result<Exit, Shown> {
    if args.revoke {
        return revoke(site, &args.named).await;
    }
    let migration = check(site, &args.named).await?;
    let journal = site.journal().await.map_err(Shown::of)?;
    let by = args.by.as_deref().map(str::trim).unwrap_or_default();
    let usage = |message: &str, hint: &str| Shown::from(Failure::new(Kind::Usage, message).with_hint(hint));
    if by.is_empty() || by.len() > 200 || by.contains(char::is_control) {
        return Err(usage("`--by` does not name anybody", "write the name of the person who agrees"));
    }
    if args.expires.as_millis() == 0 || args.expires > LONGEST {
        return Err(usage("an approval is good for a moment up to 30 days", "write for example `--expires 24h`"));
    }
    if args.plan.as_ref().is_some_and(|plan| plan.len() < migrate::SHORTEST_DIGEST) {
        return Err(usage("`--plan` is too short to tell plans apart", "write 8 characters of the digest or more"));
    }
    let ctx = Context { cancel: signals::stop_token(), ..Context::plain() };
    let granted = Granted {
        id: Uuid::now_v7(),
        by,
        expires: args.expires.into(),
        step: args.step.as_deref(),
        seen: args.plan.as_deref(),
    };
    let approval = migrate::approve(&migration, &journal, &site.world(), &granted, &ctx).await.map_err(Shown::of)?;
    if args.named.json {
        output::json(&approval);
    } else {
        let what = approval.step.as_ref().map_or_else(String::new, |step| format!(" step {step}"));
        output::text(format_args!(
            "{}{what} approved by {} until {}: plan {}",
            migration.name(),
            approval.by,
            approval.expires,
            approval.plan
        ));
    }
    Ok(Exit::Done)
}

/// Takes approvals back, also of a recipe that is not there any more: whoever is in doubt is not to be held up.
async fn revoke(site: &Site, named: &NamedArgs) -> Result<Exit, Shown> {
    let journal = site.journal().await.map_err(Shown::of)?;
    let revoked = migrate::revoke(&named.name, &journal).await.map_err(Shown::of)?;
    if revoked == 0 {
        check(site, named).await?;
    }
    let revoked = usize::try_from(revoked).unwrap_or(usize::MAX);
    match named.json {
        true => output::json(&serde_json::json!({ "revoked": revoked })),
        false => output::text(format_args!("{} revoked", counted(revoked, "approval", "approvals"))),
    }
    Ok(Exit::Done)
}
