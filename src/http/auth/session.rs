//! Sessions of the page: a cookie that says who signed in and until when, sealed with a key that every replica has. There
//! is nothing to store: a token that is taken out of the configuration, or changed, ends its sessions.

use aws_lc_rs::{hmac, rand};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use crate::http::settings::Token;

/// What seals cookies and forms.
pub(in crate::http) struct Sessions {
    key: hmac::Key,
    secure: bool,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").field("secure", &self.secure).finish_non_exhaustive()
    }
}

/// A session that was found to be good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    /// The token's name.
    pub name: String,
    /// Random, so that what is derived from it is of this session only.
    pub nonce: String,
}

/// Random bytes as text.
pub(in crate::http) fn random() -> Option<String> {
    let mut bytes = [0_u8; 16];
    rand::fill(&mut bytes).ok()?;
    Some(hex::encode(bytes))
}

impl Sessions {
    /// The key is kept in the ledger as hex.
    pub(in crate::http) fn new(key: &SecretString, secure: bool) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key.expose_secret().as_bytes()), secure }
    }

    /// The cookie's name; where there is TLS the browser itself sees to it that no other host or path can set it.
    pub(super) fn cookie_name(&self) -> &'static str {
        if self.secure { "__Host-sexton" } else { "sexton" }
    }

    fn tag(&self, parts: &[&str]) -> String {
        let mut context = hmac::Context::with_key(&self.key);
        for part in parts {
            // The length in front keeps `ab`+`c` and `a`+`bc` apart.
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        hex::encode(context.sign().as_ref())
    }

    fn seal(&self, token: &Token, until: &str, nonce: &str) -> String {
        let secret = blake3::hash(token.secret.expose_secret().as_bytes()).to_hex();
        self.tag(&["session", &token.name, until, nonce, &secret])
    }

    /// The header that begins a session; `None` when the system has no random numbers.
    pub(in crate::http) fn begin(&self, token: &Token, until: Timestamp) -> Option<String> {
        let (nonce, seconds) = (random()?, until.as_second().to_string());
        let seal = self.seal(token, &seconds, &nonce);
        let age = until.as_second().saturating_sub(Timestamp::now().as_second()).max(0);
        Some(self.cookie(&format!("{}:{seconds}:{nonce}:{seal}", token.name), age))
    }

    /// The header that ends it.
    pub(in crate::http) fn end(&self) -> String {
        self.cookie("", 0)
    }

    fn cookie(&self, value: &str, age: i64) -> String {
        let secure = if self.secure { "; Secure" } else { "" };
        format!("{}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={age}{secure}", self.cookie_name())
    }

    /// The session in a cookie, if it is one of a token that there is, and has not ended.
    pub(super) fn read(&self, value: &str, tokens: &[Token], now: Timestamp) -> Option<(Session, usize)> {
        let mut parts = value.splitn(4, ':');
        let (name, until, nonce, seal) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let place = tokens.iter().position(|token| token.name == name)?;
        let expect = self.seal(tokens.get(place)?, until, nonce);
        aws_lc_rs::constant_time::verify_slices_are_equal(expect.as_bytes(), seal.as_bytes()).ok()?;
        (until.parse::<i64>().ok()? > now.as_second())
            .then(|| (Session { name: name.to_owned(), nonce: nonce.to_owned() }, place))
    }

    /// What a form of this visitor must carry, which no other site can know.
    pub(super) fn csrf(&self, via: &str, name: &str, nonce: &str) -> String {
        self.tag(&["csrf", via, name, nonce])
    }
}

/// Whether two texts are the same, in a time that says nothing about where they differ.
pub(super) fn same(one: &str, other: &str) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(one.as_bytes(), other.as_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::settings::Role;

    fn token(name: &str, secret: &str) -> Token {
        Token { name: name.into(), role: Role::Read, secret: secret.to_owned().into() }
    }

    #[test]
    fn a_session_is_good_until_it_ends_and_for_its_token_only() {
        let sessions = Sessions::new(&"k".repeat(32).into(), false);
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let (ada, bob) = (token("ada", "a-secret-of-ada-1"), token("bob", "a-secret-of-bob-1"));
        let cookie = sessions.begin(&ada, now + jiff::SignedDuration::from_secs(60)).unwrap();
        let value = cookie.split(['=', ';']).nth(1).unwrap();
        let all = [bob.clone(), ada.clone()];
        assert_eq!(
            sessions.read(value, &all, now).map(|(session, place)| (session.name, place)),
            Some(("ada".into(), 1))
        );
        assert_eq!(sessions.read(value, &all, now + jiff::SignedDuration::from_secs(60)), None);
        assert_eq!(sessions.read(value, &[bob], now), None, "the token is gone");
        assert_eq!(sessions.read(value, &[token("ada", "another-secret-1")], now), None, "the token was changed");
        assert_eq!(sessions.read(&value.replace("ada", "bob"), &all, now), None);
        assert_eq!(Sessions::new(&"l".repeat(32).into(), false).read(value, &all, now), None);
        for broken in ["", ":", ":::", "ada:x:y:z", &value[..value.len() - 1]] {
            assert_eq!(sessions.read(broken, &all, now), None, "{broken}");
        }
    }
}
