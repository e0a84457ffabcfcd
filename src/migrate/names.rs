//! The words a recipe is made of: names, databases, statements, texts with parameters in them, digests.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::parameters::{self, ParameterError, Values};

/// A name of a recipe, stage, step or parameter: lower-case letters, digits, `-` and `_`, from a letter on, up to 63.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let starts = text.starts_with(|c: char| c.is_ascii_lowercase());
        let rest = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
        if starts && rest && text.len() <= 63 {
            return Ok(Self(text));
        }
        Err(format!("`{text}` is not a name; use lower-case letters, digits, `-` and `_`, a letter first, 63 at most"))
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A database by the role it has for Temporal, or by its own name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Database {
    /// Temporal's default store.
    Main,
    /// Temporal's SQL visibility store.
    Visibility,
    /// Any other database of the same server.
    Named(String),
}

impl TryFrom<String> for Database {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "main" => Ok(Self::Main),
            "visibility" => Ok(Self::Visibility),
            other if (1..=63).contains(&other.len()) && !other.contains('\0') => Ok(Self::Named(text)),
            _ => {
                Err("this is not a database; write `main`, `visibility`, or the name of one (1 to 63 bytes)".to_owned())
            }
        }
    }
}

impl From<Database> for String {
    fn from(database: Database) -> Self {
        database.to_string()
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Main => "main",
            Self::Visibility => "visibility",
            Self::Named(name) => name,
        })
    }
}

/// One SQL statement as written, without the white space around it; may hold `${parameter}` and
/// `${parameter:literal}`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sql(String);

impl Sql {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn render(&self, values: &Values) -> Result<Self, ParameterError> {
        parameters::render(&self.0, values).map(Self)
    }
}

impl TryFrom<String> for Sql {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let trimmed = text.trim().trim_end_matches(';').trim_end();
        if trimmed.is_empty() {
            Err("a statement must not be empty; write SQL, or leave it out".to_owned())
        } else {
            Ok(Self(trimmed.to_owned()))
        }
    }
}

impl From<Sql> for String {
    fn from(sql: Sql) -> Self {
        sql.0
    }
}

/// A text of a recipe that is not SQL; may hold `${parameter}`, which becomes the value as it is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Text(String);

impl Text {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn render(&self, values: &Values) -> Result<Self, ParameterError> {
        parameters::render_plain(&self.0, values).map(Self)
    }
}

impl TryFrom<String> for Text {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.trim().is_empty() || text.contains('\0') {
            true => Err("this text must not be empty; write something, or leave it out".to_owned()),
            false => Ok(Self(text)),
        }
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
    }
}

/// BLAKE3 of a canonical form, in hex.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Digest(String);

impl Digest {
    /// Of anything that has one canonical JSON.
    pub(crate) fn of(canonical: &impl Serialize) -> Self {
        let json = serde_json::to_vec(canonical).unwrap_or_default();
        Self(blake3::hash(&json).to_hex().to_string())
    }

    pub(crate) fn stored(text: String) -> Self {
        Self(text)
    }

    /// As hex.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
