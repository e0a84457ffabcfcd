//! From what was written to settings the clients take: secrets read, files checked, contradictions refused.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_saphyr::Spanned;
use url::Url;

use super::secret::Secrets;
use super::{Config, Databases, Target, Unread, http_section, secret, webhooks, written};
use crate::backup::seal::Identities;
use crate::backup::store;
use crate::clients::{TlsFiles, kubernetes, postgres, search, temporal};
use crate::document::{ConfigError, Document};
use crate::failure::without_errno;

pub(super) fn resolve(doc: &Document) -> Result<Config, ConfigError> {
    let written: written::Written = doc.parse()?;
    let Some(named) = written.postgres.databases.as_ref().map(|d| &d.value) else {
        let hint = Some("add `databases: {main: temporal}` under `postgres:`".to_owned());
        return Err(doc.error_at_key("postgres", "Temporal's databases are not named", hint));
    };
    let databases = Databases { main: named.main.clone(), visibility: named.visibility.clone() };
    for (server, message, hint) in [
        (
            &written.scratch,
            "the scratch server has no databases of Temporal's",
            "remove it: sexton makes its own databases there",
        ),
        (&written.replica, "a standby has the databases of its primary", "remove it: those of `postgres:` are read"),
    ] {
        if let Some(extra) = server.as_ref().and_then(|server| server.databases.as_ref()) {
            return Err(doc.error_at(extra.referenced, message, hint));
        }
    }
    let target = written.target.as_ref().map(|server| target(doc, server, &databases)).transpose()?;
    check_databases(doc, &databases, &written.ledger.database)?;
    check_limits(doc, &written)?;
    let recipes = written.migrations.recipes.as_ref().map(|folder| doc.folder().join(folder));
    if let Some(folder) = recipes.as_ref().filter(|folder| !folder.is_dir()) {
        let message = format!("{} is not a folder", folder.display());
        return Err(doc.error_at_key("migrations.recipes", message, Some("name an existing folder".into())));
    }
    let temporal = written.temporal.as_ref().map(|t| temporal_settings(doc, t)).transpose()?;
    // Mistakes are told to everybody; what the two need beside is read by whoever serves or delivers.
    let webhooks = webhooks::resolve(doc, &written.webhooks, temporal.as_ref(), Secrets::Unread)?;
    if let Some(http) = &written.http {
        http_section::settings(doc, http, Secrets::Unread)?;
    }
    Ok(Config {
        path: doc.path().to_owned(),
        webhooks,
        temporal,
        postgres: postgres_settings(doc, &written.postgres)?,
        replica: written.replica.as_ref().map(|r| postgres_settings(doc, r)).transpose()?,
        scratch: written.scratch.as_ref().map(|s| postgres_settings(doc, s)).transpose()?,
        target,
        kubernetes: written.kubernetes.as_ref().map(|k| kubernetes_settings(doc, k)).transpose()?,
        databases,
        search: written.search.as_ref().map(|s| search_settings(doc, s)).transpose()?,
        store: written.store.as_ref().map(|s| store_settings(doc, s)).transpose()?,
        identities: Arc::new(written.store.as_ref().map_or_else(|| Ok(Identities::default()), |s| identities(doc, s))?),
        ledger_database: written.ledger.database,
        policies: doc.folder().join(&written.policies),
        recipes,
        apply: written.migrations.apply,
        parameters: written.migrations.parameters,
        sql_tool: written.migrations.sql_tool.as_ref().map(|tool| readable(doc, tool)).transpose()?,
        unread: Arc::new(Unread { http: written.http, webhooks: written.webhooks, doc: doc.clone() }),
    })
}

