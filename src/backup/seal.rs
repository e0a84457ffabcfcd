//! How a chunk lies in the store: a zstd frame, and when the policy names recipients, that in an age file. Whoever makes
//! backups needs the recipients only; reading takes one of their identities.

use std::fmt;
use std::io::{Read, Write};
use std::str::FromStr;

use age::secrecy::ExposeSecret;
use bytes::Bytes;
use secrecy::SecretString;

use super::chunk::{self, ChunkError, ChunkRef, Keys};
use crate::text::text_serde;

/// For whom chunks are encrypted.
#[derive(Clone)]
pub struct Recipients {
    id: SetId,
    all: Vec<age::x25519::Recipient>,
}

/// A name for a set of recipients: 32 bits of a BLAKE3 of their public keys. Chunks of one set lie beside those of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SetId([u8; 4]);

/// What opens encrypted chunks; may be empty.
#[derive(Clone, Default)]
pub struct Identities(Vec<age::x25519::Identity>);

/// A text that is no key of age's. The text is never repeated: it may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyTextError {
    /// Not a public key.
    #[error("this is no recipient: age's public keys begin with `age1` and have 62 characters")]
    Recipient,
    /// A secret key where a public one belongs.
    #[error("this is a secret key; only its recipient belongs here, the line `# public key:` of its file")]
    Secret,
    /// Not a secret key.
    #[error("there is no identity in it: age's secret keys are lines that begin with `AGE-SECRET-KEY-1`")]
    Identity,
}

impl Recipients {
    /// Those of these public keys; `None` when there are none.
    ///
    /// # Errors
    /// When one is no public key.
    pub fn read<'a>(keys: impl IntoIterator<Item = &'a str>) -> Result<Option<Self>, KeyTextError> {
        let mut all = keys.into_iter().map(recipient).collect::<Result<Vec<_>, _>>()?;
        all.sort_by_key(ToString::to_string);
        all.dedup_by_key(|key| key.to_string());
        let id = SetId::of(&all);
        Ok((!all.is_empty()).then_some(Self { id, all }))
    }

    /// These and those.
    #[must_use]
    pub fn and(&self, others: &Self) -> Self {
        let mut all: Vec<_> = self.all.iter().chain(&others.all).cloned().collect();
        all.sort_by_key(ToString::to_string);
        all.dedup_by_key(|key| key.to_string());
        Self { id: SetId::of(&all), all }
    }

    /// The set's name.
    #[must_use]
    pub const fn id(&self) -> SetId {
        self.id
    }

    /// The public keys.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        self.all.iter().map(ToString::to_string).collect()
    }
}

impl fmt::Debug for Recipients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys()).finish()
    }
}

fn recipient(text: &str) -> Result<age::x25519::Recipient, KeyTextError> {
    if text.trim().to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
        return Err(KeyTextError::Secret);
    }
    text.trim().parse().map_err(|_| KeyTextError::Recipient)
}

impl SetId {
    fn of(keys: &[age::x25519::Recipient]) -> Self {
        let mut hasher = blake3::Hasher::new();
        for key in keys {
            hasher.update(key.to_string().as_bytes()).update(b"\n");
        }
        let hash = hasher.finalize();
        let [a, b, c, d, ..] = *hash.as_bytes();
        Self([a, b, c, d])
    }
}

impl fmt::Display for SetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for SetId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut id = [0; 4];
        hex::decode_to_slice(text, &mut id).map_err(|_| format!("`{text}` is not the name of a set of recipients"))?;
        Ok(Self(id))
    }
}

text_serde!(SetId);

impl Identities {
    /// Those in the texts of identity files, as age-keygen writes them.
    ///
    /// # Errors
    /// When a text holds none.
    pub fn read<'a>(texts: impl IntoIterator<Item = &'a SecretString>) -> Result<Self, KeyTextError> {
        let mut all = Vec::new();
        for text in texts {
            let before = all.len();
            let lines = text.expose_secret().lines().map(str::trim).filter(|line| !line.is_empty());
            for line in lines.filter(|line| !line.starts_with('#')) {
                all.push(line.parse().map_err(|_| KeyTextError::Identity)?);
            }
            if all.len() == before {
                return Err(KeyTextError::Identity);
            }
        }
        Ok(Self(all))
    }

    /// True when nothing encrypted can be opened.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those who encrypt for them; `None` when there are none.
    #[must_use]
    pub fn recipients(&self) -> Option<Recipients> {
        let keys: Vec<String> = self.0.iter().map(|identity| identity.to_public().to_string()).collect();
        Recipients::read(keys.iter().map(String::as_str)).ok().flatten()
    }

    /// Whether one of them opens what is encrypted for these recipients.
    #[must_use]
    pub fn open_for(&self, recipients: &Recipients) -> bool {
        let ours: Vec<String> = self.0.iter().map(|identity| identity.to_public().to_string()).collect();
        recipients.keys().iter().any(|key| ours.contains(key))
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identities").field(&self.0.len()).finish()
    }
}

/// A new identity file, as age-keygen writes it, and its recipient.
#[must_use]
pub fn generate(now: jiff::Timestamp) -> (SecretString, String) {
    let identity = age::x25519::Identity::generate();
    let recipient = identity.to_public().to_string();
    let secret = identity.to_string();
    let text = format!("# created: {now:.0}\n# public key: {recipient}\n{}\n", secret.expose_secret());
    (text.into(), recipient)
}

