//! `policies/*.yaml`: the desired state, as types that cannot be wrong. One file per thing; a file that is not there
//! leaves its job without a policy, and the job says so instead of guessing.

pub mod backup;
pub mod cron;
pub mod drill;
pub mod keep;
pub mod retention;
pub mod schedule;
pub mod visibility;

use std::path::Path;

use serde::de::DeserializeOwned;

use crate::document::{ConfigError, Document};
use crate::failure::{Explain, without_errno};

/// Everything in the folder of policies.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    /// `retention.yaml`.
    pub retention: Option<retention::RetentionPolicy>,
    /// `visibility.yaml`.
    pub visibility: Option<visibility::VisibilityPolicy>,
    /// `backup.yaml`.
    pub backup: Option<backup::BackupPolicy>,
    /// `schedule.yaml`; without it nothing is scheduled.
    pub schedule: schedule::SchedulePolicy,
}

/// The files there may be.
const FILES: [&str; 4] = ["retention", "visibility", "backup", "schedule"];

impl Policies {
    /// Reads a folder.
    ///
    /// # Errors
    /// When the folder cannot be read, holds a YAML file that is no policy, or two for one thing; and whatever is
    /// wrong inside a file, with its position.
    pub fn load(folder: &Path) -> Result<Self, ConfigError> {
        check_folder(folder)?;
        let mut policies = Self::default();
        if let Some((doc, policy)) = read::<retention::RetentionPolicy>(folder, "retention")? {
            policy.validate().map_err(|message| whole(&doc, message))?;
            policies.retention = Some(policy);
        }
        if let Some((doc, policy)) = read::<visibility::VisibilityPolicy>(folder, "visibility")? {
            policy.validate().map_err(|error| doc.error_at_key(error.key(), error.to_string(), error.hint()))?;
            policies.visibility = Some(policy);
        }
        policies.backup = read(folder, "backup")?.map(|(_, policy)| policy);
        if let Some((_, policy)) = read::<schedule::SchedulePolicy>(folder, "schedule")? {
            policies.schedule = policy;
        }
        Ok(policies)
    }
}

fn whole(doc: &Document, message: String) -> ConfigError {
    let (message, hint) = message.split_once("; ").unwrap_or((&message, "docs/policies.md describes every field"));
    ConfigError::about_file(doc.path(), message, hint)
}

fn read<T: DeserializeOwned>(folder: &Path, name: &str) -> Result<Option<(Document, T)>, ConfigError> {
    for ending in ["yaml", "yml"] {
        let path = folder.join(format!("{name}.{ending}"));
        // A link to nothing is a mistake, not a policy that was left out.
        if path.symlink_metadata().is_ok() {
            let doc = Document::read(&path)?;
            let policy = doc.parse()?;
            return Ok(Some((doc, policy)));
        }
    }
    Ok(None)
}

/// A misspelled file name must not silently mean "no policy".
fn check_folder(folder: &Path) -> Result<(), ConfigError> {
    let entries = std::fs::read_dir(folder).map_err(|error| {
        ConfigError::about_file(
            folder,
            format!("the folder of policies cannot be read: {}", without_errno(&error.to_string())),
            "set `policies:` in the configuration to the folder that holds retention.yaml and its siblings",
        )
    })?;
    let mut seen: Vec<String> = Vec::new();
    let mut paths: Vec<_> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
        // Dot files are what editors and Kubernetes' ConfigMap mounts leave beside the real ones.
        if !matches!(ending, "yaml" | "yml") || stem.starts_with('.') {
            continue;
        }
        if !FILES.contains(&stem) {
            let hint = format!(
                "the policies are {}; rename or remove the file",
                FILES.map(|f| format!("{f}.yaml")).join(", ")
            );
            return Err(ConfigError::about_file(&path, "is not a policy that sexton knows", hint));
        }
        if seen.iter().any(|s| s == stem) {
            let message = format!("is a second policy for `{stem}`");
            return Err(ConfigError::about_file(&path, message, "keep one of the .yaml and the .yml file"));
        }
        seen.push(stem.to_owned());
    }
    Ok(())
}
