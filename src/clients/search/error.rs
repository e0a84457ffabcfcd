//! What can go wrong between sexton and the search engine, told apart so that each has its own next step.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::failure::{Explain, Kind};
use crate::units::Span;

/// A failed call to the search engine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SearchError {
    /// No connection: refused, no route, name not found, reset.
    #[error("search engine at {address} cannot be reached: {cause}")]
    Unreachable {
        /// Address as configured.
        address: String,
        /// The innermost cause.
        cause: String,
    },
    /// The server's certificate is not trusted or not for this host.
    #[error("certificate of the search engine at {address} is not trusted: {cause}")]
    Untrusted {
        /// Address as configured.
        address: String,
        /// What the TLS library says.
        cause: String,
    },
    /// The two sides have no TLS version or cipher suite in common, or what answers speaks no TLS.
    #[error("TLS with the search engine at {address} fails: {cause}")]
    Tls {
        /// Address as configured.
        address: String,
        /// What the TLS library says.
        cause: String,
    },
    /// The file of authorities to trust cannot be used.
    #[error("certificate authorities in {}: {cause}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// The settings cannot make a client.
    #[error("search engine settings: {0}")]
    Settings(String),
    /// 401.
    #[error("search engine at {address} refuses the login ({reason})")]
    Unauthorized {
        /// Address as configured.
        address: String,
        /// The engine's reason.
        reason: String,
    },
    /// 403 for want of a privilege.
    #[error("search engine forbids `{call}`: {reason}")]
    Forbidden {
        /// Method and path.
        call: String,
        /// The engine's reason; it names the privilege.
        reason: String,
    },
    /// A write is blocked: read-only index, flood-stage disk watermark.
    #[error("search engine blocks `{call}`: {reason}")]
    Blocked {
        /// Method and path.
        call: String,
        /// The engine's reason.
        reason: String,
    },
    /// 404 for something that was named.
    #[error("search engine has no {what}: {reason}")]
    NotFound {
        /// What was asked for.
        what: String,
        /// The engine's reason.
        reason: String,
    },
    /// No elected leader, or the shards that would answer are not allocated.
    #[error("search cluster at {address} is red: {reason}")]
    Red {
        /// Address as configured.
        address: String,
        /// The engine's reason.
        reason: String,
    },
    /// The call took longer than its limit.
    #[error("search engine did not answer `{call}` within {}", Span::from(*limit))]
    Timeout {
        /// Method and path.
        call: String,
        /// The limit.
        limit: Duration,
    },
    /// Any other status outside 2xx.
    #[error("search engine answered `{call}` with {status}{}{kind}: {reason}", if kind.is_empty() { "" } else { " " })]
    Unexpected {
        /// Method and path.
        call: String,
        /// HTTP status.
        status: u16,
        /// The engine's `type`, empty when it gave none.
        kind: String,
        /// The engine's `reason`, or the beginning of the body.
        reason: String,
    },
    /// The answer is not what this call answers.
    #[error("answer to `{call}` is not understood: {cause}")]
    Malformed {
        /// Method and path.
        call: String,
        /// What was expected.
        cause: String,
    },
}

impl Explain for SearchError {
    fn kind(&self) -> Kind {
        match self {
            Self::CaFile { .. } | Self::Settings(_) => Kind::Config,
            _ => Kind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unreachable { .. } => {
                "check that the engine runs, that this is its address, and whether that begins with https://".into()
            },
            Self::Untrusted { .. } => {
                "set the certificate authority that signed the engine's certificate (`ca`), and use a host name that is in it"
                    .into()
            }
            Self::Tls { .. } => {
                "check whether the address should begin with http://; else let the engine offer TLS 1.3, or TLS 1.2 with an ECDHE suite and AES-GCM or ChaCha20 \
                 (`xpack.security.http.ssl.cipher_suites`; Elasticsearch 6 offers CBC suites only unless told)"
                    .into()
            }
            Self::CaFile { .. } => "give a readable file with one or more PEM certificates".into(),
            Self::Settings(_) => "correct the search connection in sexton.yaml".into(),
            Self::Unauthorized { .. } => "set or correct `basic` or `api_key` of the search connection".into(),
            Self::Forbidden { .. } => {
                "grant the user the index privileges `manage`, `read`, `write` and `view_index_metadata` on the alias and its \
                 indices, and the cluster privileges `monitor`, `manage_index_templates` and, for ILM, `manage_ilm`"
                    .into()
            }
            Self::Blocked { .. } => "free disk space or lift the index's write block".into(),
            Self::NotFound { .. } => "check the name in the policy, and that Temporal's index has been set up".into(),
            Self::Red { .. } => "bring the cluster back to yellow or green first (`GET _cluster/allocation/explain`)".into(),
            Self::Timeout { .. } => "see whether the cluster is overloaded, or raise the connection's `timeout`".into(),
            Self::Unexpected { .. } | Self::Malformed { .. } => {
                "check that the address is the search engine's own, and look at the engine's log".into()
            }
        })
    }
}

/// The engine's own words in an error body: (`type`, `reason`). Bodies are JSON objects, JSON strings or plain text.
pub(super) fn words(body: &str) -> (String, String) {
    // One line of it: what is no JSON comes from a proxy or from another kind of server.
    if body.trim_start().starts_with('<') {
        return (String::new(), "a page in HTML or XML, which no search engine sends".into());
    }
    let beginning = || body.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(120).collect::<String>();
    let Ok(json) = serde_json::from_str::<Value>(body) else { return (String::new(), beginning()) };
    match json.get("error") {
        Some(Value::String(reason)) => (String::new(), reason.clone()),
        Some(error) => {
            // The outer reason of a wrapped failure is "all shards failed"; the cause below it says more.
            let cause = error.pointer("/caused_by/reason").and_then(Value::as_str);
            let kind = error["type"].as_str().unwrap_or_default();
            let reason = error["reason"].as_str().map_or_else(beginning, str::to_owned);
            let reason = match cause {
                Some(cause) if !reason.contains(cause) => format!("{reason}: {cause}"),
                _ => reason,
            };
            (kind.to_owned(), reason)
        }
        None => (String::new(), beginning()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_words_are_found_in_every_shape() {
        let check = |body: &str, kind: &str, reason: &str| {
            assert_eq!(words(body), (kind.to_owned(), reason.to_owned()), "{body}");
        };
        check(r#"{"error":"alias [x] missing","status":404}"#, "", "alias [x] missing");
        check(r#"{"error":{"type":"t","reason":"r"},"status":400}"#, "t", "r");
        check(r#"{"error":{"type":"t","reason":"r","caused_by":{"reason":"c"}}}"#, "t", "r: c");
        check("Unauthorized", "", "Unauthorized");
        check("", "", "");
        check(r#"{"error":null}"#, "", r#"{"error":null}"#);
    }
}