/// Compresses a chunk, and encrypts it when there are recipients.
///
/// # Errors
/// When zstd runs out of memory.
pub fn seal(bytes: &[u8], level: i32, recipients: Option<&Recipients>) -> std::io::Result<Bytes> {
    let frame = chunk::compress(bytes, level)?;
    let Some(recipients) = recipients else { return Ok(frame) };
    let to = recipients.all.iter().map(|recipient| recipient as &dyn age::Recipient);
    let encryptor = age::Encryptor::with_recipients(to).map_err(std::io::Error::other)?;
    let mut sealed = Vec::with_capacity(frame.len() + 1_024);
    let mut writer = encryptor.wrap_output(&mut sealed)?;
    writer.write_all(&frame)?;
    writer.finish()?;
    Ok(sealed.into())
}

/// The bytes of a stored chunk, after it was proven to be the one that the manifest names.
///
/// # Errors
/// Any [`ChunkError`]; [`ChunkError::NoIdentity`] says nothing about the chunk.
pub fn open(stored: &[u8], wanted: &ChunkRef, keys: &Keys, identities: &Identities) -> Result<Vec<u8>, ChunkError> {
    let Some(set) = wanted.sealed else { return chunk::open(stored, wanted, keys) };
    if identities.is_empty() {
        return Err(ChunkError::NoIdentity(set));
    }
    let damaged = |error: &dyn fmt::Display| ChunkError::Encryption(error.to_string());
    let decryptor = age::Decryptor::new_buffered(stored).map_err(|error| damaged(&error))?;
    let ours = identities.0.iter().map(|identity| identity as &dyn age::Identity);
    let mut reader = decryptor.decrypt(ours).map_err(|error| match error {
        age::DecryptError::NoMatchingKeys => ChunkError::NoIdentity(set),
        error => damaged(&error),
    })?;
    // What comes out is no longer than what went in.
    let mut frame = Vec::with_capacity(stored.len());
    reader.read_to_end(&mut frame).map_err(|error| damaged(&error))?;
    chunk::open(&frame, wanted, keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::rows::Format;

    fn wanted(bytes: &[u8], stored: &[u8], recipients: Option<&Recipients>) -> ChunkRef {
        let id = Keys::new("t", Format::Text).id(bytes);
        let sealed = recipients.map(Recipients::id);
        ChunkRef { id, bytes: bytes.len() as u64, stored: stored.len() as u64, rows: 0, content: 0, sealed }
    }

    fn pair() -> (Identities, String) {
        let (text, recipient) = generate(jiff::Timestamp::UNIX_EPOCH);
        (Identities::read([&text]).unwrap(), recipient)
    }

    #[test]
    fn one_of_the_recipients_opens_it_and_nobody_else() {
        let keys = Keys::new("t", Format::Text);
        let ((ours, one), (theirs, two), (stranger, _)) = (pair(), pair(), pair());
        let recipients = Recipients::read([one.as_str(), &two, &one]).unwrap().unwrap();
        let bytes = b"row\n".repeat(5_000);
        let stored = seal(&bytes, 1, Some(&recipients)).unwrap();
        let wanted = wanted(&bytes, &stored, Some(&recipients));
        for identities in [&ours, &theirs] {
            assert!(identities.open_for(&recipients));
            assert_eq!(open(&stored, &wanted, &keys, identities), Ok(bytes.clone()));
        }
        assert!(!stranger.open_for(&recipients));
        for identities in [&stranger, &Identities::default()] {
            assert_eq!(open(&stored, &wanted, &keys, identities), Err(ChunkError::NoIdentity(recipients.id())));
        }
        for at in [0, 30, 150, stored.len() - 1] {
            let mut damaged = stored.to_vec();
            damaged[at] ^= 4;
            assert!(
                matches!(
                    open(&damaged, &wanted, &keys, &ours),
                    Err(ChunkError::Encryption(_) | ChunkError::NoIdentity(_))
                ),
                "{at}"
            );
        }
        assert!(open(&stored[..stored.len() / 2], &wanted, &keys, &ours).is_err());
        let plain = seal(&bytes, 1, None).unwrap();
        assert!(open(&plain, &wanted, &keys, &ours).is_err(), "what is not encrypted does not pass for it");
    }

    #[test]
    fn a_set_is_named_by_its_keys_in_any_order() {
        let ((_, one), (_, two)) = (pair(), pair());
        let id = |keys: &[&str]| Recipients::read(keys.iter().copied()).unwrap().map(|set| set.id());
        assert_eq!(id(&[&one, &two]), id(&[&two, &one]));
        assert_ne!(id(&[&one]), id(&[&two]));
        assert_eq!(id(&[]), None);
        let text = id(&[&one]).unwrap().to_string();
        assert_eq!(text.parse(), Ok(id(&[&one]).unwrap()));
    }

    #[test]
    fn texts_that_are_no_keys_are_refused_and_never_repeated() {
        let (secret, recipient) = generate(jiff::Timestamp::UNIX_EPOCH);
        let line = secret.expose_secret().lines().last().unwrap().to_owned();
        let told = |text: &str| Recipients::read([text]).unwrap_err();
        assert_eq!(told(&line), KeyTextError::Secret);
        assert_eq!(told(&recipient[..40]), KeyTextError::Recipient);
        for text in ["", "# nothing", &recipient, &line[..30]] {
            assert_eq!(Identities::read([&text.into()]).unwrap_err(), KeyTextError::Identity, "{text}");
        }
        let identities = Identities::read([&secret]).unwrap();
        assert_eq!(format!("{identities:?}"), "Identities(1)");
    }
}
