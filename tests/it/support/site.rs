//! A configured sexton in a folder of its own, and the real binary run there.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::cluster::Cluster;
use super::postgres::Scratch;
use super::stack;

/// What the binary said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    /// Standard output as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("not JSON ({e}): {self:?}"))
    }

    /// Panics unless the exit code is this one.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }
}

/// A folder with sexton.yaml and policies. Secrets come through the environment of the child.
#[derive(Debug)]
pub struct Site {
    dir: TempDir,
    env: Vec<(String, String)>,
}

impl Site {
    /// A site with this configuration and no policies.
    pub fn new(config: &str) -> Self {
        let dir = TempDir::new().unwrap();
        std::fs::create_dir(dir.path().join("policies")).unwrap();
        std::fs::write(dir.path().join("sexton.yaml"), config).unwrap();
        let env = std::env::vars().filter(|(name, _)| name.starts_with("STACK_")).collect();
        Self { dir, env }
    }

    /// Writes a policy.
    pub fn policy(self, name: &str, text: &str) -> Self {
        std::fs::write(self.path().join("policies").join(format!("{name}.yaml")), text).unwrap();
        self
    }

    /// Writes any file beside the configuration.
    pub fn file(self, name: &str, text: &str) -> Self {
        std::fs::write(self.path().join(name), text).unwrap();
        self
    }

    /// Adds a variable to the child's environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(args).current_dir(self.path()).env_clear().envs(self.env.iter().cloned());
        command.env("PATH", std::env::var("PATH").unwrap_or_default()).env("HOSTNAME", "test-host");
        command.stdin(Stdio::null());
        command
    }

    /// Runs the binary to its end.
    pub fn run(&self, args: &[&str]) -> Said {
        Self::said(&mut self.command(args))
    }

    /// The same with more in its environment.
    pub fn run_with(&self, args: &[&str], env: &[(&str, &str)]) -> Said {
        Self::said(self.command(args).envs(env.iter().copied()))
    }

    /// The same as a user whom file permissions bind, which they do not bind root.
    pub fn run_as_ordinary_user(&self, args: &[&str]) -> Said {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        use std::os::unix::process::CommandExt;
        const NOBODY: u32 = 65534;
        let mut command = self.command(args);
        if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
            std::fs::set_permissions(self.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
            command.uid(NOBODY).gid(NOBODY);
        }
        Self::said(&mut command)
    }

    fn said(command: &mut Command) -> Said {
        let output = command.output().unwrap();
        Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Starts the binary and lets it run; its log goes to a file.
    pub fn start(&self, args: &[&str], log: &str) -> Running {
        let path = self.path().join(log);
        let file = std::fs::File::create(&path).unwrap();
        let child = self.command(args).stdout(Stdio::null()).stderr(file).spawn().unwrap();
        Running { child, log: path }
    }
}

impl Site {
    /// A site for a cluster of a test's own, with an initialised ledger.
    pub fn of_cluster(cluster: &Cluster, ledger: &Scratch) -> Self {
        let config = format!(
            "{}temporal: {{address: {}}}\nsearch: {{url: {}}}\n",
            postgres_sections(ledger, &cluster.database.name),
            cluster.server.address,
            cluster.engine.url
        );
        let site = Self::new(&config);
        site.run(&["ledger", "init"]).expect(0);
        site
    }
}

/// The binary under test.
pub fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_sexton")
}

/// A running child, killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// What it logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until the log holds the text.
    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        if !eventually(Duration::from_secs(40), || self.log().contains(text)) {
            panic!("`{text}` never came:\n{}", self.log());
        }
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name: `TERM`, `KILL`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for its end; the exit code, `None` when a signal ended it.
    #[track_caller]
    pub fn wait(&mut self) -> Option<i32> {
        let mut status = None;
        let ended = eventually(Duration::from_secs(60), || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        assert!(ended, "it does not end:\n{}", self.log());
        status.and_then(|s| s.code())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks until the answer is yes; `false` when the time is over.
pub fn eventually(limit: Duration, mut ask: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if ask() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The `postgres:` and `ledger:` sections for the stack's PostgreSQL 15 and a ledger of the test's own.
pub fn postgres_sections(ledger: &Scratch, main: &str) -> String {
    let get = |name| stack().get(name).to_owned();
    format!(
        "postgres:\n  host: {}\n  port: {}\n  user: {}\n  password: {{env: STACK_PG15_PASSWORD}}\n  \
         databases: {{main: {main}}}\nledger: {{database: {}}}\n",
        get("PG15_HOST"),
        get("PG15_PORT"),
        get("PG15_USER"),
        ledger.name
    )
}
