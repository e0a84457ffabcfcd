//! Programs that steps start: bounded in time, ended with everything they started, their last words kept, and known
//! again by a later run when sexton itself was killed.

use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::StepError;
use crate::context::Context;
use crate::failure::{Kind, without_errno};
use crate::migrate::error::MigrateError;
use crate::migrate::hands::Hands;
use crate::process::{Group, Heard};

/// How long a program may take to end after SIGTERM.
pub(crate) const GRACE: Duration = Duration::from_secs(10);
/// Bytes that are kept of what it says.
const KEPT: usize = 4 << 10;
/// Under which it is noted in the journal.
const NOTED: &str = "program";

/// How a program ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Its exit code; `None` when a signal ended it.
    pub(super) code: Option<i32>,
    /// The end of what it said, standard error last.
    pub(super) said: String,
}

/// Runs a program for a step, whose journal entry says that it runs.
///
/// # Errors
/// When it cannot be started or took too long, [`StepError::Cancelled`], and when the journal cannot be written.
pub(super) async fn run(command: Command, limit: Duration, hands: &Hands<'_>) -> Result<Ended, StepError> {
    let noted = async |running: &Running| hands.noting().note(&json!({ NOTED: running })).await;
    start(command, limit, &hands.ctx, &hands.world.secrets(), noted).await
}

/// Runs a program to its end. Cancelled or out of time, it gets SIGTERM, and SIGKILL when that is not enough; so does
/// everything in its process group.
async fn start(
    mut command: Command,
    limit: Duration,
    ctx: &Context,
    secrets: &[String],
    noted: impl AsyncFnOnce(&Running) -> Result<(), MigrateError>,
) -> Result<Ended, StepError> {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().map_err(|error| {
        let message = format!("`{name}` cannot be started: {}", without_errno(&error.to_string()));
        StepError::new(Kind::Failed, message, "check the path and that it may be executed here")
    })?;
    let group = Group::of(&child);
    let (mut out, mut err) = (Heard::keeping(KEPT), Heard::keeping(KEPT));
    out.listen(child.stdout.take());
    err.listen(child.stderr.take());
    if let Some(running) = Running::of(&child) {
        noted(&running).await?;
    }
    let ended = tokio::select! {
        status = child.wait() => Some(status),
        () = ctx.cancel.cancelled() => None,
        () = tokio::time::sleep(limit) => None,
    };
    match ended {
        Some(status) => {
            // What it has left running, such as a server that it started, is meant to run.
            group.release();
            tokio::join!(out.settle(), err.settle());
            let status = status.map_err(|error| {
                StepError::new(Kind::Failed, format!("waiting for `{name}`: {error}"), "run the migration again")
            })?;
            let said = format!("{}{}", out.said(secrets), err.said(secrets));
            Ok(Ended { code: status.code(), said: said.trim().to_owned() })
        }
        None => {
            group.signal(Signal::TERM);
            let _ = tokio::time::timeout(GRACE, child.wait()).await;
            drop(group);
            let _ = child.wait().await;
            if ctx.is_cancelled() {
                return Err(StepError::Cancelled);
            }
            let message = format!("`{name}` was not done within {}; it was ended", crate::units::Span::from(limit));
            Err(StepError::new(Kind::Failed, message, "raise the step's `timeout`, or look why it takes so long"))
        }
    }
}

/// A program at work, so that it is known again: ids of processes are used again, together with its start they are not.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
struct Running {
    /// Its process id, which is that of its group.
    pid: i32,
    /// When it started, in ticks of the clock since the machine did.
    started: String,
    /// The machine since it started, and the container: elsewhere nothing can be said about it.
    place: String,
}

impl Running {
    /// `None` where the kernel does not tell, which is everywhere but on Linux.
    fn of(child: &Child) -> Option<Self> {
        let pid = i32::try_from(child.id()?).ok()?;
        Some(Self { pid, started: started(pid)?, place: place()? })
    }

