//! The server's process: a process group of its own, of which nothing is left when the drill ends.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use secrecy::ExposeSecret;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tracing::warn;

use super::Restored;
use crate::clients::postgres::Settings;
use crate::policy::drill::ServerPolicy;

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
    group: Option<Pid>,
    said: Arc<Mutex<Vec<u8>>>,
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
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let said = Arc::default();
        child.stdout.take().map(|stream| tokio::spawn(keep(stream, Arc::clone(&said))));
        child.stderr.take().map(|stream| tokio::spawn(keep(stream, Arc::clone(&said))));
        let grace = Duration::from_millis(policy.grace.get().as_millis());
        Ok(Self { child, group, said, secrets, grace })
    }

    /// How it ended, when it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// The last lines that it wrote, without secrets; empty when there are none.
    pub(super) fn words(&self) -> String {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let words = last_lines(&said, &self.secrets);
        if words.is_empty() { words } else { format!("; its last lines: {words}") }
    }

    /// Asks the group to end, and kills what is left of it when its grace is over.
    pub(super) async fn stop(mut self) {
        self.signal(Signal::TERM);
        if tokio::time::timeout(self.grace, self.child.wait()).await.is_err() {
            warn!("the drill's Temporal server does not end in time and is killed");
        }
        self.signal(Signal::KILL);
        self.group = None;
        let _ = self.child.wait().await;
    }

    /// A group of which nobody is left is no trouble.
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
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

/// Reads to the end, so that the server never waits for a reader.
async fn keep(mut stream: impl AsyncRead + Unpin, said: Arc<Mutex<Vec<u8>>>) {
    let mut buffer = vec![0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        said.extend_from_slice(buffer.get(..count).unwrap_or_default());
        let over = said.len().saturating_sub(KEPT);
        said.drain(..over);
    }
}

fn last_lines(said: &[u8], secrets: &[String]) -> String {
    // Of a line that was cut, the beginning of a secret may be missing.
    let whole = match said.iter().position(|byte| *byte == b'\n') {
        Some(end) if said.len() >= KEPT => said.get(end + 1..).unwrap_or_default(),
        None if said.len() >= KEPT => &[],
        _ => said,
    };
    let mut text = String::from_utf8_lossy(whole).into_owned();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        let encoded: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        text = text.replace(secret.as_str(), "***").replace(&encoded, "***");
    }
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let shown = lines.iter().skip(lines.len().saturating_sub(SHOWN));
    shown.map(|line| line.chars().take(300).collect::<String>()).collect::<Vec<_>>().join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_told_without_secrets() {
        let secrets = ["p@ss".to_owned(), String::new()];
        assert_eq!(last_lines(b"first\nlogin p@ss\n\n url p%40ss/ \n", &secrets), "first | login *** | url ***/");
        let many = (0..20).map(|n| format!("{n}\n")).collect::<String>();
        assert_eq!(last_lines(many.as_bytes(), &[]), "15 | 16 | 17 | 18 | 19");
        assert_eq!(last_lines(&vec![b'x'; KEPT], &secrets), "");
        assert_eq!(last_lines(b"", &[]), "");
    }
}
