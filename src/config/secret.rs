//! Secrets in the configuration: never the value, always where it is.

use std::fmt;
use std::path::PathBuf;

use secrecy::SecretString;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::{Location, Spanned};

use crate::document::{ConfigError, Document};
use crate::failure::without_errno;

/// Where a secret is: `{env: NAME}` or `{file: PATH}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SecretRef {
    /// In an environment variable.
    Env(String),
    /// In a file, as Kubernetes mounts it; one trailing line end is not part of it.
    File(PathBuf),
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretVisitor)
    }
}

struct SecretVisitor;

// The message must not quote what was found: it may well be the password.
const NOT_HERE: &str = "a secret is never written here; write {env: NAME} or {file: PATH}";

impl<'de> Visitor<'de> for SecretVisitor {
    type Value = SecretRef;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{env: NAME} or {file: PATH}")
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<SecretRef, E> {
        Err(E::custom(NOT_HERE))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<SecretRef, E> {
        Err(E::custom(NOT_HERE))
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<SecretRef, E> {
        Err(E::custom(NOT_HERE))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<SecretRef, E> {
        Err(E::custom(NOT_HERE))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<SecretRef, E> {
        Err(E::custom(NOT_HERE))
    }

    fn visit_unit<E: de::Error>(self) -> Result<SecretRef, E> {
        Err(E::custom("a secret is missing here; write {env: NAME} or {file: PATH}"))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, _: A) -> Result<SecretRef, A::Error> {
        Err(de::Error::custom(NOT_HERE))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretRef, A::Error> {
        let Some(key) = map.next_key::<String>()? else {
            return Err(de::Error::custom("a secret is missing here; write {env: NAME} or {file: PATH}"));
        };
        let found = match key.as_str() {
            "env" => SecretRef::Env(map.next_value::<VariableName>()?.0),
            "file" => SecretRef::File(map.next_value()?),
            _ => {
                return Err(de::Error::custom(
                    "a secret comes from `env` or `file` and nothing else; write {env: NAME} or {file: PATH}",
                ));
            }
        };
        if map.next_key::<String>()?.is_some() {
            return Err(de::Error::custom("a secret with two sources; keep one of `env` and `file`"));
        }
        Ok(found)
    }
}

/// An address: written out where it is no secret, else where it is.
#[derive(Clone)]
pub(super) enum UrlRef {
    /// The address itself.
    Plain(String),
    /// Where it is.
    Secret(SecretRef),
}

// Somebody may have written out one that is a secret.
impl fmt::Debug for UrlRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(_) => f.write_str("Plain(..)"),
            Self::Secret(secret) => f.debug_tuple("Secret").field(secret).finish(),
        }
    }
}

impl<'de> Deserialize<'de> for UrlRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UrlVisitor)
    }
}

struct UrlVisitor;

impl<'de> Visitor<'de> for UrlVisitor {
    type Value = UrlRef;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an address, {env: NAME} or {file: PATH}")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<UrlRef, E> {
        Ok(UrlRef::Plain(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<UrlRef, A::Error> {
        SecretVisitor.visit_map(map).map(UrlRef::Secret)
    }
}

/// The name of an environment variable. A password that was written in its place is hardly ever one.
struct VariableName(String);

impl<'de> Deserialize<'de> for VariableName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let word = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if word && name.starts_with(|c: char| !c.is_ascii_digit()) {
            return Ok(Self(name));
        }
        Err(de::Error::custom(
            "this is not the name of an environment variable; write letters, digits and `_`, and never the secret itself",
        ))
    }
}

/// Whether secrets, and files beside them, are read or only where they are is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Secrets {
    /// They are needed.
    Read,
    /// They are not, and need not be there.
    Unread,
}

impl Secrets {
    /// What this reads, when secrets are read.
    pub(super) fn read<T>(self, read: impl FnOnce() -> Result<T, ConfigError>) -> Result<Option<T>, ConfigError> {
        match self {
            Self::Read => read().map(Some),
            Self::Unread => Ok(None),
        }
    }
}

/// Where it is, for people: `the variable NAME`.
impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "the variable {name}"),
            Self::File(path) => write!(f, "the file {}", path.display()),
        }
    }
}

/// Reads the secret.
///
/// # Errors
/// When the variable is not set, the file cannot be read, or what is there is empty.
pub(super) fn read(doc: &Document, secret: &Spanned<SecretRef>) -> Result<SecretString, ConfigError> {
    read_at(doc, secret.referenced, &secret.value)
}

/// The same for one that stands at this place.
///
/// # Errors
/// As [`read`].
pub(super) fn read_at(doc: &Document, at: Location, secret: &SecretRef) -> Result<SecretString, ConfigError> {
    let fail = |message: String, hint: &str| Err(doc.error_at(at, message, hint));
    match secret {
        SecretRef::Env(name) => match std::env::var(name) {
            Ok(value) if value.is_empty() => {
                fail(format!("the environment variable {name} is empty"), "give it the secret's value")
            }
            Ok(value) => Ok(value.into()),
            Err(std::env::VarError::NotPresent) => fail(
                format!("the environment variable {name} is not set"),
                "set it before sexton starts; in Kubernetes through env.valueFrom.secretKeyRef",
            ),
            Err(std::env::VarError::NotUnicode(_)) => {
                fail(format!("the environment variable {name} is not UTF-8"), "check how it is set")
            }
        },
        SecretRef::File(path) => {
            let full = doc.folder().join(path);
            match std::fs::read_to_string(&full) {
                Ok(text) => {
                    let value = text.strip_suffix('\n').unwrap_or(&text);
                    let value = value.strip_suffix('\r').unwrap_or(value);
                    if value.is_empty() {
                        return fail(
                            format!("the secret file {} is empty", full.display()),
                            "write the secret into it",
                        );
                    }
                    Ok(value.to_owned().into())
                }
                Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                    fail(format!("the secret file {} is not text in UTF-8", full.display()), "save it as UTF-8")
                }
                Err(error) => fail(
                    format!("the secret file {} cannot be read: {}", full.display(), without_errno(&error.to_string())),
                    "check the path and that the user that runs sexton may read it",
                ),
            }
        }
    }
}
