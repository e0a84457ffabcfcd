//! `webhooks:` of sexton.yaml.

use super::{Case, GOOD, Table};
use crate::support::site::Site;

/// The good configuration with these webhooks, from line 10 on.
fn hooks(name: &'static str, lines: &str) -> Case {
    let site = Site::new(&format!("{GOOD}webhooks:\n{lines}")).policy("schedule", "jobs: {audit: {cron: '0 1 * * *'}}");
    Case::new(name, site, "run")
}

/// Their secrets are asked for by whoever delivers.
#[test]
fn who_tells_nobody_needs_no_secret() {
    let lines = "  - {name: a, url: {env: IT_NOT_SET}}\n  - {name: b, url: 'https://h/x', secret: {file: gone}, ca: gone.pem}\n";
    let verb = |verb: &'static str| Case { args: verb.to_owned(), ..hooks(verb, lines) };
    let unreachable = "\
error: the ledger: PostgreSQL at 127.0.0.1:1 cannot be reached: Connection refused
  hint: check that the server runs, that 127.0.0.1:1 is its address and that no network policy is in the way";
    let missing = "\
error: sexton.yaml:10:20: the environment variable IT_NOT_SET is not set
  hint: set it before sexton starts; in Kubernetes through env.valueFrom.secretKeyRef";
    Table::default()
        .case(verb("status").says(1, unreachable))
        .case(verb("ledger init").says(1, unreachable))
        .case(verb("migrate list").says(1, unreachable))
        .case(verb("webhooks list").says(1, unreachable))
        .case(verb("once audit").says(78, missing))
        .case(verb("migrate run tune-autovacuum").says(78, missing))
        .case(verb("webhooks test b").says(78, missing))
        .case(verb("run").says(78, missing))
        .check();
}

