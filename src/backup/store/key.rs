use std::fmt;

/// The name of an object: segments of `a-z A-Z 0-9 - _ .`, parted by single slashes, none of them `.` or `..` or
/// beginning with a dot, 512 bytes at most. Such a name means the same in a bucket and in a file system.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

/// Why a text is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` cannot be the name of an object")]
pub struct KeyError(pub String);

impl Key {
    /// The key of this text.
    ///
    /// # Errors
    /// When it breaks one of the rules above.
    pub fn new(text: impl Into<String>) -> Result<Self, KeyError> {
        let text = text.into();
        let fits = !text.is_empty() && text.len() <= 512 && text.split('/').all(valid_segment);
        if fits { Ok(Self(text)) } else { Err(KeyError(text.chars().take(200).collect())) }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn valid_segment(segment: &str) -> bool {
    !segment.is_empty()
        && !segment.starts_with('.')
        && segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_plain_relative_names_are_keys() {
        let check = |text: &str, expect: bool| assert_eq!(Key::new(text).is_ok(), expect, "{text:?}");
        check("chunks/ab/abcdef", true);
        check("backups/20260101T000000Z-ab12/manifest.json", true);
        for text in
            ["", "/", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", ".hidden", "a b", "a\\b", "a\0", "ä", "C:a"]
        {
            check(text, false);
        }
        check(&"a".repeat(513), false);
    }

    proptest! {
        #[test]
        fn no_key_leaves_its_folder(text in ".{0,40}") {
            if let Ok(key) = Key::new(text) {
                let path = std::path::Path::new("/root-of-store").join(key.as_str());
                prop_assert!(path.components().all(|c| !matches!(c, std::path::Component::ParentDir)));
                prop_assert!(path.starts_with("/root-of-store"));
            }
        }
    }
}
