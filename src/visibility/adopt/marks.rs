//! What an adoption leaves on indices so that a later one knows them again: aliases, since those cost nothing, are seen
//! by no mapping and change together with the swap.

use jiff::Timestamp;

/// The longest name that leaves room for the marks below the engines' limit of 255 bytes.
pub(super) const LONGEST_NAME: usize = 200;

/// A mark of sexton's on an index of the family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    /// On the live index: its write block belongs to this adoption, and must be gone by the deadline.
    Adopts {
        /// Whole seconds.
        deadline: Timestamp,
        /// The adoption.
        id: String,
    },
    /// On the empty index that is to become the write index.
    Next {
        /// The adoption.
        id: String,
    },
    /// On the key of a swap: an empty index that the swap has to remove, where that cannot be made to fail by `must_exist`.
    Key {
        /// The adoption.
        id: String,
    },
    /// On a clone of the live index.
    Clone {
        /// Of which index, by [`tag`].
        of: String,
    },
    /// On a copy of the live index.
    Copy {
        /// Of which index, by [`tag`].
        of: String,
    },
}

impl Mark {
    /// The alias's name.
    #[must_use]
    pub fn alias(&self, index: &str) -> String {
        match self {
            Self::Adopts { deadline, id } => format!("{index}-sexton-adopts-{}-{id}", deadline.as_second()),
            Self::Next { id } => format!("{index}-sexton-next-{id}"),
            Self::Key { id } => format!("{index}-sexton-unlocks-{id}"),
            Self::Clone { of } => format!("{index}-sexton-clone-{of}"),
            Self::Copy { of } => format!("{index}-sexton-copy-{of}"),
        }
    }

    /// The mark that an alias is; `None` when it is none of sexton's.
    #[must_use]
    pub fn read(index: &str, alias: &str) -> Option<Self> {
        let rest = alias.strip_prefix(index)?.strip_prefix("-sexton-")?;
        let (kind, rest) = rest.split_once('-')?;
        match kind {
            "adopts" => {
                let (seconds, id) = rest.split_once('-')?;
                let deadline = Timestamp::from_second(seconds.parse().ok()?).ok()?;
                Some(Self::Adopts { deadline, id: id.to_owned() })
            }
            "next" => Some(Self::Next { id: rest.to_owned() }),
            "unlocks" => Some(Self::Key { id: rest.to_owned() }),
            "clone" => Some(Self::Clone { of: rest.to_owned() }),
            "copy" => Some(Self::Copy { of: rest.to_owned() }),
            _ => None,
        }
    }
}

/// A short form of an index's UUID, which an alias can hold.
pub(super) fn tag(uuid: &str) -> String {
    blake3::hash(uuid.as_bytes()).to_hex().chars().take(12).collect()
}

/// The number at the end of the name of an index that the rollover of `index` would make or skip.
pub(super) fn number(index: &str, name: &str) -> Option<u64> {
    let digits = name.strip_prefix(index)?.strip_prefix('-')?;
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

/// The name of the index of this number.
pub(super) fn numbered(index: &str, number: u64) -> String {
    format!("{index}-{number:06}")
}

/// The name of the key index of the adoption of this id.
pub(super) fn key(index: &str, id: &str) -> String {
    format!("{index}-sexton-key-{id}")
}

/// Whether an index is the key of a swap: by its name and by its mark, and behind no other alias.
pub(super) fn is_key<'a>(index: &str, name: &str, aliases: impl IntoIterator<Item = &'a String>) -> bool {
    let mut aliases = aliases.into_iter();
    let marked = aliases.next().and_then(|alias| Mark::read(index, alias));
    aliases.next().is_none() && matches!(marked, Some(Mark::Key { id }) if name == key(index, &id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_back() {
        let id = || "0a1b2c3d".to_owned();
        let of = tag("kPNs-_");
        let deadline = Timestamp::from_second(1_800_000_000).unwrap();
        for mark in [
            Mark::Adopts { deadline, id: id() },
            Mark::Next { id: id() },
            Mark::Key { id: id() },
            Mark::Clone { of: of.clone() },
            Mark::Copy { of },
        ] {
            let alias = mark.alias("v-1");
            assert_eq!(Mark::read("v-1", &alias), Some(mark));
            assert!(alias.len() <= "v-1".len() + 55, "{alias}");
        }
    }

    #[test]
    fn other_aliases_are_no_marks() {
        for alias in
            ["v", "v-000001", "v-sexton", "v-sexton-", "v-sexton-adopts-x-1", "v-sexton-adopts-1", "w-sexton-next-1"]
        {
            assert_eq!(Mark::read("v", alias), None, "{alias}");
        }
    }

    #[test]
    fn a_key_is_known_by_its_name_and_its_only_alias() {
        let mark = |id: &str| Mark::Key { id: id.into() }.alias("v");
        let check = |name: &str, aliases: &[String], expect| assert_eq!(is_key("v", name, aliases), expect, "{name}");
        check("v-sexton-key-a", &[mark("a")], true);
        check("v-sexton-key-a", &[mark("b")], false);
        check("v-sexton-key-a", &[], false);
        check("v-sexton-key-a", &[mark("a"), "theirs".into()], false);
        check("v-sexton-key-a", &["theirs".into(), mark("a")], false);
        check("v-000002", &[mark("a")], false);
    }

    #[test]
    fn numbers_are_those_of_a_rollover() {
        let check = |name: &str, expect: Option<u64>| assert_eq!(number("v", name), expect, "{name}");
        check("v-000001", Some(1));
        check("v-7", Some(7));
        check("v-000001-old", None);
        check("v-", None);
        check("v", None);
        check("vx-000001", None);
        assert_eq!(numbered("v", 2), "v-000002");
    }
}
