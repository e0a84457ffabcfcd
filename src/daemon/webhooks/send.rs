//! One attempt to deliver, and what its end means.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::{To, Webhook, body, sign};
use crate::clients::hook::{self, Answer, Hook, HookError};
use crate::clients::temporal::{Temporal, TemporalError};
use crate::failure::{Explain, chain};
use crate::units::Span;

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// It was taken. The HTTP status, where there is one.
    Delivered(Option<u16>),
    /// It was not, and may be later.
    Again {
        /// Why.
        why: String,
        /// When the receiver wants to be asked again.
        after: Option<Duration>,
    },
    /// It was not, and never will be as it is.
    Never {
        /// Why.
        why: String,
    },
}

/// Sends a payload to a webhook.
pub(super) async fn send(webhook: &Webhook, delivery: Uuid, payload: &Value) -> Attempt {
    let limit = webhook.timeout;
    match &webhook.to {
        To::Generic { hook, secret } => {
            // The clock of the attempt, not of the event: a receiver refuses what is old, as a replay.
            let timestamp = Timestamp::now().as_second();
            let body = payload.to_string().into_bytes();
            let mut headers = vec![
                ("x-sexton-delivery", delivery.to_string()),
                ("x-sexton-event", body::event(payload).to_owned()),
                ("x-sexton-timestamp", timestamp.to_string()),
            ];
            let signature = secret.as_ref().map(|secret| sign::signature(secret, timestamp, &body));
            headers.extend(signature.map(|signature| ("x-sexton-signature", signature)));
            of_http(hook, post(hook, body, &headers, limit).await)
        }
        To::Slack { hook } => {
            let body = body::slack(payload).to_string().into_bytes();
            of_http(hook, post(hook, body, &[], limit).await)
        }
        // Nobody delivers with such; were it done, whoever has read the secrets would be next.
        To::Unread { .. } => Attempt::Again { why: "its secrets were not read here".into(), after: None },
        To::Temporal { frontend, signal } => {
            let told = async { Temporal::connect(frontend).await?.signal(signal, payload, delivery).await };
            match tokio::time::timeout(limit, told).await {
                Ok(result) => of_temporal(result),
                Err(_) => Attempt::Again {
                    why: format!("Temporal at {}: no answer within {}", frontend.address, Span::from(limit)),
                    after: None,
                },
            }
        }
    }
}

/// Posts with a client of its own, so that authorities that were renewed are those of the next attempt: deliveries are
/// rare, and no connection is kept anyway.
async fn post(
    settings: &hook::Settings,
    body: Vec<u8>,
    headers: &[(&'static str, String)],
    limit: Duration,
) -> Result<Answer, HookError> {
    Hook::new(settings).await?.post(body, headers, limit).await
}

/// Sends a test event to a webhook now; the delivery's id and how it went.
pub async fn send_test(webhook: &Webhook) -> (Uuid, Attempt) {
    let delivery = Uuid::now_v7();
    let payload = body::test(delivery, &webhook.name, Timestamp::now());
    (delivery, send(webhook, delivery, &payload).await)
}

fn of_http(hook: &hook::Settings, result: Result<Answer, HookError>) -> Attempt {
    match result {
        Ok(answer) => of_answer(hook, &answer),
        // A file of authorities may be mended, as a receiver may.
        Err(error) => Attempt::Again { why: with_hint(&error), after: None },
    }
}

fn of_answer(hook: &hook::Settings, answer: &Answer) -> Attempt {
    let Answer { status, retry_after, word } = answer;
    let word = word.as_ref().map(|word| format!(" ({word})")).unwrap_or_default();
    let why = format!("{} answers with {status}{word}", hook.address);
    match status {
        200..=299 => Attempt::Delivered(Some(*status)),
        300..=399 => Attempt::Again { why: format!("{why}, a redirect, which is not followed"), after: None },
        408 | 429 | 503 => Attempt::Again { why, after: *retry_after },
        400..=499 => Attempt::Never { why },
        _ => Attempt::Again { why, after: None },
    }
}

fn of_temporal(result: Result<(), TemporalError>) -> Attempt {
    let Err(error) = result else { return Attempt::Delivered(None) };
    let why = with_hint(&error);
    match error {
        // What 4xx is for HTTP: the same would be refused again.
        TemporalError::NotOpen { .. }
        | TemporalError::NamespaceNotFound { .. }
        | TemporalError::Denied { .. }
        | TemporalError::Unauthenticated { .. } => Attempt::Never { why },
        TemporalError::Call { ref code, .. } if code == "InvalidArgument" => Attempt::Never { why },
        _ => Attempt::Again { why, after: None },
    }
}

fn with_hint(error: &impl Explain) -> String {
    let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
    format!("{}{hint}", chain(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::hook::Address;

    #[test]
    fn what_an_answer_means() {
        let hook = hook::Settings { address: Address::parse("https://h/secret").unwrap(), ca: None };
        let check = |status: u16, expect: &str| {
            let after = Some(Duration::from_secs(7));
            let seen = match of_answer(&hook, &Answer { status, retry_after: after, word: Some("no_service".into()) }) {
                Attempt::Delivered(_) => "delivered".to_owned(),
                Attempt::Again { why, after } => format!("again{}: {why}", after.map_or("", |_| " after")),
                Attempt::Never { why } => format!("never: {why}"),
            };
            assert_eq!(seen, expect);
        };
        check(200, "delivered");
        check(204, "delivered");
        check(302, "again: https://h answers with 302 (no_service), a redirect, which is not followed");
        check(400, "never: https://h answers with 400 (no_service)");
        check(404, "never: https://h answers with 404 (no_service)");
        check(410, "never: https://h answers with 410 (no_service)");
        check(408, "again after: https://h answers with 408 (no_service)");
        check(429, "again after: https://h answers with 429 (no_service)");
        check(500, "again: https://h answers with 500 (no_service)");
        check(503, "again after: https://h answers with 503 (no_service)");
    }
}
