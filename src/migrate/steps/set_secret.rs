//! The `set_secret` operation: where Temporal's servers read which database they have.

use std::collections::BTreeMap;

use async_trait::async_trait;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Act, Ran, Reversal, StepError};
use crate::failure::Kind;
use crate::migrate::hands::Hands;
use crate::migrate::names::Text;
use crate::migrate::parameters::{ParameterError, Values};
use crate::migrate::world::Server;

/// Keys of a Secret, set to what the target is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SetSecretStep {
    /// The Secret.
    pub secret: Text,
    /// What each key is set to. A key `-` is left out.
    pub keys: Vec<SecretKey>,
}

/// One key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SecretKey {
    /// Its name.
    pub key: Text,
    /// What it is set to.
    pub value: SecretOf,
}

/// A value that a Secret may get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretOf {
    /// The target's host.
    TargetHost,
    /// Its port.
    TargetPort,
    /// `host:port`.
    TargetAddress,
    /// The role, else who logs in there.
    TargetUser,
    /// The password of `target.user`. Only where Temporal logs in as that.
    TargetPassword,
    /// The main database.
    TargetDatabase,
    /// The visibility database.
    TargetVisibilityDatabase,
}

/// A key that means: leave this one out.
const LEFT_OUT: &str = "-";

impl SetSecretStep {
    pub(super) fn render(&self, values: &Values) -> Result<Self, ParameterError> {
        let keys = self.keys.iter();
        let keys = keys.map(|one| Ok(SecretKey { key: one.key.render(values)?, value: one.value }));
        Ok(Self { secret: self.secret.render(values)?, keys: keys.collect::<Result<_, ParameterError>>()? })
    }

    pub(super) fn templates(&self) -> impl Iterator<Item = &Text> {
        std::iter::once(&self.secret).chain(self.keys.iter().map(|one| &one.key))
    }

    pub(super) fn validate(&self) -> Result<(), String> {
        match self.keys.is_empty() {
            true => Err("`keys` is empty; name a key and its value".to_owned()),
            false => Ok(()),
        }
    }

    fn wanted(&self, hands: &Hands<'_>) -> Result<BTreeMap<String, Vec<u8>>, StepError> {
        let target = hands.place(Server::Target)?;
        let settings = target.postgres.settings();
        let mut wanted = BTreeMap::new();
        for SecretKey { key, value } in self.keys.iter().filter(|one| one.key.as_str() != LEFT_OUT) {
            let value = match value {
                SecretOf::TargetHost => settings.host.clone(),
                SecretOf::TargetPort => settings.port.to_string(),
                SecretOf::TargetAddress => format!("{}:{}", settings.host, settings.port),
                SecretOf::TargetUser => settings.role.as_ref().unwrap_or(&settings.user).clone(),
                SecretOf::TargetPassword => {
                    settings.password.as_ref().map(|password| password.expose_secret().to_owned()).unwrap_or_default()
                }
                SecretOf::TargetDatabase => target.main.clone(),
                SecretOf::TargetVisibilityDatabase => target.visibility.clone().unwrap_or_default(),
            };
            wanted.insert(key.as_str().to_owned(), value.into_bytes());
        }
        Ok(wanted)
    }
}

#[async_trait]
impl Act for SetSecretStep {
    fn reversal(&self) -> Reversal {
        Reversal::Undo
    }

    fn is_repeatable(&self) -> bool {
        true
    }

    async fn check(&self, hands: &mut Hands<'_>) -> Result<Option<bool>, StepError> {
        let wanted = self.wanted(hands)?;
        let now = hands.kubernetes().await?.secret(self.secret.as_str()).await?;
        Ok(Some(wanted.iter().all(|(key, value)| now.get(key) == Some(value.as_slice()))))
    }

    /// What the keys hold now, sealed.
    async fn prepare(&self, hands: &mut Hands<'_>) -> Result<Value, StepError> {
        let wanted = self.wanted(hands)?;
        let now = hands.kubernetes().await?.secret(self.secret.as_str()).await?;
        let mut kept = Map::new();
        for key in wanted.keys() {
            let sealed = match now.get(key) {
                Some(value) => Value::String(hands.journal.seal(value).await?),
                None => Value::Null,
            };
            kept.insert(key.clone(), sealed);
        }
        Ok(json!({ "sealed": kept }))
    }

    async fn run(&self, hands: &mut Hands<'_>, _: &Value) -> Result<Ran, StepError> {
        let wanted = self.wanted(hands)?;
        let kubernetes = hands.kubernetes().await?;
        let now = kubernetes.secret(self.secret.as_str()).await?;
        let values = wanted.into_iter().map(|(key, value)| (key, Some(value))).collect();
        kubernetes.set_secret(self.secret.as_str(), &now.version, &values).await?;
        Ok(Ran::once(json!({ "keys": values.keys().collect::<Vec<_>>() })))
    }

    /// Back to what they held, unless somebody else has set them meanwhile.
    async fn undo(&self, hands: &mut Hands<'_>, kept: &Value) -> Result<(), StepError> {
        let wanted = self.wanted(hands)?;
        let now = hands.kubernetes().await?.secret(self.secret.as_str()).await?;
        let mut values = BTreeMap::new();
        let sealed: BTreeMap<String, Option<String>> = super::kept(&kept["sealed"])?;
        for (key, sealed) in &sealed {
            let before = match sealed {
                Some(sealed) => Some(hands.journal.open(sealed).await?),
                None => None,
            };
            let is = now.get(key);
            if is == before.as_deref() {
                continue;
            }
            if is != wanted.get(key).map(Vec::as_slice) {
                let message =
                    format!("key `{key}` of Secret `{}` was set by somebody else meanwhile", self.secret.as_str());
                return Err(StepError::new(Kind::Failed, message, "set it to what the source needs, then undo again"));
            }
            values.insert(key.clone(), before);
        }
        if values.is_empty() {
            return Ok(());
        }
        Ok(hands.kubernetes().await?.set_secret(self.secret.as_str(), &now.version, &values).await?)
    }
}
