//! Programs that steps start: bounded in time, ended with everything they started, their last words kept.

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use super::StepError;
use crate::context::Context;
use crate::failure::{Kind, without_errno};

/// How long a program may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(10);
/// How long its last words are waited for when it has ended; what it has started may hold its pipes open for ever.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// Bytes that are kept of what it says.
const KEPT: usize = 4 << 10;

/// How a program ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Its exit code; `None` when a signal ended it.
    pub(super) code: Option<i32>,
    /// The end of what it said, standard error last.
    pub(super) said: String,
}

/// Runs a program to its end. Cancelled or out of time, it gets SIGTERM, and SIGKILL when that is not enough; so does
/// everything in its process group.
///
/// # Errors
/// When it cannot be started or took too long, and [`StepError::Cancelled`].
pub(super) async fn run(mut command: Command, limit: Duration, ctx: &Context) -> Result<Ended, StepError> {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| {
        let message = format!("`{name}` cannot be started: {}", without_errno(&error.to_string()));
        StepError::new(Kind::Failed, message, "check the path and that it may be executed here")
    })?;
    let (out, err) = (listen(child.stdout.take()), listen(child.stderr.take()));
    let ended = tokio::select! {
        status = child.wait() => Some(status),
        () = ctx.cancel.cancelled() => None,
        () = tokio::time::sleep(limit) => None,
    };
    match ended {
        Some(status) => {
            tokio::time::sleep(if out.is_closed() && err.is_closed() { Duration::ZERO } else { LAST_WORDS }).await;
            let status = status.map_err(|error| {
                StepError::new(Kind::Failed, format!("waiting for `{name}`: {error}"), "run the migration again")
            })?;
            Ok(Ended { code: status.code(), said: format!("{}{}", out.said(), err.said()).trim().to_owned() })
        }
        None => {
            end(&mut child).await;
            if ctx.is_cancelled() {
                return Err(StepError::Cancelled);
            }
            let message = format!("`{name}` was not done within {}; it was ended", crate::units::Span::from(limit));
            Err(StepError::new(Kind::Failed, message, "raise the step's `timeout`, or look why it takes so long"))
        }
    }
}

async fn end(child: &mut Child) {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::TERM);
    }
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = child.wait().await;
    }
}

/// The end of a stream.
struct Heard {
    text: Arc<Mutex<Vec<u8>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Heard {
    fn is_closed(&self) -> bool {
        self.task.is_finished()
    }

    fn said(&self) -> String {
        self.task.abort();
        String::from_utf8_lossy(&self.text.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

fn listen(stream: Option<impl AsyncRead + Send + Unpin + 'static>) -> Heard {
    let text = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&text);
    let task = tokio::spawn(async move {
        let Some(mut stream) = stream else { return };
        let mut buffer = vec![0; KEPT];
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.extend_from_slice(buffer.get(..read).unwrap_or_default());
            let excess = kept.len().saturating_sub(KEPT);
            kept.drain(..excess);
        }
    });
    Heard { text, task }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shell(script: &str, limit: Duration) -> Result<Ended, StepError> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        run(command, limit, &Context::plain()).await
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
}
