//! Secrets in the configuration: never the value, always where it is.

use std::fmt;
use std::path::PathBuf;

use secrecy::SecretString;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

use super::document::{ConfigError, Document};

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

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretRef, A::Error> {
        const KEYS: &[&str] = &["env", "file"];
        let Some(key) = map.next_key::<String>()? else {
            return Err(de::Error::custom("a secret needs {env: NAME} or {file: PATH}"));
        };
        let found = match key.as_str() {
            "env" => SecretRef::Env(map.next_value()?),
            "file" => SecretRef::File(map.next_value()?),
            other => return Err(de::Error::unknown_field(other, KEYS)),
        };
        if map.next_key::<String>()?.is_some() {
            return Err(de::Error::custom("a secret has one source: either `env` or `file`"));
        }
        Ok(found)
    }
}

/// Reads the secret.
///
/// # Errors
/// When the variable is not set, the file cannot be read, or what is there is empty.
pub(super) fn read(doc: &Document, secret: &Spanned<SecretRef>) -> Result<SecretString, ConfigError> {
    let fail = |message: String, hint: &str| Err(doc.error_at(secret.referenced, message, hint));
    match &secret.value {
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
                Err(error) => fail(
                    format!("the secret file {} cannot be read: {error}", full.display()),
                    "check the path and that the user that runs sexton may read it",
                ),
            }
        }
    }
}
