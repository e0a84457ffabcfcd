//! What is sent: the event as JSON, bounded in size, and the same as a text for Slack.

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::daemon::ledger::EndedRun;
use crate::units::Span;

/// Characters of a text in a body: enough for a person to know what to look at. The ledger has the rest.
const LONGEST: usize = 2_000;

/// The end of a run, as it is kept and sent. Its report is not in it, which has no bounds.
pub(in crate::daemon) fn run_ended(delivery: Uuid, run: &EndedRun) -> Value {
    let error = run.error.as_ref().map(|error| {
        let text = |field: &str| error[field].as_str().map(cut);
        json!({ "kind": error["kind"], "message": text("message"), "hint": text("hint") })
    });
    json!({
        "id": delivery,
        "event": "run.ended",
        "at": run.finished_at,
        "run": {
            "id": run.id,
            "job": run.job,
            "trigger": run.trigger,
            "outcome": run.outcome,
            "started_at": run.started_at,
            "finished_at": run.finished_at,
            "host": run.host,
            "summary": run.summary.as_deref().map(cut),
            "error": error,
        },
        "sexton": env!("CARGO_PKG_VERSION"),
    })
}

/// What a person sends to see whether it arrives.
pub(super) fn test(delivery: Uuid, webhook: &str, now: Timestamp) -> Value {
    json!({
        "id": delivery,
        "event": "test",
        "at": now,
        "webhook": webhook,
        "sexton": env!("CARGO_PKG_VERSION"),
    })
}

/// The event's name in a payload: `run.ended` or `test`.
pub(super) fn event(payload: &Value) -> &str {
    payload["event"].as_str().unwrap_or_default()
}

/// Slack's form: one text, in which three characters are Slack's own.
pub(super) fn slack(payload: &Value) -> Value {
    let run = &payload["run"];
    let text = |value: &Value| escaped(value.as_str().unwrap_or_default());
    if run.is_null() {
        let named = format!("sexton: a test of the webhook `{}`", text(&payload["webhook"]));
        return json!({ "text": named });
    }
    let took = took(run).map_or_else(String::new, |took| format!(" after {took}"));
    let mut lines = vec![format!("*{}* {}{took} on {}", text(&run["job"]), text(&run["outcome"]), text(&run["host"]))];
    lines.extend(run["summary"].as_str().filter(|summary| !summary.is_empty()).map(escaped));
    // Every line of it begins with the mark, or only the first would be quoted.
    lines
        .extend(run["error"]["message"].as_str().into_iter().flat_map(str::lines).map(|m| format!("> {}", escaped(m))));
    lines.extend(run["error"]["hint"].as_str().map(|hint| format!("hint: {}", escaped(hint))));
    lines.push(format!("run {}", text(&run["id"])));
    json!({ "text": lines.join("\n") })
}

fn took(run: &Value) -> Option<Span> {
    let at = |field: &str| run[field].as_str()?.parse::<Timestamp>().ok();
    let took = at("finished_at")?.duration_since(at("started_at")?);
    Some(Span::seconds(took.as_secs().unsigned_abs()))
}

/// As Slack asks for: everything else in a text is the reader's.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(message: &str) -> EndedRun {
        EndedRun {
            id: Uuid::nil(),
            job: "backup".into(),
            trigger: "cli".into(),
            outcome: "failed".into(),
            host: "h<1>".into(),
            started_at: "2026-01-31T02:00:00Z".parse().unwrap(),
            finished_at: "2026-01-31T02:01:30Z".parse().unwrap(),
            summary: None,
            error: Some(json!({ "kind": "failed", "message": message })),
        }
    }

    #[test]
    fn slack_gets_a_text_that_steers_nothing() {
        let said = slack(&run_ended(Uuid::nil(), &run("<!channel> a & b\n*second*")));
        let expect = "*backup* failed after 90s on h&lt;1&gt;\n> &lt;!channel&gt; a &amp; b\n> *second*\n\
                      run 00000000-0000-0000-0000-000000000000";
        assert_eq!(said, json!({ "text": expect }));
    }

    #[test]
    fn however_long_an_error_is_the_body_is_not() {
        let body = run_ended(Uuid::nil(), &run(&"é".repeat(1 << 20)));
        assert!(body.to_string().len() < 8 * LONGEST, "{}", body.to_string().len());
        assert!(body["run"]["error"]["message"].as_str().unwrap().ends_with("é…"));
    }
}
