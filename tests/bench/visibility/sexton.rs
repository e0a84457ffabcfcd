//! The binary as it is shipped, in a folder with its configuration and policy, and what it took.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::database::Database;
use crate::engine::Engine;
use crate::{go_on, stack};

/// No run takes so long.
const LIMIT: Duration = Duration::from_secs(240);

/// How often the memory of a run is read.
const LOOK: Duration = Duration::from_millis(5);

/// One site: an alias, Temporal's database and a ledger.
#[derive(Debug)]
pub(crate) struct Sexton {
    binary: PathBuf,
    home: TempDir,
    _ledger: Database,
}

/// One run.
#[derive(Debug, Clone)]
pub(crate) struct Took {
    pub(crate) seconds: f64,
    /// The most memory it ever held, in bytes.
    pub(crate) peak: u64,
    /// What it printed.
    pub(crate) said: String,
}

impl Sexton {
    pub(crate) fn new(engine: &Engine, temporal: &Database) -> Result<Self> {
        let examples = std::env::current_exe()?;
        let binary = examples.ancestors().nth(2).context("the benchmark is in no target folder")?.join("sexton");
        let home = TempDir::new()?;
        let ledger = Database::new("ledger")?;
        let config = format!(
            "postgres:\n  host: {}\n  port: {}\n  user: {}\n  password: {{env: STACK_PG15_PASSWORD}}\n  \
             databases: {{main: {}}}\nledger: {{database: {}}}\nsearch: {{url: \"{}\"}}\n",
            stack("PG15_HOST")?,
            stack("PG15_PORT")?,
            stack("PG15_USER")?,
            temporal.name,
            ledger.name,
            engine.url
        );
        std::fs::write(home.path().join("sexton.yaml"), config)?;
        std::fs::create_dir(home.path().join("policies"))?;
        // Everything else as shipped: at most 100,000 changes, 50,000 documents and runs looked at in turn.
        std::fs::write(home.path().join("policies/visibility.yaml"), format!("index: {}\n", engine.alias))?;
        let sexton = Self { binary, home, _ledger: ledger };
        sexton.run(&["ledger", "init"])?;
        Ok(sexton)
    }

    pub(crate) fn reconcile(&self) -> Result<Took> {
        self.run(&["--quiet", "once", "reconcile"])
    }

    fn run(&self, args: &[&str]) -> Result<Took> {
        go_on()?;
        let begun = Instant::now();
        let mut child = Command::new(&self.binary)
            .args(args)
            .current_dir(self.home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .with_context(|| format!("starting {}", self.binary.display()))?;
        let status = format!("/proc/{}/status", child.id());
        let mut peak = 0;
        let ended = loop {
            if let Some(ended) = child.try_wait()? {
                break ended;
            }
            if begun.elapsed() > LIMIT {
                child.kill()?;
            }
            peak = std::fs::read_to_string(&status).ok().as_deref().and_then(high_water_mark).unwrap_or(0).max(peak);
            std::thread::sleep(LOOK);
        };
        let seconds = begun.elapsed().as_secs_f64();
        let said = String::from_utf8_lossy(&child.wait_with_output()?.stdout).into_owned();
        ensure!(ended.success(), "sexton {}: {ended}\n{said}", args.join(" "));
        Ok(Took { seconds, peak, said })
    }
}

/// `VmHWM` of `/proc/PID/status`: the most memory the process ever held.
fn high_water_mark(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1_024)
}
