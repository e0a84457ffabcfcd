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

/// A key that is there and has no value was meant to have one: taken for left out, `tls:` would serve without TLS.
fn filled<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    let empty = || D::Error::custom("a value is missing here; write one after the colon, or remove the key");
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
    #[serde(default, deserialize_with = "filled")]
    pub api_key: Option<Spanned<SecretRef>>,
    #[serde(default = "ten_seconds")]
    pub timeout: Span,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TemporalTls {
    #[serde(default, deserialize_with = "filled")]
    pub ca: Option<Spanned<PathBuf>>,
    #[serde(default, deserialize_with = "filled")]
    pub certificate: Option<Spanned<PathBuf>>,
    #[serde(default, deserialize_with = "filled")]
    pub key: Option<Spanned<PathBuf>>,
    #[serde(default, deserialize_with = "filled")]
    pub server_name: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Postgres {
    pub host: String,
    #[serde(default = "postgres_port")]
    pub port: u16,
    pub user: String,
    #[serde(default, deserialize_with = "filled")]
    pub role: Option<String>,
    #[serde(default, deserialize_with = "filled")]
    pub password: Option<Spanned<SecretRef>>,
    #[serde(default)]
    pub tls: PostgresTls,
    #[serde(default, deserialize_with = "filled")]
    pub databases: Option<Spanned<Databases>>,
    #[serde(default = "ten_seconds")]
    pub connect_timeout: Span,
    #[serde(default = "one_minute")]
    pub statement_timeout: Span,
    #[serde(default, deserialize_with = "filled")]
    pub bin_dir: Option<Spanned<PathBuf>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PostgresTls {
    #[serde(default)]
    pub mode: TlsMode,
    #[serde(default, deserialize_with = "filled")]
    pub ca: Option<Spanned<PathBuf>>,
    #[serde(default, deserialize_with = "filled")]
    pub certificate: Option<Spanned<PathBuf>>,
    #[serde(default, deserialize_with = "filled")]
    pub key: Option<Spanned<PathBuf>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Databases {
    pub main: String,
    #[serde(default, deserialize_with = "filled")]
    pub visibility: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kubernetes {
    pub namespace: String,
    #[serde(default, deserialize_with = "filled")]
    pub kubeconfig: Option<Spanned<PathBuf>>,
    #[serde(default, deserialize_with = "filled")]
    pub context: Option<String>,
    #[serde(default = "thirty_seconds")]
    pub timeout: Span,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Search {
    pub url: Spanned<String>,
    #[serde(default, deserialize_with = "filled")]
    pub basic: Option<Basic>,
    #[serde(default, deserialize_with = "filled")]
    pub api_key: Option<Spanned<SecretRef>>,
    #[serde(default, deserialize_with = "filled")]
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
    #[serde(default, deserialize_with = "filled")]
    pub s3: Option<S3>,
    #[serde(default, deserialize_with = "filled")]
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
    #[serde(default, deserialize_with = "filled")]
    pub endpoint: Option<Spanned<String>>,
    #[serde(default)]
    pub path_style: bool,
    #[serde(default, deserialize_with = "filled")]
    pub credentials: Option<S3Credentials>,
    #[serde(default, deserialize_with = "filled")]
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
    #[serde(default, deserialize_with = "filled")]
    pub recipes: Option<PathBuf>,
    #[serde(default)]
    pub apply: Vec<String>,
    #[serde(default)]
    pub parameters: BTreeMap<String, BTreeMap<String, String>>,
    #[serde(default, deserialize_with = "filled")]
    pub sql_tool: Option<Spanned<PathBuf>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Http {
    #[serde(default = "default_listen")]
    pub listen: Spanned<String>,
    #[serde(default, deserialize_with = "filled")]
    pub public_url: Option<Spanned<String>>,
    #[serde(default, deserialize_with = "filled")]
    pub tls: Option<HttpTls>,
    #[serde(default)]
    pub tokens: Vec<HttpToken>,
    #[serde(default, deserialize_with = "filled")]
    pub proxy: Option<HttpProxy>,
    #[serde(default, deserialize_with = "filled")]
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
    #[serde(default, deserialize_with = "filled")]
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
    #[serde(default, deserialize_with = "filled")]
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
    #[serde(default, deserialize_with = "filled")]
    pub url: Option<Spanned<UrlRef>>,
    #[serde(default, deserialize_with = "filled")]
    pub secret: Option<Spanned<SecretRef>>,
    #[serde(default, deserialize_with = "filled")]
    pub format: Option<Spanned<Format>>,
    #[serde(default, deserialize_with = "filled")]
    pub ca: Option<Spanned<PathBuf>>,
    #[serde(default, deserialize_with = "filled")]
    pub temporal: Option<Spanned<Signal>>,
    #[serde(default, deserialize_with = "filled")]
    pub on: Option<Spanned<Vec<Outcome>>>,
    #[serde(default, deserialize_with = "filled")]
    pub jobs: Option<Spanned<Vec<JobName>>>,
    #[serde(default, deserialize_with = "filled")]
    pub timeout: Option<Spanned<Span>>,
    #[serde(default, deserialize_with = "filled")]
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
