//! The server's process: a process group of its own, of which nothing is left when the drill ends.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use secrecy::ExposeSecret;
use tokio::process::{Child, Command};
use tracing::warn;

use super::Restored;
use crate::clients::postgres::Settings;
use crate::policy::drill::ServerPolicy;
use crate::process::{Group, Heard};

/// Bytes of its output that are kept, and lines of them that are shown.
const KEPT: usize = 16 << 10;
const SHOWN: usize = 5;
/// Bytes from which on a passed value is taken for a secret.
const SECRET: usize = 6;
/// What it may see of sexton's environment without being named.
const USUAL: [&str; 6] = ["PATH", "HOME", "USER", "TMPDIR", "LANG", "TZ"];

/// A running server. Dropped, its group is killed.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    group: Group,
    heard: Heard,
    secrets: Vec<String>,
    grace: Duration,
}

impl Process {
    /// Starts the policy's command with the restored databases in its environment.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub(super) fn start(policy: &ServerPolicy, scratch: &Settings, restored: Restored<'_>) -> std::io::Result<Self> {
        let mut command = Command::new(policy.start.program());
        command.args(policy.start.arguments()).env_clear().envs(environment(scratch, restored));
        let mut secrets: Vec<String> =
            scratch.password.iter().map(|secret| secret.expose_secret().to_owned()).collect();
        for (name, value) in std::env::vars_os() {
            let is_passed = policy.pass_env.iter().any(|passed| name == passed.as_str());
            // A short one would blot out parts of words.
            if is_passed && value.len() >= SECRET {
                secrets.push(value.to_string_lossy().into_owned());
            }
            if is_passed || USUAL.iter().any(|usual| name == *usual) {
                command.env(name, value);
            }
        }
        if let Some(password) = &scratch.password {
            command.env("SEXTON_DRILL_PASSWORD", password.expose_secret());
        }
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn()?;
        let (group, mut heard) = (Group::of(&child), Heard::keeping(KEPT));
        heard.listen(child.stdout.take());
        heard.listen(child.stderr.take());
        let grace = Duration::from_millis(policy.grace.get().as_millis());
        Ok(Self { child, group, heard, secrets, grace })
    }

    /// How it ended, when it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// The last lines that it wrote, without secrets; empty when there are none.
    pub(super) async fn words(&self) -> String {
        self.heard.settle().await;
        let words = last_lines(&self.heard.said(&self.secrets));
        if words.is_empty() { words } else { format!("; its last lines: {words}") }
    }

    /// Asks the group to end, and kills what is left of it when its grace is over.
    pub(super) async fn stop(mut self) {
        self.group.signal(Signal::TERM);
        if tokio::time::timeout(self.grace, self.child.wait()).await.is_err() {
            warn!("the drill's Temporal server does not end in time and is killed");
        }
        drop(self.group);
        let _ = self.child.wait().await;
    }
}

/// What the command is told, but for the password.
fn environment(scratch: &Settings, restored: Restored<'_>) -> BTreeMap<&'static str, OsString> {
    let mut told = BTreeMap::from([
        ("SEXTON_DRILL_HOST", OsString::from(&scratch.host)),
        ("SEXTON_DRILL_PORT", scratch.port.to_string().into()),
        ("SEXTON_DRILL_USER", OsString::from(&scratch.user)),
        ("SEXTON_DRILL_DATABASE", restored.main.into()),
    ]);
    if let Some(visibility) = restored.visibility {
        told.insert("SEXTON_DRILL_VISIBILITY_DATABASE", visibility.into());
    }
    told
}

/// The last lines of a text, in one.
fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let shown = lines.iter().skip(lines.len().saturating_sub(SHOWN));
    shown.map(|line| line.chars().take(300).collect::<String>()).collect::<Vec<_>>().join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_told() {
        assert_eq!(last_lines("first\nsecond\n\n third \n"), "first | second | third");
        let many = (0..20).map(|n| format!("{n}\n")).collect::<String>();
        assert_eq!(last_lines(&many), "15 | 16 | 17 | 18 | 19");
        assert_eq!(last_lines(""), "");
    }
}