fn check_databases(doc: &Document, databases: &Databases, ledger: &str) -> Result<(), ConfigError> {
    for (key, name) in [
        ("postgres.databases.main", Some(&databases.main)),
        ("postgres.databases.visibility", databases.visibility.as_ref()),
        ("ledger.database", Some(&ledger.to_owned())),
    ] {
        if name.is_some_and(|name| name.is_empty() || name.len() > 63 || name.contains('\0')) {
            let hint = "PostgreSQL's names have 1 to 63 bytes".to_owned();
            return Err(doc.error_at_key(key, "is not the name of a database", Some(hint)));
        }
    }
    if databases.visibility.as_ref() == Some(&databases.main) {
        return Err(doc.error_at_key(
            "postgres.databases.visibility",
            "is the same database as `main`",
            Some("leave it out when visibility is in a search engine".into()),
        ));
    }
    if databases.all().iter().any(|name| name == ledger) {
        return Err(doc.error_at_key(
            "ledger.database",
            "is one of Temporal's databases; the ledger needs its own, which outlives a restore of theirs",
            Some("write `database: sexton` and run `sexton ledger init`".into()),
        ));
    }
    Ok(())
}

/// Where databases are moved to.
fn target(doc: &Document, written: &written::Postgres, source: &Databases) -> Result<Target, ConfigError> {
    let Some(named) = written.databases.as_ref() else {
        let hint = format!("add `databases: {{main: {}}}` under `target:`", source.main);
        return Err(doc.error_at_key("target", "what the databases will be called there is not said", Some(hint)));
    };
    let databases = Databases { main: named.value.main.clone(), visibility: named.value.visibility.clone() };
    Ok(Target { postgres: postgres_settings(doc, written)?, databases })
}

/// A time-out of nothing would end every call at once, and an empty name leads nowhere.
fn check_limits(doc: &Document, written: &written::Written) -> Result<(), ConfigError> {
    let servers = [
        ("postgres", Some(&written.postgres)),
        ("replica", written.replica.as_ref()),
        ("scratch", written.scratch.as_ref()),
        ("target", written.target.as_ref()),
    ];
    let servers = servers.into_iter().filter_map(|(section, server)| Some((section, server?)));
    let mut limits = Vec::new();
    for (section, server) in servers {
        for (name, value) in [("host", &server.host), ("user", &server.user)] {
            if value.trim().is_empty() {
                let message = format!("`{section}.{name}` is empty");
                return Err(doc.error_at_key(&format!("{section}.{name}"), message, Some(format!("write the {name}"))));
            }
        }
        limits.push((format!("{section}.connect_timeout"), server.connect_timeout));
        limits.push((format!("{section}.statement_timeout"), server.statement_timeout));
    }
    limits.extend(written.temporal.as_ref().map(|t| ("temporal.timeout".to_owned(), t.timeout)));
    limits.extend(written.kubernetes.as_ref().map(|k| ("kubernetes.timeout".to_owned(), k.timeout)));
    limits.extend(written.search.as_ref().map(|s| ("search.timeout".to_owned(), s.timeout)));
    match limits.iter().find(|(_, limit)| limit.as_millis() == 0) {
        Some((key, _)) => Err(doc.error_at_key(
            key,
            format!("`{key}` is zero: nothing would ever be in time"),
            Some("write a duration such as `10s`, or leave the key out".into()),
        )),
        None => Ok(()),
    }
}

fn temporal_settings(doc: &Document, written: &written::Temporal) -> Result<temporal::Settings, ConfigError> {
    let address = &written.address;
    let valid = address.value.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains("://") && port.parse::<u16>().is_ok_and(|p| p > 0)
    });
    if !valid {
        return Err(doc.error_at(
            address.referenced,
            format!("`{}` is not host:port", address.value),
            "write the frontend's address without a scheme, for example `temporal-frontend.temporal:7233`; TLS is \
             turned on with `tls: {}`",
        ));
    }
    let tls = match &written.tls {
        Some(tls) => Some(tls_files(doc, tls.ca.as_ref(), tls.certificate.as_ref(), tls.key.as_ref())?),
        None => None,
    };
    if let (Some(api_key), None) = (&written.api_key, &tls) {
        return Err(doc.error_at(
            api_key.referenced,
            "an API key would travel unencrypted",
            "turn TLS on with `tls: {}`",
        ));
    }
    Ok(temporal::Settings {
        address: address.value.clone(),
        tls,
        server_name: written.tls.as_ref().and_then(|tls| tls.server_name.clone()),
        api_key: written.api_key.as_ref().map(|key| secret::read(doc, key)).transpose()?,
        timeout: written.timeout.into(),
    })
}