#[test]
fn what_is_no_webhook() {
    let url = |url: &str| format!("  - {{name: a, url: {url}}}\n");
    let ok = |more: &str| format!("  - {{name: a, url: 'http://h/x', {more}}}\n");
    let twice = "  - {name: ops, url: 'https://h/1'}\n  - {name: ops, url: 'https://h/2'}\n";
    let slack = "  - {name: a, format: slack, url: 'https://hooks.slack.com/services/T0/B0/never-to-be-shown-7391'}\n";
    let login = url("'https://u:never-to-be-shown-7391@h/x'");
    let signed = "  - {name: a, format: slack, url: {env: SLACK}, secret: {env: IT_SECRET}}\n";
    let signal = "{namespace: n, workflow_id: w, signal: s}";
    let signed = {
        let case = hooks("secret for Slack", signed);
        Case { site: case.site.env("SLACK", "https://hooks.slack.com/services/x"), ..case }
    };
    Table::default()
        .case(hooks("two of one name", twice).says(
            78,
            "\
error: sexton.yaml:11:12: two webhooks are called `ops`
  hint: give each of them a name of its own",
        ))
        .case(hooks("no name", "  - {url: 'https://h/x'}\n").says(
            78,
            "\
error: sexton.yaml:10:6: `name` is missing
  hint: add `name:`",
        ))
        .case(hooks("name with a blank", "  - {name: 'a b', url: 'https://h/x'}\n").says(
            78,
            "\
error: sexton.yaml:10:12: this is not a name for a webhook
  hint: write 1 to 40 of a-z, 0-9, `-` and `_`",
        ))
        .case(hooks("nowhere to go", "  - {name: a}\n").says(
            78,
            "\
error: sexton.yaml:10:12: a webhook has either a `url` or a `temporal`
  hint: write one of `url: {env: NAME}` and `temporal: {namespace: …, workflow_id: …, signal: …}`",
        ))
        .case(hooks("address without a host", &url("'https:///x'")).says(
            78,
            "\
error: sexton.yaml:10:20: this is not an http or https address with a host
  hint: write for example `https://hooks.example.com/sexton`",
        ))
        .case(hooks("address of another protocol", &url("ftp://h/x")).says(
            78,
            "\
error: sexton.yaml:10:20: this is not an http or https address with a host
  hint: write for example `https://hooks.example.com/sexton`",
        ))
        .case(hooks("address that is a list", &url("[a]")).says(
            78,
            "\
error: sexton.yaml:10:15: an address, {env: NAME} or {file: PATH} is expected here
  hint: write that, or remove the key",
        ))
        .case(hooks("secret that is no address", &url("{env: IT_SECRET}")).says(
            78,
            "\
error: sexton.yaml:10:20: what is there is not an http or https address with a host
  hint: put the receiver's whole address there",
        ))
        .case(hooks("address in a variable that is not set", &url("{env: IT_NOT_SET}")).says(
            78,
            "\
error: sexton.yaml:10:20: the environment variable IT_NOT_SET is not set
  hint: set it before sexton starts; in Kubernetes through env.valueFrom.secretKeyRef",
        ))
        .case(hooks("login in a plain address", &login).says(
            78,
            "\
error: sexton.yaml:10:20: this address holds a login
  hint: keep the whole address where secrets are, and write {env: NAME} or {file: PATH}",
        ))
        .case(hooks("Slack's address written out", slack).says(
            78,
            "\
error: sexton.yaml:10:35: whoever knows Slack's address can write there, so that it is a secret
  hint: write {env: NAME} or {file: PATH}",
        ))
        .case(signed.says(
            78,
            "\
error: sexton.yaml:10:57: what is sent to Slack is not signed: the address is the secret
  hint: remove `secret`",
        ))
        .case(hooks("secret written out", &ok("secret: never-to-be-shown-7391")).says(
            78,
            "\
error: sexton.yaml:10:42: a secret is never written here
  hint: write {env: NAME} or {file: PATH}",
        ))
        .case(hooks("unknown format", &ok("format: teams")).says(
            78,
            "\
error: sexton.yaml:10:42: `teams` is not known here
  hint: write one of: generic, slack",
        ))
        .case(hooks("unknown outcome", &ok("on: [fialed]")).says(
            78,
            "\
error: sexton.yaml:10:39: `fialed` is not known here
  hint: did you mean `failed`?",
        ))
        .case(hooks("no outcome", &ok("on: []")).says(
            78,
            "\
error: sexton.yaml:10:38: `on` is empty, so that this webhook would never be told of anything
  hint: name an outcome, or remove `on`",
        ))
        .case(hooks("unknown job", &ok("jobs: [backups]")).says(
            78,
            "\
error: sexton.yaml:10:41: `backups` is not known here
  hint: did you mean `backup`?",
        ))
        .case(hooks("no time", &ok("timeout: 0s")).says(
            78,
            "\
error: sexton.yaml:10:43: 0s is not between 1s and 1m
  hint: left out it is 10s",
        ))
        .case(hooks("too long a pause", &ok("retry_after: 2h")).says(
            78,
            "\
error: sexton.yaml:10:47: 2h is not between 1s and 1h
  hint: left out it is 10s",
        ))
        .case(hooks("authority without TLS", &ok("ca: sexton.yaml")).says(
            78,
            "\
error: sexton.yaml:10:38: the address is not https, so that no authority is asked
  hint: write https://, or remove `ca`",
        ))
        .case(hooks("no Temporal to signal through", &format!("  - {{name: a, temporal: {signal}}}\n")).says(
            78,
            "\
error: sexton.yaml:10:25: there is no connection to Temporal to signal through
  hint: add the section `temporal:`",
        ))
        .case(
            hooks("signal with a secret", &format!("  - {{name: a, temporal: {signal}, secret: {{env: X}}}}\n")).says(
                78,
                "\
error: sexton.yaml:10:76: `secret` belongs to a `url`, and this webhook signals a workflow
  hint: remove `secret`",
            ),
        )
        .check();
}
