//! A receiver of webhooks in a process of its own (`receiver.py`), which checks signatures with Python's `hmac`.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::site::eventually;
use super::stack;

/// What receiver and sender share.
pub const SECRET: &str = "shared-secret-of-the-hook-5c0ffee";

/// Ends with the value.
pub struct Receiver {
    dir: TempDir,
    port: u16,
    process: Option<Child>,
    tls: bool,
}

impl Receiver {
    /// One that does not listen yet.
    pub fn down() -> Self {
        // Bound and dropped: a port nobody listens on.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { dir: TempDir::new().unwrap(), port, process: None, tls: false }
    }

    /// One that answers everything with 200.
    pub fn new() -> Self {
        let mut receiver = Self::down();
        receiver.start();
        receiver
    }

    /// One that answers so, in this order; the last answer stays.
    pub fn answering(answers: &Value) -> Self {
        let mut receiver = Self::down();
        receiver.answer(answers);
        receiver.start();
        receiver
    }

    /// One that speaks TLS with the certificate of the stack's servers.
    pub fn with_tls() -> Self {
        let mut receiver = Self::down();
        receiver.tls = true;
        receiver.start();
        receiver
    }

    /// From the next start on, or the next request.
    pub fn answer(&self, answers: &Value) {
        std::fs::write(self.dir.path().join("answers"), answers.to_string()).unwrap();
    }

    pub fn start(&mut self) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/receiver.py");
        let mut command = Command::new("python3");
        command.arg(script).arg(self.port.to_string());
        command.arg(self.dir.path().join("seen")).arg(self.dir.path().join("answers"));
        if self.tls {
            let tls = Path::new(stack().get("STATE")).join("tls");
            command.args([tls.join("server.pem"), tls.join("server.key")]);
        }
        command.env("RECEIVER_SECRET", SECRET).stdin(Stdio::null());
        self.process = Some(command.spawn().unwrap());
        assert!(eventually(Duration::from_secs(20), || TcpStream::connect(("127.0.0.1", self.port)).is_ok()));
    }

    /// Nobody listens any more.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// `http://127.0.0.1:PORT`, or https.
    pub fn origin(&self) -> String {
        format!("{}://127.0.0.1:{}", if self.tls { "https" } else { "http" }, self.port)
    }

    /// What came, in its order.
    pub fn seen(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.dir.path().join("seen")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// What came, when so many have.
    #[track_caller]
    pub fn wait_for(&self, count: usize) -> Vec<Value> {
        assert!(eventually(Duration::from_secs(60), || self.seen().len() >= count), "{:?}", self.seen());
        self.seen()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
