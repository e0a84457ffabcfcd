//! How far a comparison is, in a file, so that one that was killed goes on where it was.
//!
//! Only sums are written: of tables that are equal, and of the ranges of pages that were read of a table. That a table
//! differs is always found out within one run. Each sum stands beside a mark of its table ([`super::live`]): a table that
//! somebody has written to since is begun anew. The file goes when the comparison has its answer.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Side;
use crate::backup::chunk::{Content, hex128};
use crate::backup::error::BackupError;
use crate::backup::manifest::Name;

const FORMAT: u32 = 1;
/// Between two writes of the file.
const PAUSE: Duration = Duration::from_millis(500);

/// A comparison's file.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    state: Mutex<(State, Option<Instant>)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    format: u32,
    left: String,
    right: String,
    tables: BTreeMap<String, Entry>,
}

/// What is known of one table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// Marks of the table on the left and on the right.
    marks: [String; 2],
    /// Its rows, when it is equal on both sides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    equal: Option<u64>,
    /// What was read of it on the left and on the right.
    #[serde(default)]
    parts: [Part; 2],
}

/// The beginning of a table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    /// The first page that was not read.
    pub(super) pages: u64,
    /// Rows before it.
    rows: u64,
    /// The sum of their hashes.
    #[serde(with = "hex128")]
    sum: u128,
}

impl Part {
    pub(super) const fn new(pages: u64, content: Content) -> Self {
        Self { pages, rows: content.rows, sum: content.sum }
    }

    pub(super) const fn content(&self) -> Content {
        Content { rows: self.rows, sum: self.sum }
    }
}

impl Checkpoint {
    /// Takes up the file, or begins one.
    ///
    /// # Errors
    /// [`BackupError::Checkpoint`] when it is damaged, of two other sides, or cannot be read or written.
    pub fn open(path: PathBuf, left: &Side, right: &Side) -> Result<Self, BackupError> {
        let refused = |problem: String| BackupError::Checkpoint { path: path.display().to_string(), problem };
        let (left, right) = (left.identity(), right.identity());
        let state = match std::fs::read(&path) {
            Ok(bytes) => {
                let state: State =
                    serde_json::from_slice(&bytes).map_err(|error| refused(format!("it is damaged: {error}")))?;
                if state.format != FORMAT {
                    return Err(refused(format!(
                        "it has the format {}, and this version reads {FORMAT}",
                        state.format
                    )));
                }
                if (&state.left, &state.right) != (&left, &right) {
                    return Err(refused(format!("it is of {} against {}", state.left, state.right)));
                }
                state
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                State { format: FORMAT, left, right, tables: BTreeMap::new() }
            }
            Err(error) => return Err(refused(crate::failure::without_errno(&error.to_string()))),
        };
        let checkpoint = Self { path, state: Mutex::new((state, None)) };
        // A place that cannot be written is better known before hours of reading.
        checkpoint.save()?;
        Ok(checkpoint)
    }

    /// What was read of a table before, as long as its marks are the same; else it is begun anew.
    pub(super) fn table(&self, name: &Name, marks: [Option<String>; 2]) -> Option<Kept<'_>> {
        let [Some(left), Some(right)] = marks else { return None };
        let (name, marks) = (name.to_string(), [left, right]);
        let mut held = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = held.0.tables.entry(name.clone()).or_default();
        if entry.marks != marks {
            *entry = Entry { marks, ..Entry::default() };
        }
        Some(Kept { checkpoint: self, name, equal: entry.equal, begun: entry.parts })
    }

    fn note(&self, name: &str, change: impl FnOnce(&mut Entry)) -> Result<(), BackupError> {
        let is_due = {
            let mut held = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            change(held.0.tables.entry(name.to_owned()).or_default());
            held.1.is_none_or(|last| last.elapsed() >= PAUSE)
        };
        if is_due { self.save() } else { Ok(()) }
    }

    /// Writes the file: beside it first, so that it is whole whenever this process dies.
    pub(super) fn save(&self) -> Result<(), BackupError> {
        let mut held = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |problem: String| BackupError::Checkpoint { path: self.path.display().to_string(), problem };
        let bytes = serde_json::to_vec(&held.0).map_err(|error| failed(error.to_string()))?;
        let mut beside = self.path.clone().into_os_string();
        beside.push(".new");
        let write = || {
            let mut file = std::fs::File::create(&beside)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            std::fs::rename(&beside, &self.path)
        };
        write().map_err(|error| failed(crate::failure::without_errno(&error.to_string())))?;
        held.1 = Some(Instant::now());
        Ok(())
    }

    /// Removes the file: what it says is over.
    pub(super) fn remove(&self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the checkpoint could not be removed; remove it before the next comparison");
        }
    }
}

/// One table of a checkpoint.
#[derive(Debug)]
pub(super) struct Kept<'c> {
    checkpoint: &'c Checkpoint,
    name: String,
    /// Its rows, when an earlier run has found it equal.
    pub(super) equal: Option<u64>,
    begun: [Part; 2],
}

impl Kept<'_> {
    /// Where to go on on a side: 0 is left.
    pub(super) fn begun(&self, side: usize) -> Part {
        self.begun.get(side).copied().unwrap_or_default()
    }

    /// Whether some of it was read by an earlier run.
    pub(super) fn is_resumed(&self) -> bool {
        self.begun.iter().any(|part| part.pages > 0)
    }

    pub(super) fn read(&self, side: usize, part: Part) -> Result<(), BackupError> {
        self.checkpoint.note(&self.name, |entry| {
            if let Some(place) = entry.parts.get_mut(side) {
                *place = part;
            }
        })
    }

    pub(super) fn found_equal(&self, rows: u64) -> Result<(), BackupError> {
        self.checkpoint.note(&self.name, |entry| (entry.equal, entry.parts) = (Some(rows), Default::default()))
    }

    /// Forgets what was read: it differs, and that is to be seen within one run.
    pub(super) fn forget(&self) -> Result<(), BackupError> {
        self.checkpoint.note(&self.name, |entry| (entry.equal, entry.parts) = (None, Default::default()))
    }
}
