//! `webhooks:` of `sexton.yaml`, checked: whom to tell of which runs.

use std::time::Duration;

use secrecy::ExposeSecret;
use serde_saphyr::{Location, Spanned};

use super::resolve::readable;
use super::secret::{self, SecretRef, Secrets, UrlRef};
use super::written::{self, Format};
use crate::clients::hook::{self, Address};
use crate::clients::temporal::{self, Signal};
use crate::daemon::webhooks::{DEFAULT_ON, To, Webhook, Webhooks};
use crate::document::{ConfigError, Document};
use crate::units::Span;

/// Characters of a name.
const LONGEST_NAME: usize = 40;
const TIMEOUT: Span = Span::seconds(10);
const LONGEST_TIMEOUT: Span = Span::minutes(1);
const RETRY_AFTER: Span = Span::seconds(10);
const LONGEST_RETRY_AFTER: Span = Span::hours(1);

pub(super) fn resolve(
    doc: &Document,
    written: &[Spanned<written::Webhook>],
    frontend: Option<&temporal::Settings>,
    secrets: Secrets,
) -> Result<Webhooks, ConfigError> {
    let mut webhooks: Vec<Webhook> = Vec::new();
    for spanned in written {
        let name = &spanned.value.name;
        let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if name.value.is_empty() || name.value.len() > LONGEST_NAME || !name.value.chars().all(valid) {
            let hint = format!("write 1 to {LONGEST_NAME} of a-z, 0-9, `-` and `_`");
            return Err(doc.error_at(name.referenced, "this is not a name for a webhook", hint));
        }
        if webhooks.iter().any(|other| other.name == name.value) {
            let message = format!("two webhooks are called `{}`", name.value);
            return Err(doc.error_at(name.referenced, message, "give each of them a name of its own"));
        }
        webhooks.push(webhook(doc, spanned, frontend, secrets)?);
    }
    Ok(Webhooks::new(webhooks))
}

fn webhook(
    doc: &Document,
    spanned: &Spanned<written::Webhook>,
    frontend: Option<&temporal::Settings>,
    secrets: Secrets,
) -> Result<Webhook, ConfigError> {
    let written = &spanned.value;
    let to = match (&written.url, &written.temporal) {
        (Some(url), None) => http(doc, written, url, secrets)?,
        (None, Some(signal)) => signalled(doc, written, signal, frontend)?,
        _ => {
            return Err(doc.error_at(
                written.name.referenced,
                "a webhook has either a `url` or a `temporal`",
                "write one of `url: {env: NAME}` and `temporal: {namespace: …, workflow_id: …, signal: …}`",
            ));
        }
    };
    let on = named(doc, written.on.as_ref(), "on", "an outcome")?;
    Ok(Webhook {
        name: written.name.value.clone(),
        to,
        on: on.unwrap_or_else(|| DEFAULT_ON.to_vec()),
        jobs: named(doc, written.jobs.as_ref(), "jobs", "a job")?,
        timeout: span(doc, written.timeout.as_ref(), TIMEOUT, LONGEST_TIMEOUT)?,
        retry_after: span(doc, written.retry_after.as_ref(), RETRY_AFTER, LONGEST_RETRY_AFTER)?,
    })
}

fn http(
    doc: &Document,
    written: &written::Webhook,
    url: &Spanned<UrlRef>,
    secrets: Secrets,
) -> Result<To, ConfigError> {
    let format = written.format.as_ref().map_or(Format::Generic, |format| format.value);
    if let (Format::Slack, Some(secret)) = (format, &written.secret) {
        return Err(doc.error_at(
            secret.referenced,
            "what is sent to Slack is not signed: the address is the secret",
            "remove `secret`",
        ));
    }
    let address = match &url.value {
        UrlRef::Plain(_) if format == Format::Slack => {
            return Err(doc.error_at(
                url.referenced,
                "whoever knows Slack's address can write there, so that it is a secret",
                "write {env: NAME} or {file: PATH}",
            ));
        }
        UrlRef::Plain(text) => Ok(plain(doc, url.referenced, text)?),
        UrlRef::Secret(reference) => {
            // Where it happens to be there, it is told where that leads.
            match (secret_address(doc, url.referenced, reference), secrets) {
                (Ok(address), _) => Ok(address),
                (Err(error), Secrets::Read) => return Err(error),
                (Err(_), Secrets::Unread) => Err(reference.to_string()),
            }
        }
    };
    if let (Some(ca), Ok(address)) = (&written.ca, &address)
        && !address.is_https()
    {
        let hint = "write https://, or remove `ca`";
        return Err(doc.error_at(ca.referenced, "the address is not https, so that no authority is asked", hint));
    }
    let address = match (address, secrets) {
        (Ok(address), Secrets::Read) => address,
        (address, _) => {
            let kind = match format {
                Format::Slack => "slack",
                Format::Generic => "generic",
            };
            return Ok(To::Unread { kind, place: address.map_or_else(|place| place, |address| address.to_string()) });
        }
    };
    let ca = written.ca.as_ref().map(|ca| readable(doc, ca)).transpose()?;
    let hook = hook::Settings { address, ca };
    Ok(match format {
        Format::Slack => To::Slack { hook },
        Format::Generic => {
            let secret = written.secret.as_ref().map(|reference| secret::read(doc, reference)).transpose()?;
            To::Generic { hook, secret }
        }
    })
}

