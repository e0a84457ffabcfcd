//! `sexton.yaml` as people write it. Every type refuses unknown keys; [`super::resolve`] makes settings of them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_saphyr::{Location, Spanned};

use super::secret::{SecretRef, UrlRef};
use crate::backup::store::ServerSide;
use crate::clients::postgres::TlsMode;
use crate::daemon::ledger::Outcome;
use crate::http::settings::Role;
use crate::job::JobName;
use crate::units::Span;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    #[serde(default, deserialize_with = "filled")]
    pub temporal: Option<Temporal>,
    pub postgres: Postgres,
    #[serde(default, deserialize_with = "filled")]
    pub replica: Option<Postgres>,
    #[serde(default, deserialize_with = "filled")]
    pub scratch: Option<Postgres>,
    #[serde(default, deserialize_with = "filled")]
    pub target: Option<Postgres>,
    #[serde(default, deserialize_with = "filled")]
    pub kubernetes: Option<Kubernetes>,
    #[serde(default, deserialize_with = "filled")]
    pub search: Option<Search>,
    #[serde(default, deserialize_with = "filled")]
    pub store: Option<Spanned<Store>>,
    pub ledger: Ledger,
    #[serde(default = "default_policies")]
    pub policies: PathBuf,
    #[serde(default)]
    pub migrations: Migrations,
    #[serde(default, deserialize_with = "filled")]
    pub http: Option<Spanned<Http>>,
    #[serde(default)]
    pub webhooks: Vec<Spanned<Webhook>>,
}

/// A section that is there and says nothing was meant to say something: left out silently, `tls:` would serve without TLS.
fn filled<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    let empty = || D::Error::custom("nothing stands below this; write its keys, or remove it");
    Option::deserialize(deserializer)?.map(Some).ok_or_else(empty)
}

fn default_policies() -> PathBuf {
    "policies".into()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Temporal {
    pub address: Spanned<String>,
    #[serde(default, deserialize_with = "filled")]
    pub tls: Option<TemporalTls>,
    pub api_key: Option<Spanned<SecretRef>>,
    #[serde(default = "ten_seconds")]
    pub timeout: Span,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TemporalTls {
    pub ca: Option<Spanned<PathBuf>>,
    pub certificate: Option<Spanned<PathBuf>>,
    pub key: Option<Spanned<PathBuf>>,
    pub server_name: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Postgres {
    pub host: String,
    #[serde(default = "postgres_port")]
    pub port: u16,
    pub user: String,
    pub role: Option<String>,
    pub password: Option<Spanned<SecretRef>>,
    #[serde(default)]
    pub tls: PostgresTls,
    pub databases: Option<Spanned<Databases>>,
    #[serde(default = "ten_seconds")]
    pub connect_timeout: Span,
    #[serde(default = "one_minute")]
    pub statement_timeout: Span,
    pub bin_dir: Option<Spanned<PathBuf>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PostgresTls {
    #[serde(default)]
    pub mode: TlsMode,
    pub ca: Option<Spanned<PathBuf>>,
    pub certificate: Option<Spanned<PathBuf>>,
    pub key: Option<Spanned<PathBuf>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Databases {
    pub main: String,
    pub visibility: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kubernetes {
    pub namespace: String,
    pub kubeconfig: Option<Spanned<PathBuf>>,
    pub context: Option<String>,
    #[serde(default = "thirty_seconds")]
    pub timeout: Span,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Search {
    pub url: Spanned<String>,
    pub basic: Option<Basic>,
    pub api_key: Option<Spanned<SecretRef>>,
    pub ca: Option<Spanned<PathBuf>>,
    #[serde(default = "thirty_seconds")]
    pub timeout: Span,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Basic {
    pub user: String,
    pub password: Spanned<SecretRef>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Store {
    pub s3: Option<S3>,
    pub directory: Option<PathBuf>,
    #[serde(default)]
    pub identities: Vec<Spanned<SecretRef>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct S3 {
    pub bucket: String,
    #[serde(default)]
    pub prefix: String,
    #[serde(default = "default_region")]
    pub region: String,
    pub endpoint: Option<Spanned<String>>,
    #[serde(default)]
    pub path_style: bool,
    pub credentials: Option<S3Credentials>,
    pub server_side_encryption: Option<ServerSide>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct S3Credentials {
    pub access_key: Spanned<SecretRef>,
    pub secret_key: Spanned<SecretRef>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ledger {
    pub database: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Migrations {
    pub recipes: Option<PathBuf>,
    #[serde(default)]
    pub apply: Vec<String>,
    #[serde(default)]
    pub parameters: BTreeMap<String, BTreeMap<String, String>>,
    pub sql_tool: Option<Spanned<PathBuf>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Http {
    #[serde(default = "default_listen")]
    pub listen: Spanned<String>,
    pub public_url: Option<Spanned<String>>,
    #[serde(default, deserialize_with = "filled")]
    pub tls: Option<HttpTls>,
    #[serde(default)]
    pub tokens: Vec<HttpToken>,
    #[serde(default, deserialize_with = "filled")]
    pub proxy: Option<HttpProxy>,
    pub trusted_proxies: Option<Spanned<Vec<Network>>>,
    #[serde(default = "yes")]
    pub public_metrics: bool,
    #[serde(default = "twelve_hours")]
    pub session: Span,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HttpTls {
    pub certificate: Spanned<PathBuf>,
    pub key: Spanned<PathBuf>,
    pub client_ca: Option<Spanned<PathBuf>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HttpToken {
    pub name: Spanned<String>,
    pub role: Role,
    pub token: Spanned<SecretRef>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HttpProxy {
    pub trusted: Spanned<Vec<Network>>,
    #[serde(default = "default_user_header")]
    pub user_header: Spanned<String>,
    #[serde(default)]
    pub roles: BTreeMap<String, Role>,
    pub others: Option<Role>,
}

/// A network, or one address.
#[derive(Debug, Clone, Copy)]
pub(super) struct Network(pub IpNet);

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let net = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        let wrong = || {
            D::Error::custom("this is neither a network nor an address; write for example `10.0.0.0/8` or `10.0.0.5`")
        };
        net.map(Self).ok_or_else(wrong)
    }
}

fn default_listen() -> Spanned<String> {
    Spanned::new("0.0.0.0:8080".into(), Location::UNKNOWN, Location::UNKNOWN)
}

fn default_user_header() -> Spanned<String> {
    Spanned::new("X-Forwarded-User".into(), Location::UNKNOWN, Location::UNKNOWN)
}

fn yes() -> bool {
    true
}

fn twelve_hours() -> Span {
    Span::hours(12)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Webhook {
    pub name: Spanned<String>,
    pub url: Option<Spanned<UrlRef>>,
    pub secret: Option<Spanned<SecretRef>>,
    pub format: Option<Spanned<Format>>,
    pub ca: Option<Spanned<PathBuf>>,
    pub temporal: Option<Spanned<Signal>>,
    pub on: Option<Spanned<Vec<Outcome>>>,
    pub jobs: Option<Spanned<Vec<JobName>>>,
    pub timeout: Option<Spanned<Span>>,
    pub retry_after: Option<Spanned<Span>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    Generic,
    Slack,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Signal {
    pub namespace: String,
    pub workflow_id: String,
    pub signal: String,
}

fn default_region() -> String {
    "us-east-1".into()
}

fn postgres_port() -> u16 {
    5432
}

fn ten_seconds() -> Span {
    Span::seconds(10)
}

fn thirty_seconds() -> Span {
    Span::seconds(30)
}

fn one_minute() -> Span {
    Span::minutes(1)
}
