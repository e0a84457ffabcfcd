//! A page that is written when a command has come to its end. Until then what stood there stays.

use std::fs::{File, Metadata, Permissions};
use std::io::{Error, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Kind, without_errno};

/// The file, and one beside it that becomes it.
pub(super) struct Page {
    file: PathBuf,
    /// `None` where there is nothing to take the place of, as with a pipe.
    beside: Option<PathBuf>,
    open: File,
}

impl Page {
    /// Finds out whether it can be written, and leaves it as it is.
    pub(super) fn begin(file: &Path) -> Result<Self, Failure> {
        let no_file = |error: Error| no_file(file, &error);
        // As it was named: what stands behind `/dev/stdout` has no name of its own.
        if std::fs::metadata(file).is_ok_and(|there| !there.is_file()) {
            // A pipe that nobody reads from is an error, and no wait without an end.
            let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
            let open = File::options().write(true).custom_flags(flags).open(file).map_err(no_file)?;
            rustix::fs::fcntl_setfl(&open, rustix::fs::OFlags::empty()).map_err(|error| no_file(error.into()))?;
            return Ok(Self { file: file.to_owned(), beside: None, open });
        }
        let file = behind(file).map_err(no_file)?;
        if file.exists() {
            File::options().append(true).open(&file).map_err(no_file)?;
        }
        let mut name = file.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let beside = file.with_file_name(name);
        let former = std::fs::metadata(&file).ok();
        let mode = if former.is_some() { 0o600 } else { 0o666 };
        let open = File::options().write(true).create_new(true).mode(mode).open(&beside).map_err(no_file)?;
        if let Some(former) = former {
            as_before(&open, &former);
        }
        Ok(Self { file, beside: Some(beside), open })
    }

    /// Writes it whole.
    pub(super) fn write(mut self, text: &str) -> Result<(), Failure> {
        let written = self.open.write_all(text.as_bytes()).and_then(|()| match &self.beside {
            Some(beside) => std::fs::rename(beside, &self.file),
            None => Ok(()),
        });
        written.map_err(|error| no_file(&self.file, &error))?;
        self.beside = None;
        Ok(())
    }
}

/// Gives a page the owner and the mode of the one whose place it takes: whoever was not to read that is not to read this. What
/// cannot be given is left out, and who would have it by another group with it.
fn as_before(open: &File, former: &Metadata) {
    let is_owned = fchown(open, Some(former.uid()), Some(former.gid())).is_ok();
    let is_grouped = is_owned || fchown(open, None, Some(former.gid())).is_ok();
    let mode = former.mode() & if is_grouped { 0o777 } else { 0o707 };
    let _ = open.set_permissions(Permissions::from_mode(mode));
}

/// What a link leads to, also when that is not there yet: the link stays one.
fn behind(file: &Path) -> Result<PathBuf, Error> {
    const LINKS: usize = 40;
    let mut file = file.to_owned();
    for _ in 0..LINKS {
        let Ok(to) = std::fs::read_link(&file) else { return Ok(file) };
        file = file.parent().map_or_else(|| to.clone(), |folder| folder.join(&to));
    }
    Err(rustix::io::Errno::LOOP.into())
}

impl Drop for Page {
    fn drop(&mut self) {
        if let Some(beside) = &self.beside {
            let _ = std::fs::remove_file(beside);
        }
    }
}

fn no_file(file: &Path, error: &Error) -> Failure {
    let message = format!("{} cannot be written: {}", file.display(), without_errno(&error.to_string()));
    Failure::new(Kind::Failed, message).with_hint("name a file in a folder that exists and may be written to")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stood_there_stays_until_there_is_something_else() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("page.html");
        let there = || std::fs::read_to_string(&file).unwrap_or_default();
        let files = || std::fs::read_dir(folder.path()).unwrap().count();
        drop(Page::begin(&file).unwrap());
        assert_eq!(files(), 0);
        Page::begin(&file).unwrap().write("first").unwrap();
        drop(Page::begin(&file).unwrap());
        assert_eq!((there().as_str(), files()), ("first", 1));
        Page::begin(&file).unwrap().write("second").unwrap();
        assert_eq!((there().as_str(), files()), ("second", 1));
        let link = folder.path().join("link.html");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        Page::begin(&link).unwrap().write("third").unwrap();
        assert_eq!((there().as_str(), link.is_symlink()), ("third", true));
        std::fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        Page::begin(&file).unwrap().write("closed").unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o640);
        let (ahead, none) = (folder.path().join("ahead.html"), folder.path().join("none.html"));
        std::os::unix::fs::symlink("none.html", &ahead).unwrap();
        Page::begin(&ahead).unwrap().write("fourth").unwrap();
        assert_eq!((std::fs::read_to_string(&none).unwrap().as_str(), ahead.is_symlink()), ("fourth", true));
        let round = folder.path().join("round.html");
        std::os::unix::fs::symlink("round.html", &round).unwrap();
        assert!(Page::begin(&round).is_err());
        let (reader, writer) = std::io::pipe().unwrap();
        let open = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&writer));
        Page::begin(Path::new(&open)).unwrap().write("fifth").unwrap();
        drop(writer);
        assert_eq!(std::io::read_to_string(reader).unwrap(), "fifth");
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        assert!(Page::begin(&pipe).is_err(), "nobody reads from it");
        Page::begin(Path::new("/dev/null")).unwrap().write("nowhere").unwrap();
        assert!(Page::begin(&folder.path().join("none/page.html")).is_err());
        assert!(Page::begin(folder.path()).is_err());
    }
}