fn plain(doc: &Document, at: Location, text: &str) -> Result<Address, ConfigError> {
    let hint = "write for example `https://hooks.example.com/sexton`";
    let address = Address::parse(text).map_err(|error| doc.error_at(at, error.to_string(), hint))?;
    if address.has_login() {
        let hint = "keep the whole address where secrets are, and write {env: NAME} or {file: PATH}";
        return Err(doc.error_at(at, "this address holds a login", hint));
    }
    Ok(address)
}

fn secret_address(doc: &Document, at: Location, reference: &SecretRef) -> Result<Address, ConfigError> {
    let text = secret::read_at(doc, at, reference)?;
    Address::parse(text.expose_secret().trim()).map_err(|_| {
        let message = "what is there is not an http or https address with a host";
        doc.error_at(at, message, "put the receiver's whole address there")
    })
}

fn signalled(
    doc: &Document,
    written: &written::Webhook,
    signal: &Spanned<written::Signal>,
    frontend: Option<&temporal::Settings>,
) -> Result<To, ConfigError> {
    let extra = [
        written.secret.as_ref().map(|secret| ("secret", secret.referenced)),
        written.format.as_ref().map(|format| ("format", format.referenced)),
        written.ca.as_ref().map(|ca| ("ca", ca.referenced)),
    ];
    if let Some((key, at)) = extra.into_iter().flatten().next() {
        let message = format!("`{key}` belongs to a `url`, and this webhook signals a workflow");
        return Err(doc.error_at(at, message, format!("remove `{key}`")));
    }
    let Some(frontend) = frontend else {
        let message = "there is no connection to Temporal to signal through";
        return Err(doc.error_at(signal.referenced, message, "add the section `temporal:`"));
    };
    let written::Signal { namespace, workflow_id, signal: name } = &signal.value;
    for (key, value) in [("namespace", namespace), ("workflow_id", workflow_id), ("signal", name)] {
        if value.trim().is_empty() {
            return Err(doc.error_at(signal.referenced, format!("`{key}` is empty"), format!("write the {key}")));
        }
    }
    let signal = Signal { namespace: namespace.clone(), workflow: workflow_id.clone(), name: name.clone() };
    Ok(To::Temporal { frontend: Box::new(frontend.clone()), signal })
}

/// A list that is there is not empty: a webhook that is told of nothing is a mistake.
fn named<T: Clone>(
    doc: &Document,
    list: Option<&Spanned<Vec<T>>>,
    key: &str,
    what: &str,
) -> Result<Option<Vec<T>>, ConfigError> {
    match list {
        Some(list) if list.value.is_empty() => Err(doc.error_at(
            list.referenced,
            format!("`{key}` is empty, so that this webhook would never be told of anything"),
            format!("name {what}, or remove `{key}`"),
        )),
        list => Ok(list.map(|list| list.value.clone())),
    }
}

fn span(
    doc: &Document,
    written: Option<&Spanned<Span>>,
    default: Span,
    longest: Span,
) -> Result<Duration, ConfigError> {
    let Some(written) = written else { return Ok(default.into()) };
    let least = Span::seconds(1);
    if (least..=longest).contains(&written.value) {
        return Ok(written.value.into());
    }
    let message = format!("{} is not between {least} and {longest}", written.value);
    Err(doc.error_at(written.referenced, message, format!("left out it is {default}")))
}