fn postgres_settings(doc: &Document, written: &written::Postgres) -> Result<postgres::Settings, ConfigError> {
    let tls = &written.tls;
    let bin_dir = written.bin_dir.as_ref().map(|dir| doc.folder().join(&dir.value));
    if let (Some(dir), Some(at)) = (bin_dir.as_ref().filter(|dir| !dir.is_dir()), &written.bin_dir) {
        return Err(doc.error_at(
            at.referenced,
            format!("{} is not a folder", dir.display()),
            "name the folder that holds pg_dump, or leave it out",
        ));
    }
    Ok(postgres::Settings {
        host: written.host.clone(),
        port: written.port,
        user: written.user.clone(),
        role: written.role.clone().filter(|role| !role.is_empty()),
        password: written.password.as_ref().map(|password| secret::read(doc, password)).transpose()?,
        tls_mode: tls.mode,
        tls: tls_files(doc, tls.ca.as_ref(), tls.certificate.as_ref(), tls.key.as_ref())?,
        connect_timeout: written.connect_timeout.into(),
        statement_timeout: written.statement_timeout.into(),
        bin_dir,
    })
}

fn kubernetes_settings(doc: &Document, written: &written::Kubernetes) -> Result<kubernetes::Settings, ConfigError> {
    if written.namespace.trim().is_empty() {
        let hint = "write the namespace of Temporal's Deployments".to_owned();
        return Err(doc.error_at_key("kubernetes.namespace", "is empty", Some(hint)));
    }
    Ok(kubernetes::Settings {
        namespace: written.namespace.clone(),
        kubeconfig: written.kubeconfig.as_ref().map(|file| readable(doc, file)).transpose()?,
        context: written.context.clone(),
        timeout: written.timeout.into(),
    })
}

fn search_settings(doc: &Document, written: &written::Search) -> Result<search::Settings, ConfigError> {
    let url = address(doc, &written.url, "http://elasticsearch:9200", "`basic: {user: …, password: {env: NAME}}`")?;
    let auth = match (&written.basic, &written.api_key) {
        (Some(_), Some(key)) => {
            return Err(doc.error_at(key.referenced, "`basic` and `api_key` exclude each other", "keep one of them"));
        }
        (Some(basic), None) => {
            search::Auth::Basic { user: basic.user.clone(), password: secret::read(doc, &basic.password)? }
        }
        (None, Some(key)) => search::Auth::ApiKey(secret::read(doc, key)?),
        (None, None) => search::Auth::None,
    };
    let ca = written.ca.as_ref().map(|ca| readable(doc, ca)).transpose()?;
    Ok(search::Settings { url, auth, ca, timeout: written.timeout.into() })
}

/// An http or https address without a login in it. The text is never repeated: it may hold one.
pub(super) fn address(doc: &Document, text: &Spanned<String>, example: &str, login: &str) -> Result<Url, ConfigError> {
    let complain = |message: String, hint: String| doc.error_at(text.referenced, message, hint);
    let wrong = |why: String| {
        complain(format!("this is not an http or https address{why}"), format!("write for example `{example}`"))
    };
    if !text.value.starts_with("http://") && !text.value.starts_with("https://") {
        return Err(wrong(String::new()));
    }
    let url = Url::parse(&text.value).map_err(|error| wrong(format!(": {error}")))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(complain("this address holds a login".into(), format!("take it out and write {login}")));
    }
    Ok(url)
}

