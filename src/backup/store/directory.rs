use std::fs::{DirEntry, Metadata};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use super::{Entry, Key, Store, StoreError, Unfinished, is_folder};
use crate::failure::without_errno;

/// A store in a directory. An object is written to a temporary file beside its place, synced and renamed, so a crash
/// leaves at worst a file whose name begins with a dot, which no listing shows.
#[derive(Debug, Clone)]
pub struct Directory {
    root: PathBuf,
}

impl Directory {
    /// The store in this directory, which is made with the first object.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        doing: String,
        key: Option<&Key>,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let root = self.root.clone();
        let result = tokio::task::spawn_blocking(move || work(&root)).await;
        let result = result.unwrap_or_else(|panic| Err(io::Error::other(panic.to_string())));
        result.map_err(|error| self.error(doing, key, &error))
    }

    fn error(&self, doing: String, key: Option<&Key>, error: &io::Error) -> StoreError {
        let location = self.location();
        match (error.kind(), key) {
            (ErrorKind::NotFound, Some(key)) => StoreError::NotFound { location, key: key.to_string() },
            (ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem, _) => {
                StoreError::AccessDenied { location, doing, message: without_errno(&error.to_string()) }
            }
            (ErrorKind::StorageFull | ErrorKind::QuotaExceeded, _) => StoreError::Full { location, doing },
            _ => StoreError::Other { location, doing, message: without_errno(&error.to_string()) },
        }
    }
}

#[async_trait]
impl Store for Directory {
    fn location(&self) -> String {
        self.root.display().to_string()
    }

    async fn reach(&self) -> Result<(), StoreError> {
        let work = |root: &Path| match std::fs::read_dir(root) {
            Err(error) if error.kind() == ErrorKind::NotFound => has_place(root),
            looked => looked.map(drop),
        };
        self.blocking("looking at it".into(), None, work).await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        let work = |root: &Path| {
            make(root)?;
            let probe = root.join(temporary("check"));
            std::fs::write(&probe, b"sexton")?;
            std::fs::remove_file(&probe)
        };
        self.blocking("checking that it can be written to".into(), None, work).await
    }

    async fn put(&self, key: &Key, body: Bytes) -> Result<(), StoreError> {
        let name = key.clone();
        let work = move |root: &Path| write(root, &name, &body, true).map(|_| ());
        self.blocking(format!("storing `{key}`"), None, work).await
    }

    async fn put_if_absent(&self, key: &Key, body: Bytes) -> Result<bool, StoreError> {
        let name = key.clone();
        let work = move |root: &Path| write(root, &name, &body, false);
        self.blocking(format!("storing `{key}`"), None, work).await
    }

    async fn get(&self, key: &Key, limit: u64) -> Result<Bytes, StoreError> {
        let name = key.clone();
        let work = move |root: &Path| {
            let path = root.join(name.as_str());
            let metadata = std::fs::metadata(&path)?;
            // A pipe would never end; an object is a file, as in every listing.
            if !metadata.is_file() {
                return Err(ErrorKind::NotFound.into());
            }
            let size = metadata.len();
            if size > limit { Ok(Err(size)) } else { std::fs::read(path).map(Ok) }
        };
        match self.blocking(format!("reading `{key}`"), Some(key), work).await? {
            Ok(bytes) => Ok(bytes.into()),
            Err(size) => Err(StoreError::TooLarge { location: self.location(), key: key.to_string(), size, limit }),
        }
    }

    async fn size(&self, key: &Key) -> Result<Option<u64>, StoreError> {
        let name = key.clone();
        let work = move |root: &Path| match std::fs::metadata(root.join(name.as_str())) {
            Ok(metadata) if metadata.is_file() => Ok(Some(metadata.len())),
            Ok(_) => Ok(None),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        };
        self.blocking(format!("looking for `{key}`"), None, work).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        let wanted = prefix.to_owned();
        let work = move |root: &Path| {
            let mut entries = Vec::new();
            // Only the folder that the prefix names is walked.
            let folder = wanted.rfind('/').and_then(|end| wanted.get(..end)).unwrap_or_default();
            let safe = folder.is_empty() || Key::new(folder).is_ok();
            if safe {
                walk(root, folder, &mut entries)?;
            }
            if entries.is_empty() {
                has_place(root)?;
            }
            entries.retain(|entry: &Entry| entry.key.as_str().starts_with(&wanted));
            entries.sort_by(|a, b| a.key.cmp(&b.key));
            Ok(entries)
        };
        self.blocking(format!("listing `{prefix}`"), None, work).await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        let name = key.clone();
        let work = move |root: &Path| match std::fs::remove_file(root.join(name.as_str())) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        self.blocking(format!("removing `{key}`"), None, work).await
    }

    async fn unfinished(&self) -> Result<Vec<Unfinished>, StoreError> {
        let work = |root: &Path| {
            let mut found = Vec::new();
            for folder in ["chunks", "backups", "prune"] {
                walk_temporary(root, folder, &mut found)?;
            }
            Ok(found)
        };
        self.blocking("looking for temporary files".into(), None, work).await
    }

