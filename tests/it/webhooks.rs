//! Completion webhooks, from the run's end to a receiver that is not sexton's: a process of its own that checks the
//! signature with other code, Temporal's own history, the ledger's tables read with psql.

mod fails;
mod outbox;
mod tls;
mod told;
mod verify;

use serde_json::Value;

use crate::support::postgres::Scratch;
use crate::support::receiver::{Receiver, SECRET};
use crate::support::site::{Site, postgres_sections};

/// Nobody schedules anything, so that the daemon only delivers.
const NEVER: &str = "jobs: {audit: {cron: '0 0 1 1 *', catch_up: false}}\n";

/// A site with these webhooks, whose job `retention` fails at once and whose job `visibility` has nothing to do.
fn site(ledger: &Scratch, webhooks: &str) -> Site {
    site_with(ledger, "127.0.0.1:1", webhooks)
}

/// The same with a Temporal.
fn site_with(ledger: &Scratch, temporal: &str, webhooks: &str) -> Site {
    ready(written(ledger, temporal, webhooks))
}

/// The same before its ledger is made, for more files and variables.
fn written(ledger: &Scratch, temporal: &str, webhooks: &str) -> Site {
    let sections = postgres_sections(ledger, "temporal");
    let config = format!("{sections}temporal: {{address: '{temporal}'}}\nwebhooks:\n{webhooks}");
    let site = Site::new(&config).policy("retention", "{}").policy("visibility", "{}");
    site.policy("schedule", NEVER).env("HOOK_SECRET", SECRET)
}

fn ready(site: Site) -> Site {
    site.run(&["ledger", "init"]).expect(0);
    site
}

/// A line of `webhooks:`: signed, tried again after a second, and with more.
fn hook(name: &str, receiver: &Receiver, more: &str) -> String {
    let url = receiver.origin();
    format!("  - {{name: {name}, url: '{url}/hook', secret: {{env: HOOK_SECRET}}, retry_after: 1s{more}}}\n")
}

/// The delivery that a request belongs to.
fn delivery(request: &Value) -> &str {
    request["headers"]["x-sexton-delivery"].as_str().unwrap()
}

/// What came as JSON.
fn body(request: &Value) -> Value {
    serde_json::from_str(request["body"].as_str().unwrap()).unwrap()
}
