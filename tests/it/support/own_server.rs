//! A PostgreSQL 15 of a test's own: a primary, a standby of it, or one whose primary is away.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use sexton::clients::postgres::Settings;

use super::postgres::Server;
use super::site::eventually;
use super::stack;

/// Ends with the value.
pub struct OwnServer {
    dir: tempfile::TempDir,
    port: u16,
    /// No file of its may become larger, in bytes.
    largest: Option<u64>,
}

fn bin(name: &str) -> String {
    format!("{}/{name}", stack().get("PG15_BIN"))
}

/// As the user who runs the stack's servers, for PostgreSQL does not run as root.
fn as_server_user(program: &str) -> Command {
    let is_root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    if !is_root {
        return Command::new(program);
    }
    let mut command = Command::new("runuser");
    command.args(["-u", stack().get("RUN_USER"), "--", program]);
    command
}

fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

impl OwnServer {
    fn place() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::Builder::new().prefix("sexton-postgres-").tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        // Bound and dropped: a port nobody listens on.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { dir, port, largest: None }
    }

    fn initialised() -> Self {
        let server = Self::place();
        succeed(as_server_user(&bin("initdb")).args(["-D", &server.data(), "-U", "postgres", "-A", "trust", "-N"]));
        server
    }

    /// One with nothing in it.
    pub fn primary() -> Self {
        let server = Self::initialised();
        server.start();
        server
    }

    /// One that writes its log to files, in this form.
    pub fn logging(destination: &str) -> Self {
        let server = Self::initialised();
        server.set(&format!(
            "logging_collector = on\nlog_destination = '{destination}'\nlog_timezone = 'Asia/Kolkata'\n"
        ));
        server.start();
        server
    }

    /// Adds to its configuration; it counts from the next start on.
    fn set(&self, settings: &str) {
        let file = format!("{}/postgresql.conf", self.data());
        succeed(as_server_user("sh").args(["-c", "printf '%s' \"$1\" >>\"$2\"", "sh", settings, &file]));
    }

    /// One none of whose files may become larger than that, in bytes; a segment of its log has 16 MiB.
    pub fn with_files_up_to(largest: u64) -> Self {
        let mut server = Self::initialised();
        server.largest = Some(largest);
        server.start();
        server
    }

    /// One that waits for the log of a primary that is away.
    pub fn waiting_standby() -> Self {
        let server = Self::initialised();
        succeed(as_server_user("touch").arg(format!("{}/standby.signal", server.data())));
        server.start();
        server
    }

    /// One that replays what this primary writes.
    pub fn standby_of(primary: &Self) -> Self {
        let server = Self::place();
        let port = primary.port.to_string();
        let copy = ["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-D", &server.data(), "-R", "-X", "stream"];
        succeed(as_server_user(&bin("pg_basebackup")).args(copy).args(["-c", "fast"]));
        server.start();
        server
    }

    /// How sexton logs in.
    pub fn settings(&self) -> Settings {
        Settings { port: self.port, user: "postgres".into(), password: None, ..Server::Pg15.settings() }
    }

    /// What stands in `sexton.yaml` for it.
    pub fn section(&self) -> String {
        format!("host: 127.0.0.1, port: {}, user: postgres", self.port)
    }

    /// What psql prints.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        let port = self.port.to_string();
        let to = ["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-d", database];
        succeed(Command::new(bin("psql")).args(to).args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql]))
    }

    /// A program of PostgreSQL 17, logged in.
    pub fn tool(&self, name: &str, database: &str) -> Command {
        let mut command = Server::Pg15.tool(name, database);
        command.env("PGPORT", self.port.to_string()).env("PGUSER", "postgres").env_remove("PGPASSWORD");
        command.env("PGHOST", "127.0.0.1");
        command
    }

    /// Takes a database over from one of the stack's servers.
    pub fn take_over(&self, server: Server, database: &str) {
        let dump = server.tool("pg_dump", database).args(["-C", "--no-owner"]).output().unwrap();
        assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
        let file = self.dir.path().join("dump.sql");
        // What only the newer tool says is of no use to the older server.
        let sql = String::from_utf8(dump.stdout).unwrap().replace("SET transaction_timeout = 0;", "");
        std::fs::write(&file, sql).unwrap();
        let port = self.port.to_string();
        let to = ["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-d", "postgres", "-X", "-q"];
        succeed(Command::new(bin("psql")).args(to).args(["-v", "ON_ERROR_STOP=1", "-f"]).arg(&file));
    }

    fn data(&self) -> String {
        self.dir.path().join("data").display().to_string()
    }

    /// Starts it again.
    pub fn start(&self) {
        self.control("start");
        let answers = || std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok();
        assert!(eventually(Duration::from_secs(20), answers));
    }

    /// Ends it at once.
    pub fn stop(&self) {
        self.control("stop");
    }

    fn control(&self, what: &str) {
        let options = format!("-p {} -h 127.0.0.1 -c unix_socket_directories=''", self.port);
        let log = self.dir.path().join("log").display().to_string();
        let mut command = match self.largest.filter(|_| what == "start") {
            None => as_server_user(&bin("pg_ctl")),
            Some(largest) => {
                let mut command = as_server_user("prlimit");
                command.args([&format!("--fsize={largest}"), &bin("pg_ctl")]);
                command
            }
        };
        command.args([what, "-D", &self.data(), "-w", "-t", "30", "-m", "immediate"]);
        if what == "start" {
            command.args(["-o", &options, "-l", &log]);
        }
        // Not a pipe: the server would hold it open.
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(status.success(), "{}", std::fs::read_to_string(Path::new(&log)).unwrap_or_default());
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        let pid = format!("{}/postmaster.pid", self.data());
        if as_server_user("test").args(["-e", &pid]).status().is_ok_and(|status| status.success()) {
            self.control("stop");
        }
        let _ = as_server_user("rm").args(["-rf", &self.data()]).status();
    }
}
