use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::PostgresError;

/// A program of PostgreSQL's client package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// Where it is.
    pub path: PathBuf,
    /// Its major version.
    pub major: u32,
}

/// Finds a client program for a server of the given major version: in `bin_dir`, on `PATH` and in the folders of the
/// Debian and RPM packages. The one of exactly that major wins, then the next newer; an older one is never taken,
/// since `pg_dump` refuses a server newer than itself.
///
/// # Errors
/// [`PostgresError::ToolMissing`] and [`PostgresError::ToolTooOld`].
pub async fn find_tool(name: &str, major: u32, bin_dir: Option<&Path>) -> Result<Tool, PostgresError> {
    let folders = match bin_dir {
        Some(folder) => vec![folder.to_path_buf()],
        None => usual_folders(),
    };
    let mut found = Vec::new();
    for folder in &folders {
        let path = folder.join(name);
        if let Some(major) = version_of(&path).await {
            found.push(Tool { path, major });
        }
    }
    match choose(&found, major) {
        Some(tool) => Ok(tool.clone()),
        None => Err(match found.iter().max_by_key(|tool| tool.major) {
            Some(newest) => PostgresError::ToolTooOld {
                tool: name.to_owned(),
                found: format!("{} ({})", newest.path.display(), newest.major),
                major,
            },
            None => PostgresError::ToolMissing {
                tool: name.to_owned(),
                major,
                looked: match bin_dir {
                    Some(folder) => folder.display().to_string(),
                    None => "PATH and the folders of the PostgreSQL packages".to_owned(),
                },
            },
        }),
    }
}

fn choose(found: &[Tool], major: u32) -> Option<&Tool> {
    let fitting = found.iter().filter(|tool| tool.major >= major);
    fitting.min_by_key(|tool| tool.major)
}

fn usual_folders() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).filter(|folder| folder.is_absolute()).collect();
    for major in 14..=30 {
        folders.push(PathBuf::from(format!("/usr/lib/postgresql/{major}/bin")));
        folders.push(PathBuf::from(format!("/usr/pgsql-{major}/bin")));
    }
    folders
}

/// The major version that `tool --version` tells; `None` when it is not there or does not answer in time.
async fn version_of(path: &Path) -> Option<u32> {
    if !tokio::fs::try_exists(path).await.unwrap_or(false) {
        return None;
    }
    let mut command = tokio::process::Command::new(path);
    command.arg("--version").env("LC_ALL", "C").stdin(std::process::Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(10), command.output()).await.ok()?.ok()?;
    major_of(&String::from_utf8_lossy(&output.stdout))
}

/// `pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` is 15; `pg_dump (PostgreSQL) 18beta1` is 18.
fn major_of(text: &str) -> Option<u32> {
    let after = text.split_once("(PostgreSQL)")?.1.trim_start();
    let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
    after.get(..end)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_the_tools_print() {
        let check = |text: &str, expect: Option<u32>| assert_eq!(major_of(text), expect, "{text}");
        check("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", Some(15));
        check("pg_dump (PostgreSQL) 18beta1", Some(18));
        check("pg_dump: error", None);
        check("", None);
    }

    #[test]
    fn the_server_s_own_major_wins_and_an_older_one_is_never_taken() {
        let tool = |major| Tool { path: PathBuf::from(format!("/{major}")), major };
        let found = [tool(14), tool(17), tool(15)];
        assert_eq!(choose(&found, 15).map(|t| t.major), Some(15));
        assert_eq!(choose(&found, 16).map(|t| t.major), Some(17));
        assert_eq!(choose(&found, 18), None);
    }
}