fn store_settings(doc: &Document, spanned: &Spanned<written::Store>) -> Result<store::Settings, ConfigError> {
    match (&spanned.value.s3, &spanned.value.directory) {
        (Some(s3), None) => {
            let credentials = match &s3.credentials {
                Some(keys) => {
                    use secrecy::ExposeSecret;
                    let access = secret::read(doc, &keys.access_key)?.expose_secret().to_owned();
                    Some((access, secret::read(doc, &keys.secret_key)?))
                }
                None => None,
            };
            Ok(store::Settings::S3 {
                bucket: s3.bucket.clone(),
                prefix: s3.prefix.trim_matches('/').to_owned(),
                region: s3.region.clone(),
                endpoint: match &s3.endpoint {
                    Some(text) => {
                        let url = address(doc, text, "https://s3.example.com", "`credentials:`")?;
                        Some(url.as_str().trim_end_matches('/').to_owned())
                    }
                    None => None,
                },
                path_style: s3.path_style,
                credentials,
                server_side: s3.server_side_encryption.clone(),
            })
        }
        (None, Some(directory)) if directory.as_os_str().is_empty() => {
            Err(doc.error_at(spanned.referenced, "`directory` is empty", "write the path of a folder"))
        }
        (None, Some(directory)) => Ok(store::Settings::Directory { path: doc.folder().join(directory) }),
        _ => Err(doc.error_at(
            spanned.referenced,
            "a store is either `s3` or `directory`",
            "write one of `s3: {bucket: …}` and `directory: PATH`",
        )),
    }
}

fn identities(doc: &Document, store: &Spanned<written::Store>) -> Result<Identities, ConfigError> {
    let mut all = Vec::new();
    for reference in &store.value.identities {
        let text = secret::read(doc, reference)?;
        // One by one, so that the error can say where.
        Identities::read([&text]).map_err(|error| {
            doc.error_at(
                reference.referenced,
                error.to_string(),
                "`sexton backup keygen` and `age-keygen` make such files",
            )
        })?;
        all.push(text);
    }
    Ok(Identities::read(&all).unwrap_or_default())
}

fn tls_files(
    doc: &Document,
    ca: Option<&Spanned<PathBuf>>,
    certificate: Option<&Spanned<PathBuf>>,
    key: Option<&Spanned<PathBuf>>,
) -> Result<TlsFiles, ConfigError> {
    if let (Some(lonely), None) | (None, Some(lonely)) = (certificate, key) {
        return Err(doc.error_at(
            lonely.referenced,
            "a client certificate needs both `certificate` and `key`",
            "add the other one",
        ));
    }
    let read = |file: Option<&Spanned<PathBuf>>| file.map(|file| readable(doc, file)).transpose();
    Ok(TlsFiles { ca: read(ca)?, certificate: read(certificate)?, key: read(key)? })
}

/// The file's path from here, after a look whether it can be read.
pub(super) fn readable(doc: &Document, file: &Spanned<PathBuf>) -> Result<PathBuf, ConfigError> {
    if file.value.to_string_lossy().contains("-----BEGIN") {
        let hint = "put it into a file and write the file's path";
        return Err(doc.error_at(file.referenced, "here stands a file's content instead of its path", hint));
    }
    let path: PathBuf = doc.folder().join(Path::new(&file.value));
    // A pipe would be waited for, and a device need not have an end.
    if std::fs::metadata(&path).is_ok_and(|there| !there.is_file()) {
        let message = format!("{} is not a file", path.display());
        return Err(doc.error_at(file.referenced, message, "write the path of the file itself"));
    }
    match std::fs::File::open(&path) {
        Ok(_) => Ok(path),
        Err(error) => Err(doc.error_at(
            file.referenced,
            format!("{} cannot be read: {}", path.display(), without_errno(&error.to_string())),
            "check the path and that the user that runs sexton may read it",
        )),
    }
}
