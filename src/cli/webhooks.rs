//! `sexton webhooks`: who is told of what, what waits, a test, another try or none.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::failures::Shown;
use super::{output, signals};
use crate::daemon::jobs::Site;
use crate::daemon::ledger::{Delivery, DeliveryState, Dismissed, Ledger, Outcome, Retried};
use crate::daemon::webhooks::{Attempt, Webhook, send_test};
use crate::exit::Exit;
use crate::failure::{Failure, Kind};
use crate::job::JobName;
use crate::units::counted;

/// How long a daemon that has taken a delivery is waited for.
const DAEMON_PATIENCE: Duration = Duration::from_secs(10);

/// `sexton webhooks`.
#[derive(Debug, Subcommand)]
pub(super) enum WebhooksVerb {
    /// Show the webhooks and the latest deliveries
    List(ListArgs),
    /// Send a test event to a webhook now, and say what it answers
    Test(TestArgs),
    /// Deliver again what was given up
    Retry(RetryArgs),
    /// Remove what was given up and is not to be delivered any more
    Dismiss(DismissArgs),
}

/// `sexton webhooks list`.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Only deliveries that were given up
    #[arg(long)]
    dead: bool,
    /// How many of the latest deliveries to show
    #[arg(long, short = 'n', default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    deliveries: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// `sexton webhooks test`.
#[derive(Debug, Args)]
pub(super) struct TestArgs {
    /// The webhook's name
    #[arg(value_name = "WEBHOOK")]
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One delivery, or all that were given up.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// The delivery, as `webhooks list` shows it
    #[arg(value_name = "DELIVERY", value_parser = delivery)]
    id: Option<Uuid>,
    /// Every delivery that was given up
    #[arg(long)]
    dead: bool,
}

/// `sexton webhooks retry`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(super) struct RetryArgs {
    #[command(flatten)]
    which: Which,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// `sexton webhooks dismiss`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(super) struct DismissArgs {
    #[command(flatten)]
    which: Which,
    /// Only those to this webhook, which need not be configured any more
    #[arg(long, value_name = "NAME", requires = "dead", conflicts_with = "id")]
    webhook: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn delivery(text: &str) -> Result<Uuid, &'static str> {
    text.parse().map_err(|_| "a delivery is told by its id, which `sexton webhooks list` shows under DELIVERY")
}

pub(super) async fn webhooks(site: Site, verb: &WebhooksVerb) -> Result<Exit, Shown> {
    match verb {
        WebhooksVerb::List(args) => list(&site, args).await,
        WebhooksVerb::Test(args) => test(&site, args).await,
        WebhooksVerb::Retry(args) => retry(&site, args).await,
        WebhooksVerb::Dismiss(args) => dismiss(&site, args).await,
    }
}

async fn list(site: &Site, args: &ListArgs) -> Result<Exit, Shown> {
    let ledger = site.ledger().await.map_err(Shown::of)?;
    let state = args.dead.then_some(DeliveryState::Dead);
    let deliveries = ledger.deliveries(state, args.deliveries, None).await.map_err(Shown::of)?;
    let counts = ledger.delivery_counts().await.map_err(Shown::of)?;
    let webhooks = &site.config.webhooks;
    if args.json {
        let shown: Vec<_> = webhooks
            .iter()
            .map(|w| json!({ "name": w.name, "kind": w.to.kind(), "to": w.to.place(), "on": w.on, "jobs": w.jobs }))
            .collect();
        let (pending, dead) = (counts.pending, counts.dead);
        output::json(&json!({ "webhooks": shown, "pending": pending, "dead": dead, "deliveries": deliveries }));
        return Ok(Exit::Done);
    }
    if webhooks.is_empty() {
        output::text("no webhook is configured");
    } else {
        let rows = webhooks.iter().map(row).collect();
        output::text(output::table(&["webhook", "kind", "to", "on", "jobs"], rows));
    }
    output::text(format_args!("\n{} pending, {} dead", counts.pending, counts.dead));
    if !deliveries.is_empty() {
        output::text(format_args!("\n{}", table(&deliveries, Timestamp::now())));
    }
    Ok(Exit::Done)
}

