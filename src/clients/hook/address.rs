//! An http or https address that may be a secret.

use std::fmt;

use url::Url;

/// Where a request goes. Debug and Display show the scheme, the host and the port: path, query and login may be what
/// keeps others from writing there.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(Url);

/// A text is not an address that can be posted to; what it is, is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not an http or https address with a host")]
pub struct NoAddress;

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// [`NoAddress`] when it has another scheme, no host, or is no address at all.
    pub fn parse(text: &str) -> Result<Self, NoAddress> {
        let written_out = ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme));
        let after = text.split_once("://").map_or("", |(_, after)| after);
        // The parser takes `https:///path` for the host `path`.
        if !written_out || after.starts_with(['/', '\\']) {
            return Err(NoAddress);
        }
        let url = Url::parse(text).map_err(|_| NoAddress)?;
        if url.host_str().is_none_or(str::is_empty) { Err(NoAddress) } else { Ok(Self(url)) }
    }

    /// Whether the way there is encrypted.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Whether a user or a password stands in it.
    #[must_use]
    pub fn has_login(&self) -> bool {
        !self.0.username().is_empty() || self.0.password().is_some()
    }

    /// Whether it is on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self.0.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
    }

    pub(super) fn url(&self) -> Url {
        self.0.clone()
    }

    pub(super) fn holds(&self, text: &str) -> bool {
        self.0.as_str().contains(text)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.0.scheme(), self.0.host_str().unwrap_or_default())?;
        self.0.port().map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_host_is_shown() {
        let check = |text: &str, shown: &str| {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!(format!("{address:?}"), format!("Address({shown})"));
        };
        check("https://hooks.example.com/services/T0/B0/secret?token=secret#secret", "https://hooks.example.com");
        check("http://user:secret@h:8080/secret", "http://h:8080");
        check("http://[::1]:8080/secret", "http://[::1]:8080");
    }

    #[test]
    fn without_a_host_it_is_none() {
        for text in ["", "https://", "https:///hooks", "https://:80/x", "hooks.example.com", "ftp://h/x", "https:h"] {
            assert_eq!(Address::parse(text), Err(NoAddress), "{text}");
        }
    }
}
