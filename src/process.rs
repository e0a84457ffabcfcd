//! Programs that sexton starts: their process groups, and what they say.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Child;
use tokio::task::JoinHandle;

/// How long last words are waited for.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// The process group of a program that was started with one of its own. Dropped, what is left of it is killed.
#[derive(Debug)]
pub(crate) struct Group {
    leader: Option<Pid>,
}

impl Group {
    /// The group that a program leads.
    pub(crate) fn of(child: &Child) -> Self {
        Self::led_by(child.id().and_then(|id| i32::try_from(id).ok()))
    }

    /// The group of a leader's process id.
    pub(crate) fn led_by(leader: Option<i32>) -> Self {
        Self { leader: leader.and_then(Pid::from_raw) }
    }

    /// A group of which nobody is left is no trouble.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(leader) = self.leader {
            let _ = kill_process_group(leader, signal);
        }
    }

    /// Lets what is left of it live.
    pub(crate) fn release(mut self) {
        self.leader = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// The end of what a program says.
#[derive(Debug)]
pub(crate) struct Heard {
    most: usize,
    text: Arc<Mutex<Vec<u8>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Heard {
    /// Keeps so many bytes.
    pub(crate) fn keeping(most: usize) -> Self {
        Self { most, text: Arc::default(), tasks: Vec::new() }
    }

    /// Reads a stream to its end, so that the program never waits for a reader.
    pub(crate) fn listen(&mut self, stream: Option<impl AsyncRead + Send + Unpin + 'static>) {
        let Some(mut stream) = stream else { return };
        let (text, most) = (Arc::clone(&self.text), self.most);
        self.tasks.push(tokio::spawn(async move {
            let mut buffer = vec![0; 4 << 10];
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                let mut text = text.lock().unwrap_or_else(PoisonError::into_inner);
                text.extend_from_slice(buffer.get(..count).unwrap_or_default());
                let excess = text.len().saturating_sub(most);
                text.drain(..excess);
            }
        }));
    }

    /// Waits for its last words: until every stream has ended, and for a moment at most, since what the program has started
    /// may hold them open for ever.
    pub(crate) async fn settle(&self) {
        let until = Instant::now() + LAST_WORDS;
        while !self.tasks.iter().all(JoinHandle::is_finished) && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The end of it, without secrets.
    pub(crate) fn said(&self, secrets: &[String]) -> String {
        let text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        without_secrets(&text, self.most, secrets)
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Of a line that was cut, the beginning of a secret may be missing: it is left out.
fn without_secrets(said: &[u8], most: usize, secrets: &[String]) -> String {
    let whole = match said.iter().position(|byte| *byte == b'\n') {
        Some(end) if said.len() >= most => said.get(end + 1..).unwrap_or_default(),
        None if said.len() >= most => &[],
        _ => said,
    };
    // The journal's PostgreSQL takes no NUL.
    let mut text = String::from_utf8_lossy(whole).replace('\0', "\u{fffd}");
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        let encoded: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        text = text.replace(secret.as_str(), "***").replace(&encoded, "***");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_told_without_secrets() {
        let secrets = ["p@ss".to_owned(), String::new()];
        let check = |said: &[u8], expect: &str| assert_eq!(without_secrets(said, 30, &secrets), expect);
        check(b"login p@ss\n url p%40ss/\n", "login ***\n url ***/\n");
        check(b"a\0b", "a\u{fffd}b");
        check(b"", "");
        check(&[b'x'; 30], "");
        check(b"ss is a part of it\nthe rest 1234", "the rest 1234");
    }
}
