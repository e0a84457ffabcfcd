//! `drill:` of `policies/backup.yaml`: how the newest backup is proven.

use serde::{Deserialize, Serialize};

use super::backup::Jobs;
use crate::units::{Size, Span};

/// How the newest backup is restored on the scratch server to be proven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DrillPolicy {
    /// How old the newest proven backup may be before `sexton plan` calls a drill due.
    pub max_age: Span,
    /// Connections that restore and compare at once.
    pub jobs: Jobs,
    /// Whether the restored database of a drill that failed stays for a look; nobody drops it then.
    pub keep_failed: bool,
    /// What the scratch server has room for; a database with more bytes of rows is refused.
    pub room: Option<Size>,
    /// The Temporal server that is started on what was restored; `None` for none.
    pub server: Option<ServerPolicy>,
}

impl Default for DrillPolicy {
    fn default() -> Self {
        Self { max_age: Span::days(8), jobs: Jobs::default(), keep_failed: false, room: None, server: None }
    }
}

/// A Temporal server that a drill starts on the restored databases, to read workflows through it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerPolicy {
    /// The command. It stays in the foreground; there is no shell.
    pub start: CommandLine,
    /// Where its frontend answers, without TLS.
    pub address: HostPort,
    /// Workflows whose histories are read through it.
    #[serde(default)]
    pub workflows: Workflows,
    /// How long it may take until it serves and has answered.
    #[serde(default)]
    pub timeout: ServerTimeout,
    /// How long it may take to end before it is killed.
    #[serde(default)]
    pub grace: StopGrace,
    /// Variables of sexton's own environment that the command is given; it sees no others but `PATH` and the like.
    #[serde(default)]
    pub pass_env: Vec<String>,
}

/// A program and its arguments; at least the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct CommandLine(Vec<String>);

impl CommandLine {
    /// The program.
    #[must_use]
    pub fn program(&self) -> &str {
        self.0.first().map_or("", String::as_str)
    }

    /// Its arguments.
    #[must_use]
    pub fn arguments(&self) -> &[String] {
        self.0.get(1..).unwrap_or_default()
    }
}

impl TryFrom<Vec<String>> for CommandLine {
    type Error = String;

    fn try_from(words: Vec<String>) -> Result<Self, String> {
        match words.first() {
            None => Err("`start` is empty; write the program and its arguments as a list".into()),
            Some(program) if program.trim().is_empty() => Err("`start` begins with an empty program".into()),
            Some(_) if words.iter().any(|word| word.contains('\0')) => Err("`start` has a word with a NUL".into()),
            Some(_) => Ok(Self(words)),
        }
    }
}

impl From<CommandLine> for Vec<String> {
    fn from(command: CommandLine) -> Self {
        command.0
    }
}

/// `host:port`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPort(String);

impl HostPort {
    /// As written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for HostPort {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let port = text.rsplit_once(':').and_then(|(host, port)| (!host.is_empty()).then(|| port.parse::<u16>()));
        match port {
            Some(Ok(1..)) if !text.contains("://") => Ok(Self(text)),
            _ => Err(format!("`address` is `{text}`; write it as `host:port`, such as `127.0.0.1:7299`")),
        }
    }
}

impl From<HostPort> for String {
    fn from(address: HostPort) -> Self {
        address.0
    }
}

macro_rules! span_of {
    ($(#[$doc:meta])* $name:ident, $default:expr, $from:expr, $to:expr, $message:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(try_from = "Span", into = "Span")]
        pub struct $name(Span);

        impl $name {
            /// The value.
            #[must_use]
            pub const fn get(self) -> Span {
                self.0
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self($default)
            }
        }

        impl TryFrom<Span> for $name {
            type Error = String;

            fn try_from(span: Span) -> Result<Self, String> {
                if ($from..=$to).contains(&span.as_millis()) { Ok(Self(span)) } else { Err(format!($message, span)) }
            }
        }

        impl From<$name> for Span {
            fn from(value: $name) -> Self {
                value.0
            }
        }
    };
}

span_of!(
    /// 1 s to 1 h.
    ServerTimeout, Span::minutes(2), 1_000, 3_600_000, "`timeout` is {}; it must be from 1s to 1h"
);
span_of!(
    /// Up to 5 min.
    StopGrace, Span::seconds(10), 0, 300_000, "`grace` is {}; it must be at most 5m"
);

/// 1 to 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Workflows(u16);

impl Workflows {
    /// The value.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl Default for Workflows {
    fn default() -> Self {
        Self(3)
    }
}

impl TryFrom<u16> for Workflows {
    type Error = String;

    fn try_from(value: u16) -> Result<Self, String> {
        if (1..=1000).contains(&value) {
            Ok(Self(value))
        } else {
            Err(format!("`workflows` is {value}; it must be from 1 to 1000"))
        }
    }
}

impl From<Workflows> for u16 {
    fn from(value: Workflows) -> Self {
        value.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_could_not_be_started_or_found_is_refused() {
        let check = |text: &str, word: &str| {
            let read: Result<DrillPolicy, _> = serde_saphyr::from_str(text);
            match read {
                Ok(policy) => assert_eq!(word, "", "{policy:?}"),
                Err(error) => assert!(!word.is_empty() && error.to_string().contains(word), "{error}"),
            }
        };
        check("server: {start: [/bin/server, start], address: '127.0.0.1:7299'}", "");
        check("server: {start: [a], address: 'a:1', workflows: 9, timeout: 1h, grace: 0s, pass_env: [A]}", "");
        check("server: {start: [], address: 'a:1'}", "`start` is empty");
        check("server: {start: [' '], address: 'a:1'}", "empty program");
        check("server: {start: server start, address: 'a:1'}", "sequence");
        check("server: {start: [a], address: 'http://a:1'}", "host:port");
        check("server: {start: [a], address: 'a'}", "host:port");
        check("server: {start: [a], address: 'a:0'}", "host:port");
        check("server: {start: [a]}", "address");
        check("server: {start: [a], address: 'a:1', workflows: 0}", "from 1 to 1000");
        check("server: {start: [a], address: 'a:1', timeout: 2h}", "from 1s to 1h");
        check("server: {start: [a], address: 'a:1', grace: 6m}", "at most 5m");
        check("server: {start: [a], address: 'a:1', shell: true}", "shell");
    }
}