    fn is_alive(&self) -> bool {
        place().as_ref() == Some(&self.place) && started(self.pid).as_ref() == Some(&self.started)
    }
}

/// The twenty-second field of `/proc/PID/stat`; the second one may contain spaces. A zombie has ended.
fn started(pid: i32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let is_zombie = fields.next()? == "Z";
    fields.nth(18).filter(|_| !is_zombie).map(str::to_owned)
}

fn place() -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let container = std::fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {}", boot.trim(), container.display()))
}

/// Ends the program that a run which was killed had started for a step, when it is still at work: two of them at once
/// would undo each other's work.
pub(crate) async fn end_left_over(noted: &Value) {
    let running = noted.get(NOTED).and_then(|noted| serde_json::from_value::<Running>(noted.clone()).ok());
    let Some(running) = running.filter(Running::is_alive) else { return };
    tracing::warn!(pid = running.pid, "a program of a run that was killed is still at work; it is ended");
    let group = Group::led_by(Some(running.pid));
    group.signal(Signal::TERM);
    let until = Instant::now() + GRACE;
    while running.is_alive() && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shell(script: &str, limit: Duration) -> Result<Ended, StepError> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        start(command, limit, &Context::plain(), &["s3cr3t".to_owned()], async |_| Ok(())).await
    }

    #[tokio::test]
    async fn a_program_is_heard_and_its_end_told() {
        let ended = shell("echo out; echo err >&2; exit 3", Duration::from_secs(10)).await.unwrap();
        assert_eq!((ended.code, ended.said.as_str()), (Some(3), "out\nerr"));
    }

    #[tokio::test]
    async fn what_it_starts_does_not_hold_it_up() {
        let clock = std::time::Instant::now();
        let ended = shell("sleep 30 & echo started", Duration::from_secs(20)).await.unwrap();
        assert_eq!((ended.code, ended.said.as_str()), (Some(0), "started"));
        assert!(clock.elapsed() < Duration::from_secs(10));
    }

    #[tokio::test]
    async fn too_slow_a_program_is_ended_with_what_it_started() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let script = format!("(sleep 2; echo late > {}) & sleep 30", file.path().display());
        let error = shell(&script, Duration::from_millis(200)).await.unwrap_err();
        assert!(error.to_string().contains("was not done within 200ms"), "{error}");
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "");
    }

    #[tokio::test]
    async fn what_it_started_is_ended_even_when_it_ends_by_itself_when_asked() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let script = format!("(trap '' TERM; sleep 2; echo late > {}) & sleep 30", file.path().display());
        shell(&script, Duration::from_millis(300)).await.unwrap_err();
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "");
    }

    #[tokio::test]
    async fn it_is_ended_when_nobody_waits_for_it_any_more() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let script = format!("trap '' TERM; (sleep 2; echo late > {}) & sleep 30", file.path().display());
        let running = shell(&script, Duration::from_secs(30));
        assert!(tokio::time::timeout(Duration::from_millis(300), running).await.is_err());
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "");
    }

    #[tokio::test]
    async fn what_it_says_is_told_without_secrets() {
        let ended = shell("echo s3cr3t; echo the s3cr3t >&2; exit 1", Duration::from_secs(10)).await.unwrap();
        assert_eq!(ended.said, "***\nthe ***");
    }

    #[tokio::test]
    async fn one_that_was_left_over_is_known_again_and_ended() {
        let mut command = Command::new("/bin/sleep");
        let mut child = command.arg("30").process_group(0).spawn().unwrap();
        let running = Running::of(&child).unwrap();
        let other = Running { started: "1".to_owned(), ..running.clone() };
        end_left_over(&json!({ NOTED: other })).await;
        end_left_over(&json!({})).await;
        assert!(child.try_wait().unwrap().is_none(), "another process of the same id is left alone");
        end_left_over(&json!({ NOTED: running })).await;
        let ended = tokio::time::timeout(Duration::from_secs(5), child.wait()).await.unwrap().unwrap();
        assert!(!ended.success() && !running.is_alive());
    }
}
