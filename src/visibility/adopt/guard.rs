//! The guard: a second process that lifts the write block when the first one dies or sleeps through its deadline.
//!
//! It is sexton itself, started with a hidden verb, in a process group of its own so that a signal to the first one's
//! group does not end it. The two talk through pipes. The guard says `ready` when it is connected; it is told the mark of
//! the adoption and says `watching`, before which nothing is blocked; it is told `done` when all is over. An end without
//! `done` means that the other process is gone. Where both are killed at once, as with a whole pod, the next `sexton
//! adopt` undoes what is left.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tracing::{info, warn};

use super::error::{AdoptError, UndoError};
use super::marks::Mark;
use super::undo::{Undoing, Undone, Which};
use crate::clients::search::Search;
use crate::failure::chain;

/// What the guard says on its standard output when it is connected.
pub const READY: &str = "ready";
/// What it says when it watches over an adoption.
pub const WATCHING: &str = "watching";
/// What it is told when it is not needed any more.
const DONE: &str = "done";
/// How long a guard may take to connect.
const START: Duration = Duration::from_secs(30);
/// How long a guard may take to say that it watches.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a guard that was told `done` may take to end.
const END: Duration = Duration::from_secs(5);
/// After its process died, calls of it may still be carried out for so long.
const SETTLE: Duration = Duration::from_secs(5);
/// How long a guard tries to undo while the engine does not answer.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// How a guard is started: the program, and the arguments before the index's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardCommand {
    /// sexton's own binary.
    pub program: PathBuf,
    /// The verb and the configuration. No secrets: arguments are seen by everybody on the machine.
    pub arguments: Vec<OsString>,
}

/// A running guard.
#[derive(Debug)]
pub(super) struct Guard {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Guard {
    /// Starts a guard and waits until it is connected.
    pub(super) async fn start(command: &GuardCommand, index: &str) -> Result<Self, AdoptError> {
        let failed = |error: std::io::Error| AdoptError::Guard(crate::failure::without_errno(&error.to_string()));
        let mut child = Command::new(&command.program)
            .args(&command.arguments)
            .arg(index)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or_else(|| AdoptError::Guard("it has no output".into()))?;
        let mut guard = Self { child, stdin, stdout: BufReader::new(stdout) };
        guard.says(READY, START, "it does not connect", "it ended before it was connected").await?;
        Ok(guard)
    }

    /// Tells it whose block it guards, and waits until it watches.
    pub(super) async fn watch(&mut self, mark: &str) -> Result<(), AdoptError> {
        self.tell(mark).await.map_err(|error| AdoptError::Guard(crate::failure::without_errno(&error.to_string())))?;
        self.says(WATCHING, ANSWER, "it does not say that it watches", "it ended before it watched").await
    }

    /// Waits for this line.
    async fn says(&mut self, word: &str, limit: Duration, late: &str, gone: &str) -> Result<(), AdoptError> {
        let mut said = String::new();
        match tokio::time::timeout(limit, self.stdout.read_line(&mut said)).await {
            Ok(Ok(_)) if said.trim() == word => Ok(()),
            Ok(Ok(_)) => Err(AdoptError::Guard(gone.to_owned())),
            Ok(Err(error)) => Err(AdoptError::Guard(crate::failure::without_errno(&error.to_string()))),
            Err(_) => Err(AdoptError::Guard(late.to_owned())),
        }
    }

    /// Tells it that it is not needed any more, and waits for its end.
    pub(super) async fn release(mut self) {
        if let Err(error) = self.tell(DONE).await {
            warn!(%error, "the guard of the write block is gone");
        }
        drop(self.stdin.take());
        if tokio::time::timeout(END, self.child.wait()).await.is_err() {
            warn!("the guard of the write block does not end; it does nothing once the adoption is over");
        }
    }

    async fn tell(&mut self, line: &str) -> std::io::Result<()> {
        let Some(stdin) = &mut self.stdin else { return Ok(()) };
        stdin.write_all(format!("{line}\n").as_bytes()).await?;
        stdin.flush().await
    }
}

/// What the guard came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// It was told that the adoption is over, or never begun.
    Released,
    /// It undid the adoption.
    Undid(Undone),
}

/// The guard's whole life: says `ready`, is told a mark and says `watching`, waits for `done`, for the end of its input,
/// or for the deadline.
///
/// # Errors
/// The last [`UndoError`] when undoing did not succeed for half an hour.
pub async fn watch(
    search: &Search,
    index: &str,
    input: impl AsyncBufRead + Unpin,
    mut say: impl FnMut(&str),
) -> Result<Watched, UndoError> {
    say(READY);
    let mut lines = input.lines();
    let Ok(Some(mark)) = lines.next_line().await else { return Ok(Watched::Released) };
    let Some(Mark::Adopts { deadline, .. }) = Mark::read(index, &mark) else { return Ok(Watched::Released) };
    say(WATCHING);
    let left = Duration::try_from(deadline.duration_since(Timestamp::now())).unwrap_or_default();
    tokio::select! {
        line = lines.next_line() => match line {
            Ok(Some(line)) if line == DONE => return Ok(Watched::Released),
            _ => info!(index, "the adopting process is gone; undoing what it left"),
        },
        () = tokio::time::sleep(left) => info!(index, "the adoption's deadline has passed; undoing what is left of it"),
    }
    let begun = std::time::Instant::now();
    loop {
        match attempt(search, index, &mark).await {
            Ok(undone) => {
                info!(index, what = undone.told(), "the guard's work is done");
                return Ok(Watched::Undid(undone));
            }
            Err(error) if begun.elapsed() > PATIENCE => return Err(error),
            Err(error) => warn!(error = %chain(&error), "the write block is not lifted yet"),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// The mark may still be on its way when the other process dies: it is looked for until nothing can come any more.
async fn attempt(search: &Search, index: &str, mark: &String) -> Result<Undone, UndoError> {
    let end = std::time::Instant::now() + SETTLE;
    let mut undoing = Undoing::new(search, index, Which::Marked(std::slice::from_ref(mark)));
    undoing.settle = SETTLE;
    loop {
        let undone = undoing.run().await?;
        let nothing = undone == Undone::Back { lifted: false, removed: vec![] };
        if !nothing || std::time::Instant::now() >= end {
            return Ok(undone);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
