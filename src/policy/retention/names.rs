//! Names and texts of namespaces, as types that Temporal takes.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::SYSTEM_NAMESPACE;

/// The server's default of `limit.maxIDLength`, in bytes.
const MAX_NAME_BYTES: usize = 1000;

/// The name of a namespace that sexton may change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String")]
pub struct NamespaceName(pub(super) String);

impl NamespaceName {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for NamespaceName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        check_name(&name)?;
        if name == SYSTEM_NAMESPACE {
            return Err(format!("`{SYSTEM_NAMESPACE}` is Temporal's own namespace and is never touched; remove it"));
        }
        if name.contains('*') {
            return Err(format!("`{name}` is a pattern; patterns go under `applies_to` and `ignore`, names go here"));
        }
        Ok(Self(name))
    }
}

impl fmt::Display for NamespaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name in which `*` stands for any number of characters: `*`, `team-a-*`, `*-staging`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String")]
pub struct NamePattern(pub(super) String);

impl NamePattern {
    /// As written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True when the whole name fits the pattern.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        glob_matches(&self.0, name)
    }
}

/// True when the whole name fits a pattern in which `*` stands for any number of characters.
#[must_use]
pub fn glob_matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    // The earliest place for each part in the middle leaves the most for those after it.
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

impl TryFrom<String> for NamePattern {
    type Error = String;

    fn try_from(pattern: String) -> Result<Self, String> {
        check_name(&pattern)?;
        Ok(Self(pattern))
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is not empty: Temporal takes an empty one for "leave it as it is".
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String")]
pub struct Text(String);

impl Text {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Text {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err("Temporal cannot set this back to empty; write a text or leave the key out".into());
        }
        Ok(Self(text))
    }
}

/// A key of a namespace's own data.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String")]
pub struct DataKey(String);

impl DataKey {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for DataKey {
    type Error = String;

    fn try_from(key: String) -> Result<Self, String> {
        if key.trim().is_empty() {
            return Err("a key under `data` is empty; write the key, or remove it".into());
        }
        Ok(Self(key))
    }
}

fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("the name of a namespace is empty; write the name, or remove it".into());
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(format!(
            "the name of a namespace is longer than {MAX_NAME_BYTES} bytes; Temporal takes no longer one"
        ));
    }
    if name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(format!(
            "`{}` is not the name of a namespace; it has a space or a control character",
            name.escape_debug()
        ));
    }
    Ok(())
}