    async fn abandon(&self, what: &Unfinished) -> Result<(), StoreError> {
        let name = what.name.clone();
        let work = move |root: &Path| {
            // Only what `unfinished` could have named.
            if !name.rsplit_once('/').is_some_and(|(folder, last)| is_folder(folder) && is_temporary(last)) {
                return Ok(());
            }
            match std::fs::remove_file(root.join(&name)) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        };
        self.blocking(format!("removing the temporary file `{}`", what.name), None, work).await
    }
}

fn modified(metadata: &std::fs::Metadata) -> Option<Timestamp> {
    metadata.modified().ok().and_then(|at| Timestamp::try_from(at).ok())
}

/// The names that [`temporary`] gives to what is being written.
fn is_temporary(name: &str) -> bool {
    let digits = name.strip_prefix(".partial-").unwrap_or_default();
    digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit())
}

/// What is in a folder, by name; nothing when there is no such folder. Names that are no text are someone else's.
fn items(folder: &Path) -> io::Result<Vec<(String, DirEntry)>> {
    let listing = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut items = Vec::new();
    for item in listing {
        let item = item?;
        if let Ok(name) = item.file_name().into_string() {
            items.push((name, item));
        }
    }
    Ok(items)
}

/// `None` when it was removed since the listing, or has got its final name.
fn metadata(item: &DirEntry) -> io::Result<Option<Metadata>> {
    match item.metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

fn walk_temporary(root: &Path, folder: &str, found: &mut Vec<Unfinished>) -> io::Result<()> {
    for (name, item) in items(&root.join(folder))? {
        let (kind, path) = (item.file_type()?, format!("{folder}/{name}"));
        if kind.is_dir() && is_folder(&path) {
            walk_temporary(root, &path, found)?;
        } else if kind.is_file() && is_temporary(&name) && is_folder(folder) {
            let unfinished = |metadata| Unfinished { name: path, upload: None, since: modified(&metadata) };
            found.extend(metadata(&item)?.map(unfinished));
        }
    }
    Ok(())
}

fn temporary(purpose: &str) -> String {
    format!(".{purpose}-{}", uuid::Uuid::new_v4().simple())
}

/// Makes the store's own folder, and none above it: where a disk is not mounted, they would be on another one. Only its
/// owner looks into it, for its names and sizes tell of the database.
fn make(root: &Path) -> io::Result<()> {
    has_place(root)?;
    match std::fs::DirBuilder::new().mode(0o700).create(root) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn has_place(root: &Path) -> io::Result<()> {
    let above = root.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match above.try_exists()? {
        true => Ok(()),
        false => Err(io::Error::other(format!("there is no folder {}; make it, or mount its disk", above.display()))),
    }
}

/// True when the object was written, false when it was there and `replace` is false.
fn write(root: &Path, key: &Key, body: &[u8], replace: bool) -> io::Result<bool> {
    let path = root.join(key.as_str());
    let folder = path.parent().unwrap_or(root);
    let new_folder = !folder.try_exists()?;
    if new_folder {
        make(root)?;
        std::fs::create_dir_all(folder)?;
    }
    if !replace && path.try_exists()? {
        return Ok(false);
    }
    let partial = folder.join(temporary("partial"));
    let outcome = write_synced(&partial, body).and_then(|()| {
        if replace {
            std::fs::rename(&partial, &path)?;
            return Ok(true);
        }
        // A hard link fails when the name exists, which a rename would not.
        match std::fs::hard_link(&partial, &path) {
            Ok(()) => std::fs::remove_file(&partial).map(|()| true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => std::fs::remove_file(&partial).map(|()| false),
            // File systems without hard links.
            Err(error) if error.kind() == ErrorKind::Unsupported || error.raw_os_error() == Some(1) => {
                std::fs::rename(&partial, &path).map(|()| true)
            }
            Err(error) => Err(error),
        }
    });
    if outcome.is_err() {
        let _ = std::fs::remove_file(&partial);
    } else {
        // The new name lives in the folder, which has to reach the disk too.
        std::fs::File::open(folder)?.sync_all()?;
        // As does the folder's own, in those above it, when it was made just now.
        for above in folder.ancestors().skip(1).take_while(|above| new_folder && above.starts_with(root)) {
            std::fs::File::open(above)?.sync_all()?;
        }
    }
    outcome
}

fn write_synced(path: &Path, body: &[u8]) -> io::Result<()> {
    // A backup is as secret as the database it was taken from.
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(body)?;
    file.sync_all()
}

fn walk(root: &Path, folder: &str, entries: &mut Vec<Entry>) -> io::Result<()> {
    for (name, item) in items(&root.join(folder))? {
        let text = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        let Ok(key) = Key::new(text) else { continue };
        let kind = item.file_type()?;
        if kind.is_dir() {
            walk(root, key.as_str(), entries)?;
        } else if kind.is_file() {
            let entry = |metadata: Metadata| Entry { key, size: metadata.len(), modified: modified(&metadata) };
            entries.extend(metadata(&item)?.map(entry));
        }
    }
    Ok(())
}
