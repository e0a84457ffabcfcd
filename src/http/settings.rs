//! How sexton is served: where it listens, who may do what.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use url::Url;

/// What somebody may do; each may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look at everything.
    Read,
    /// Start and stop runs.
    Run,
    /// Approve migrations.
    Approve,
}

impl Role {
    /// The word used in configuration and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Run => "run",
            Self::Approve => "approve",
        }
    }
}

/// Everything under `http:`.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Under which address people reach it, when that is another.
    pub public_url: Option<Url>,
    /// Served with TLS.
    pub tls: Option<Tls>,
    /// Who has a token.
    pub tokens: Vec<Token>,
    /// A proxy in front that has signed people in.
    pub proxy: Option<Proxy>,
    /// Proxies in front, an ingress controller's pods: they tell where a request comes from, and nothing else.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether `/metrics` is answered without a login to whoever comes straight to it.
    pub public_metrics: bool,
    /// How long somebody stays signed in.
    pub session: Duration,
}

impl Settings {
    /// Whether people reach it through TLS, so that cookies may insist on it.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.tls.is_some() || self.public_url.as_ref().is_some_and(|url| url.scheme() == "https")
    }

    /// Whether there is a proxy at this address that is believed where a request comes from.
    #[must_use]
    pub fn has_proxy_at(&self, address: IpAddr) -> bool {
        self.proxy.as_ref().is_some_and(|proxy| proxy.is_trusted(address)) || holds(&self.trusted_proxies, address)
    }
}

/// The server's certificate, and the authority of its clients' ones; files in PEM.
#[derive(Debug, Clone)]
pub struct Tls {
    /// Its certificate chain.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Who signs the certificates that clients must show; `None` asks for none.
    pub client_ca: Option<PathBuf>,
}

/// A token and whose it is.
#[derive(Debug, Clone)]
pub struct Token {
    /// The name that stands in the log of who did what.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// The token.
    pub secret: SecretString,
}

/// A proxy that signs people in and tells their name in a header.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// Its addresses; from anywhere else the header means nothing.
    pub trusted: Vec<IpNet>,
    /// The header with the name, in lower case.
    pub user_header: String,
    /// Who may do what; by the name in the header.
    pub roles: Vec<(String, Role)>,
    /// What everybody else may who is signed in; `None` is nothing.
    pub others: Option<Role>,
}

impl Proxy {
    /// Whether the proxy is at this address.
    #[must_use]
    pub fn is_trusted(&self, address: IpAddr) -> bool {
        holds(&self.trusted, address)
    }

    /// What somebody may do.
    #[must_use]
    pub fn role(&self, user: &str) -> Option<Role> {
        let named = self.roles.iter().find(|(name, _)| name == user).map(|(_, role)| *role);
        named.or(self.others)
    }
}

fn holds(networks: &[IpNet], address: IpAddr) -> bool {
    // An IPv4 client of a socket that listens on both comes as `::ffff:10.0.0.1`.
    let address = address.to_canonical();
    networks.iter().any(|net| net.contains(&address))
}
