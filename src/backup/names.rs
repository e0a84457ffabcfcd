//! The names of chunks: of their objects, in the store's listing, and in lists that are objects themselves.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

use super::chunk::ChunkId;
use super::seal::SetId;
use super::store::{Entry, Key, KeyError, Store, StoreError};
use crate::text::text_serde;

/// The name of a chunk's object. What is encrypted lies beside what is not, and beside what is encrypted for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChunkName {
    /// What it holds.
    pub id: ChunkId,
    /// The recipients it is encrypted for; `None` when it is not.
    pub sealed: Option<SetId>,
}

impl ChunkName {
    /// Where it lies in the store.
    ///
    /// # Errors
    /// Never in practice: such names make keys.
    pub fn key(&self) -> Result<Key, KeyError> {
        let text = self.to_string();
        let (folder, _) = text.split_at(2);
        Key::new(format!("chunks/{folder}/{text}"))
    }

    /// The chunk that lies under this key; `None` when the key is not exactly where a chunk lies.
    #[must_use]
    pub fn of_key(key: &Key) -> Option<Self> {
        let (folder, name) = key.as_str().strip_prefix("chunks/")?.split_once('/')?;
        let parsed: Self = name.parse().ok()?;
        // Upper-case digits would be read as well, and be another object's name.
        (parsed.to_string() == name && name.get(..2) == Some(folder)).then_some(parsed)
    }
}

impl fmt::Display for ChunkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sealed {
            None => write!(f, "{}", self.id),
            Some(set) => write!(f, "{}.{set}.age", self.id),
        }
    }
}

impl FromStr for ChunkName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_suffix(".age").and_then(|name| name.split_once('.')) {
            Some((id, set)) => Ok(Self { id: id.parse()?, sealed: Some(set.parse()?) }),
            None => Ok(Self { id: text.parse()?, sealed: None }),
        }
    }
}

text_serde!(ChunkName);

/// Every chunk that the store has, whoever named it. What else lies there is left out.
///
/// # Errors
/// When the listing is not complete.
pub(super) async fn listed(store: &dyn Store) -> Result<Vec<(ChunkName, Entry)>, StoreError> {
    let entries = store.list("chunks/").await?;
    Ok(entries.into_iter().filter_map(|entry| Some((ChunkName::of_key(&entry.key)?, entry))).collect())
}

/// The largest list that is read: sixteen million names.
pub(super) const MAX_NAMES: u64 = 1 << 30;

/// The bytes of a list: one name a line, so that `sort`, `comm` and `grep` read it as well.
pub(super) fn write(names: impl IntoIterator<Item = ChunkName>) -> Bytes {
    let mut text = String::new();
    for name in names {
        text.push_str(&name.to_string());
        text.push('\n');
    }
    text.into()
}

/// The names of a list.
///
/// # Errors
/// When a line is no name of a chunk.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<ChunkName>, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    text.lines().map(str::parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::chunk::Keys;
    use crate::backup::rows::Format;

    #[test]
    fn a_name_is_read_back_and_nothing_else_passes_for_one() {
        let id = Keys::new("x", Format::Text).id(b"x");
        let sealed = Some("0a1b2c3d".parse().unwrap());
        for name in [ChunkName { id, sealed: None }, ChunkName { id, sealed }] {
            assert_eq!(name.to_string().parse(), Ok(name));
            assert_eq!(ChunkName::of_key(&name.key().unwrap()), Some(name));
        }
        let text = id.to_string();
        let check = |key: String| assert_eq!(ChunkName::of_key(&Key::new(key).unwrap()), None);
        for end in [".age", ".0a1b2c3.age", ".0A1B2C3D.age", ".0a1b2c3d", ".0a1b2c3d.age.tmp", "0"] {
            check(format!("chunks/{}/{text}{end}", &text[..2]));
        }
        check(format!("chunks/{}/{}", &text[..2], text.to_uppercase()));
        check(format!("other/{}/{text}", &text[..2]));
        check(format!("chunks/{text}"));
    }

    #[test]
    fn a_list_reads_back_and_what_is_no_list_does_not() {
        let keys = Keys::new("x", Format::Text);
        let names: Vec<ChunkName> =
            [b"a", b"b"].iter().map(|bytes| ChunkName { id: keys.id(*bytes), sealed: None }).collect();
        assert_eq!(read(&write(names.clone())), Ok(names));
        assert_eq!(read(b""), Ok(vec![]));
        assert!(read(b"{}\n").is_err() && read(b"\xff").is_err());
    }
}