fn row(webhook: &Webhook) -> Vec<String> {
    let on: Vec<&str> = webhook.on.iter().copied().map(Outcome::as_str).collect();
    let named = |jobs: &Vec<JobName>| jobs.iter().map(|job| job.as_str()).collect::<Vec<_>>().join(", ");
    vec![
        webhook.name.clone(),
        webhook.to.kind().to_owned(),
        webhook.to.place(),
        on.join(", "),
        webhook.jobs.as_ref().map_or_else(|| "all".to_owned(), named),
    ]
}

fn table(deliveries: &[Delivery], now: Timestamp) -> String {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let rows = deliveries.iter().map(|delivery| {
        let run = &delivery.payload["run"];
        let next = match delivery.state.as_str() {
            "pending" if delivery.next_attempt_at <= now => "due".to_owned(),
            "pending" => format!("in {}", output::distance(now, delivery.next_attempt_at)),
            _ => String::new(),
        };
        vec![
            output::instant(delivery.created_at),
            delivery.webhook.clone(),
            text(&run["job"]),
            text(&run["outcome"]),
            delivery.state.clone(),
            delivery.attempts.to_string(),
            next,
            delivery.id.to_string(),
            delivery.last_error.clone().unwrap_or_default(),
        ]
    });
    let header = ["ended", "webhook", "job", "outcome", "state", "attempts", "next", "delivery", "last error"];
    output::table(&header, rows.collect())
}

async fn test(site: &Site, args: &TestArgs) -> Result<Exit, Shown> {
    let webhooks = &site.config.webhooks;
    let Some(webhook) = webhooks.get(&args.name) else {
        let names = webhooks.names();
        let known = if names.is_empty() { "none is configured".to_owned() } else { names.join(", ") };
        let failure = Failure::new(Kind::Usage, format!("there is no webhook `{}`", args.name));
        return Err(failure.with_hint(format!("the webhooks are: {known}")).into());
    };
    let stop = signals::stop_token();
    let told = site.config.webhooks_to_tell()?;
    let webhook = told.get(&args.name).unwrap_or(webhook);
    let Some((delivery, attempt)) = stop.run_until_cancelled(send_test(webhook)).await else {
        return Err(Failure::new(Kind::Cancelled, "it was asked to stop").into());
    };
    let (delivered, status, why) = match attempt {
        Attempt::Delivered(status) => (true, status, None),
        Attempt::Again { why, .. } | Attempt::Never { why } => (false, None, Some(why)),
    };
    if args.json {
        output::json(&json!({
            "webhook": webhook.name, "delivery": delivery, "delivered": delivered, "status": status, "error": why,
        }));
    } else if delivered {
        let status = status.map_or_else(String::new, |status| format!(", which answers with {status}"));
        output::text(format_args!("{}: delivered to {}{status}", webhook.name, webhook.to.place()));
    }
    match why {
        None => Ok(Exit::Done),
        Some(_) if args.json => Ok(Exit::Failed),
        Some(why) => Err(Failure::new(Kind::Failed, format!("{}: not delivered: {why}", webhook.name)).into()),
    }
}

