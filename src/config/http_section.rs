//! The section `http:`, from what was written to what the server takes.

use std::net::SocketAddr;

use ipnet::IpNet;
use secrecy::ExposeSecret;
use serde_saphyr::Spanned;

use super::resolve::{address, readable};
use super::secret::Secrets;
use super::written::Network;
use super::{secret, written};
use crate::document::{ConfigError, Document};
use crate::http::settings::{Proxy, Settings, Tls, Token};

/// Characters of the shortest token: 16 random ones cannot be guessed.
const SHORTEST_TOKEN: usize = 16;

/// What was written, checked; with [`Secrets::Unread`] there are no tokens and no files in it.
pub(super) fn settings(
    doc: &Document,
    spanned: &Spanned<written::Http>,
    secrets: Secrets,
) -> Result<Settings, ConfigError> {
    let http = &spanned.value;
    let listen: SocketAddr = http.listen.value.parse().map_err(|_| {
        let message = "this is not an address to listen on";
        doc.error_at(http.listen.referenced, message, "write an address and a port: `0.0.0.0:8080`, `[::]:8080`")
    })?;
    if http.tokens.is_empty() && http.proxy.is_none() {
        return Err(doc.error_at(
            spanned.referenced,
            "nobody could sign in: there is neither a token nor a proxy that signs people in",
            "add `tokens: [{name: ops, role: approve, token: {env: SEXTON_TOKEN_OPS}}]`",
        ));
    }
    if http.session.as_millis() == 0 {
        return Err(doc.error_at_key("http.session", "`http.session` is zero", Some("write for example `12h`".into())));
    }
    let public_url = http.public_url.as_ref().map(|url| address(doc, url, "https://sexton.example.com", "none"));
    Ok(Settings {
        listen,
        public_url: public_url.transpose()?,
        tls: http.tls.as_ref().map(|files| secrets.read(|| tls(doc, files))).transpose()?.flatten(),
        tokens: tokens(doc, &http.tokens, secrets)?,
        proxy: http.proxy.as_ref().map(|written| proxy(doc, written)).transpose()?,
        trusted_proxies: http
            .trusted_proxies
            .as_ref()
            .map_or(Ok(vec![]), |nets| networks(doc, nets, "anyone could say to come from anywhere"))?,
        public_metrics: http.public_metrics,
        session: http.session.into(),
    })
}

fn tls(doc: &Document, written: &written::HttpTls) -> Result<Tls, ConfigError> {
    Ok(Tls {
        certificate: readable(doc, &written.certificate)?,
        key: readable(doc, &written.key)?,
        client_ca: written.client_ca.as_ref().map(|file| readable(doc, file)).transpose()?,
    })
}

/// A name that may stand in a log, a cookie and a header.
fn is_name(name: &str) -> bool {
    (1..=100).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.@".contains(c))
}

fn tokens(doc: &Document, written: &[written::HttpToken], secrets: Secrets) -> Result<Vec<Token>, ConfigError> {
    let mut tokens: Vec<Token> = Vec::new();
    for (place, one) in written.iter().enumerate() {
        let (name, at) = (&one.name.value, one.name.referenced);
        if !is_name(name) {
            return Err(doc.error_at(at, "this is not a name", "write letters, digits and `-_.@`, at most 100"));
        }
        if written[..place].iter().any(|other| other.name.value == *name) {
            return Err(doc.error_at(at, format!("two tokens are called `{name}`"), "give each its own name"));
        }
        let Some(secret) = secrets.read(|| secret::read(doc, &one.token))? else { continue };
        let text = secret.expose_secret();
        let wrong = |what: &str| {
            let message = format!("the token of `{name}` {what}");
            doc.error_at(one.token.referenced, message, "make one with `openssl rand -hex 24`")
        };
        if text.len() < SHORTEST_TOKEN {
            return Err(wrong(&format!("has fewer than {SHORTEST_TOKEN} characters")));
        }
        if !text.chars().all(|c| c.is_ascii_graphic()) {
            return Err(wrong("has characters that a header cannot carry"));
        }
        if let Some(other) = tokens.iter().find(|token| token.secret.expose_secret() == text) {
            return Err(wrong(&format!("is that of `{}` too: who did what could not be told", other.name)));
        }
        tokens.push(Token { name: name.clone(), role: one.role, secret });
    }
    Ok(tokens)
}

/// Where a proxy is. Everybody is none; `then` says what it would come to.
fn networks(doc: &Document, written: &Spanned<Vec<Network>>, then: &str) -> Result<Vec<IpNet>, ConfigError> {
    let networks: Vec<IpNet> = written.value.iter().map(|network| network.0).collect();
    match networks.iter().find(|net| net.prefix_len() == 0) {
        None => Ok(networks),
        Some(all) => Err(doc.error_at(
            written.referenced,
            format!("{all} is everybody: {then}"),
            "write the networks that the proxy's pods are in",
        )),
    }
}

fn proxy(doc: &Document, written: &written::HttpProxy) -> Result<Proxy, ConfigError> {
    if written.trusted.value.is_empty() {
        return Err(doc.error_at(
            written.trusted.referenced,
            "no address of the proxy is trusted, so that nobody could sign in through it",
            "write its networks: `trusted: [10.0.0.0/8]`",
        ));
    }
    let trusted = networks(doc, &written.trusted, "anyone could write the header and be anybody")?;
    if written.roles.is_empty() && written.others.is_none() {
        let hint = Some("add `others: read`, or `roles: {\"ada@example.com\": approve}`".to_owned());
        return Err(doc.error_at_key("http.proxy", "nobody behind the proxy may do anything", hint));
    }
    let header = written.user_header.value.to_ascii_lowercase();
    let reserved = ["authorization", "cookie", "host", "content-length", "connection", "x-forwarded-for"];
    if axum::http::HeaderName::try_from(&header).is_err() || reserved.contains(&header.as_str()) {
        let hint = "write for example `X-Forwarded-User`";
        return Err(doc.error_at(written.user_header.referenced, "this header cannot tell a name", hint));
    }
    let roles = written.roles.iter().map(|(name, role)| (name.clone(), *role)).collect();
    Ok(Proxy { trusted, user_header: header, roles, others: written.others })
}