async fn retry(site: &Site, args: &RetryArgs) -> Result<Exit, Shown> {
    let runner = site.runner().await.map_err(Shown::of)?;
    let known = site.config.webhooks.names();
    let due = match args.which.id {
        Some(id) => vec![retry_one(runner.ledger(), id, &known).await?],
        None => runner.ledger().retry_dead_deliveries(&known).await.map_err(Shown::of)?,
    };
    let stop = signals::stop_token();
    runner.deliver(&stop).await;
    let seen = settled(runner.ledger(), &due, &stop).await?;
    let delivered = seen.iter().filter(|delivery| delivery.state == "delivered").count();
    if args.json {
        output::json(&json!({ "deliveries": seen }));
    } else if seen.is_empty() {
        let dead = runner.ledger().delivery_counts().await.map_err(Shown::of)?.dead;
        let dead = usize::try_from(dead).unwrap_or_default();
        let why = match dead {
            0 => String::new(),
            _ => format!(
                ": {} given up for webhooks that are not configured any more (`sexton webhooks dismiss`)",
                counted(dead, "delivery is", "deliveries are")
            ),
        };
        output::text(format_args!("nothing to deliver again{why}"));
    } else {
        output::text(table(&seen, Timestamp::now()));
    }
    Ok(if delivered == due.len() { Exit::Done } else { Exit::Failed })
}

/// The deliveries after an attempt of each. A daemon may have taken some of them, and is waited for.
async fn settled(ledger: &Ledger, due: &[Uuid], stop: &CancellationToken) -> Result<Vec<Delivery>, Shown> {
    let give_up = Instant::now() + DAEMON_PATIENCE;
    loop {
        let mut seen = Vec::new();
        for id in due {
            seen.extend(ledger.delivery(*id).await.map_err(Shown::of)?);
        }
        let under_way = seen.iter().any(|delivery| delivery.state == "pending" && delivery.last_error.is_none());
        if !under_way || Instant::now() > give_up || stop.is_cancelled() {
            return Ok(seen);
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

async fn retry_one(ledger: &Ledger, id: Uuid, known: &[&str]) -> Result<Uuid, Shown> {
    match ledger.retry_delivery(id, known).await.map_err(Shown::of)? {
        Retried::Due => Ok(id),
        Retried::Delivered => {
            Err(Failure::new(Kind::Refused, format!("the delivery {id} was delivered; it is not sent again"))
                .with_hint("`sexton webhooks test NAME` sends an event to a webhook")
                .into())
        }
        Retried::NoWebhook(webhook) => {
            let message = format!("the delivery {id} is for `{webhook}`, and there is no such webhook any more");
            let hint = format!("configure `{webhook}` again, or `sexton webhooks dismiss {id}`");
            Err(Failure::new(Kind::Refused, message).with_hint(hint).into())
        }
        Retried::Unknown => Err(unknown(id)),
    }
}

async fn dismiss(site: &Site, args: &DismissArgs) -> Result<Exit, Shown> {
    let ledger = site.ledger().await.map_err(Shown::of)?;
    let dismissed = match args.which.id {
        Some(id) => dismiss_one(&ledger, id).await?,
        None => ledger.dismiss_dead_deliveries(args.webhook.as_deref()).await.map_err(Shown::of)?,
    };
    if args.json {
        output::json(&json!({ "dismissed": dismissed }));
    } else if dismissed == 0 {
        let whose = args.webhook.as_ref().map_or_else(String::new, |name| format!(" of `{name}`"));
        output::text(format_args!("nothing{whose} was given up"));
    } else {
        output::text(format_args!("{} dismissed", counted(dismissed, "delivery is", "deliveries are")));
    }
    Ok(Exit::Done)
}

async fn dismiss_one(ledger: &Ledger, id: Uuid) -> Result<u64, Shown> {
    match ledger.dismiss_delivery(id).await.map_err(Shown::of)? {
        Dismissed::Gone => Ok(1),
        Dismissed::NotDead(state) => {
            let message = format!("the delivery {id} is {state}; only one that was given up is dismissed");
            let failure = Failure::new(Kind::Refused, message);
            let failure = match state.as_str() {
                "pending" => failure.with_hint("it is tried for a day; `sexton webhooks list` says when next"),
                _ => failure,
            };
            Err(failure.into())
        }
        Dismissed::Unknown => Err(unknown(id)),
    }
}

fn unknown(id: Uuid) -> Shown {
    Failure::new(Kind::Refused, format!("there is no delivery {id}"))
        .with_hint("`sexton webhooks list` shows what there is")
        .into()
}
