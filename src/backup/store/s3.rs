//! A store in a bucket of S3, or of one of its kin.

mod parts;

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ServerSideEncryption};
use bytes::Bytes;
use jiff::Timestamp;
use secrecy::ExposeSecret;

use super::{Algorithm, Entry, Key, ServerSide, Settings, Store, StoreError, Unfinished, is_folder};

/// A store in a bucket.
#[derive(Debug, Clone)]
pub struct S3 {
    client: Client,
    bucket: String,
    prefix: String,
    endpoint: Option<String>,
    server_side: Option<ServerSide>,
}

impl S3 {
    /// The store of [`Settings::S3`].
    ///
    /// # Errors
    /// When the settings are not for S3.
    pub async fn open(settings: &Settings) -> Result<Self, StoreError> {
        let Settings::S3 { bucket, prefix, region, endpoint, path_style, credentials, server_side } = settings else {
            return Err(StoreError::Other {
                location: "store".into(),
                doing: "opening".into(),
                message: "these settings are not for S3".into(),
            });
        };
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(10))
            .operation_attempt_timeout(Duration::from_secs(120))
            .operation_timeout(Duration::from_secs(400))
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(region.clone()))
            .timeout_config(timeouts)
            .retry_config(RetryConfig::standard().with_max_attempts(5));
        if let Some((access, secret)) = credentials {
            loader = loader.credentials_provider(Credentials::new(
                access,
                secret.expose_secret(),
                None,
                None,
                "sexton.yaml",
            ));
        }
        let shared = loader.load().await;
        let mut config = aws_sdk_s3::config::Builder::from(&shared).force_path_style(*path_style);
        if let Some(endpoint) = endpoint {
            config = config.endpoint_url(endpoint);
        }
        let client = Client::from_conf(config.build());
        Ok(Self {
            client,
            bucket: bucket.clone(),
            prefix: prefix.trim_matches('/').to_owned(),
            endpoint: endpoint.clone(),
            server_side: server_side.clone(),
        })
    }

    fn algorithm(&self) -> Option<ServerSideEncryption> {
        self.server_side.as_ref().map(|asked| match asked.algorithm {
            Algorithm::Aes256 => ServerSideEncryption::Aes256,
            Algorithm::Kms => ServerSideEncryption::AwsKms,
            Algorithm::KmsDsse => ServerSideEncryption::AwsKmsDsse,
        })
    }

    fn kms_key(&self) -> Option<String> {
        self.server_side.as_ref().and_then(|asked| asked.kms_key.clone())
    }

    fn path(&self, key: &str) -> String {
        if self.prefix.is_empty() { key.to_owned() } else { format!("{}/{key}", self.prefix) }
    }

    fn error<E, R>(&self, doing: &str, key: &str, error: &SdkError<E, R>) -> StoreError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        R: std::fmt::Debug + HttpStatus + 'static,
    {
        let location = self.location();
        let (doing, key) = (format!("{doing} `{key}`"), key.to_owned());
        let message = match (error.code(), error.message()) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (Some(code), None) => code.to_owned(),
            _ => innermost(error),
        };
        let status = match error {
            SdkError::ServiceError(service) => service.raw().status(),
            // The chain of providers ends in one that asks the network, whose failure is the last to be told.
            SdkError::DispatchFailure(_) if crate::failure::chain(error).contains("credentials") => {
                let message = "no credentials were found; set `store.s3.credentials`, or AWS_ACCESS_KEY_ID and \
                    AWS_SECRET_ACCESS_KEY, or give the pod a role"
                    .to_owned();
                return StoreError::AccessDenied { location, doing, message };
            }
            SdkError::DispatchFailure(_) | SdkError::TimeoutError(_) => {
                let location = self.place();
                return StoreError::Unreachable { location, message };
            }
            _ => 0,
        };
        match (error.code(), status) {
            (Some("NoSuchBucket"), _) => StoreError::NoBucket { location },
            (Some("NoSuchKey" | "NotFound"), _) | (None, 404) => StoreError::NotFound { location, key },
            (Some("BadDigest" | "XAmzContentSHA256Mismatch" | "InvalidDigest"), _) => {
                StoreError::Checksum { location, key, message }
            }
            (Some("QuotaExceeded" | "XMinioStorageFull" | "InsufficientStorage"), _) | (_, 507) => {
                StoreError::Full { location, doing }
            }
            // What some of S3's kin answer to an unknown access key, with status 404.
            (Some("XAdminUserNotFound" | "InvalidAccessKeyId"), _) => {
                StoreError::AccessDenied { location, doing, message }
            }
            (_, 401 | 403) => StoreError::AccessDenied { location, doing, message },
            (None, 400..) => {
                let message = format!("the answer, HTTP status {status}, is not one of S3's");
                StoreError::Other { location: self.place(), doing, message }
            }
            _ => StoreError::Other { location: self.place(), doing, message },
        }
    }

    async fn put_single(&self, key: &Key, body: Bytes, only_new: bool) -> Result<bool, StoreError> {
        let request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(self.path(key.as_str()))
            .checksum_algorithm(ChecksumAlgorithm::Crc32)
            .set_server_side_encryption(self.algorithm())
            .set_ssekms_key_id(self.kms_key())
            .body(ByteStream::from(body.clone()));
        let request = if only_new { request.if_none_match("*") } else { request };
        match request.send().await {
            Ok(_) => Ok(true),
            Err(error) if only_new && status_of(&error) == 412 => Ok(false),
            // Two conditional writes at once: one of them wins, and then the key is there. When it is not, nothing
            // was stored.
            Err(error) if only_new && status_of(&error) == 409 => match self.size(key).await? {
                Some(_) => Ok(false),
                None => Err(self.error("storing", key.as_str(), &error)),
            },
            Err(error) if only_new && (status_of(&error) == 501 || error.code() == Some("NotImplemented")) => {
                if self.size(key).await?.is_some() {
                    return Ok(false);
                }
                Box::pin(self.put_single(key, body, false)).await
            }
            Err(error) => Err(self.error("storing", key.as_str(), &error)),
        }
    }
}

/// The last cause, which says most; the SDK's own words are `service error` and `dispatch failure`.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut inner = error;
    // No real chain is this long; a chain that ends in itself must not hang.
    for _ in 0..32 {
        match inner.source() {
            Some(source) => inner = source,
            None => break,
        }
    }
    match crate::clients::tls_failure(error) {
        Some(tls) => format!("TLS failed: {}", crate::clients::tls_words(tls)),
        None => crate::failure::without_errno(&inner.to_string()),
    }
}

trait HttpStatus {
    fn status(&self) -> u16;
}

impl HttpStatus for aws_sdk_s3::config::http::HttpResponse {
    fn status(&self) -> u16 {
        self.status().as_u16()
    }
}

fn status_of<E>(error: &SdkError<E, aws_sdk_s3::config::http::HttpResponse>) -> u16 {
    error.raw_response().map_or(0, |response| response.status().as_u16())
}

#[async_trait]
impl Store for S3 {
    fn location(&self) -> String {
        format!("s3://{}", self.path_of_bucket())
    }

    async fn reach(&self) -> Result<(), StoreError> {
        let answer = self.client.list_objects_v2().bucket(&self.bucket).max_keys(1).send().await;
        answer.map(|_| ()).map_err(|error| match self.error("looking at", &self.bucket, &error) {
            StoreError::NotFound { location, .. } => StoreError::NoBucket { location },
            other => other,
        })
    }

    async fn probe(&self) -> Result<(), StoreError> {
        let probe = Key::new(format!("check-{}", uuid::Uuid::new_v4().simple()))?;
        self.put(&probe, Bytes::from_static(b"sexton")).await?;
        // Removed also when it cannot be read; what was refused first is what is said.
        let read = self.get(&probe, 64).await.map(|_| ());
        read.and(self.delete(&probe).await)
    }

    async fn put(&self, key: &Key, body: Bytes) -> Result<(), StoreError> {
        if body.len() > parts::PART_BYTES {
            return self.put_parts(key, body).await;
        }
        self.put_single(key, body, false).await.map(|_| ())
    }

    async fn put_if_absent(&self, key: &Key, body: Bytes) -> Result<bool, StoreError> {
        if body.len() <= parts::PART_BYTES {
            return self.put_single(key, body, true).await;
        }
        if self.size(key).await?.is_some() {
            return Ok(false);
        }
        self.put_parts(key, body).await.map(|()| true)
    }

    async fn get(&self, key: &Key, limit: u64) -> Result<Bytes, StoreError> {
        // The SDK asks again for an answer that does not come, but not when one breaks off or arrives changed.
        let mut attempt = self.get_once(key, limit).await;
        for _ in 0..2 {
            if !matches!(attempt, Err(StoreError::Checksum { .. } | StoreError::Unreachable { .. })) {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            attempt = self.get_once(key, limit).await;
        }
        attempt
    }

    async fn size(&self, key: &Key) -> Result<Option<u64>, StoreError> {
        let request = self.client.head_object().bucket(&self.bucket).key(self.path(key.as_str()));
        match request.send().await {
            Ok(answer) => self.length(key, answer.content_length()).map(Some),
            Err(error) => match self.error("looking for", key.as_str(), &error) {
                StoreError::NotFound { .. } => Ok(None),
                other => Err(other),
            },
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        let start = if self.prefix.is_empty() { String::new() } else { format!("{}/", self.prefix) };
        let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(format!("{start}{prefix}"));
        let mut pages = request.into_paginator().send();
        let mut entries = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| self.error("listing", prefix, &error))?;
            for object in page.contents() {
                let name = object.key().and_then(|name| name.strip_prefix(&start));
                let size = object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
                if let Some(Ok(key)) = name.map(Key::new) {
                    entries.push(Entry { key, size, modified: object.last_modified().and_then(instant) });
                }
            }
        }
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(entries)
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        let request = self.client.delete_object().bucket(&self.bucket).key(self.path(key.as_str()));
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) => match self.error("removing", key.as_str(), &error) {
                StoreError::NotFound { .. } => Ok(()),
                other => Err(other),
            },
        }
    }

    async fn unfinished(&self) -> Result<Vec<Unfinished>, StoreError> {
        let start = if self.prefix.is_empty() { String::new() } else { format!("{}/", self.prefix) };
        let mut found = Vec::new();
        let mut marker: Option<(String, String)> = None;
        loop {
            let request = self.client.list_multipart_uploads().bucket(&self.bucket).prefix(&start);
            let (key, upload) = marker.clone().unzip();
            let page = request.set_key_marker(key).set_upload_id_marker(upload).send().await;
            let page = page.map_err(|error| self.error("listing uploads under", &start, &error))?;
            for upload in page.uploads() {
                let name = upload.key().and_then(|name| name.strip_prefix(&start));
                let ours = name.filter(|name| name.rsplit_once('/').is_some_and(|(folder, _)| is_folder(folder)));
                if let (Some(name), Some(id)) = (ours, upload.upload_id()) {
                    let (name, since) = (name.to_owned(), upload.initiated().and_then(instant));
                    found.push(Unfinished { name, upload: Some(id.to_owned()), since });
                }
            }
            let next = page.next_key_marker().zip(page.next_upload_id_marker());
            let next = next.map(|(key, upload)| (key.to_owned(), upload.to_owned()));
            // A store that does not move on would be asked for ever.
            if page.is_truncated() != Some(true) || next.is_none() || next == marker {
                return Ok(found);
            }
            marker = next;
        }
    }

    async fn abandon(&self, what: &Unfinished) -> Result<(), StoreError> {
        let Some(id) = &what.upload else { return Ok(()) };
        let call = self.client.abort_multipart_upload().bucket(&self.bucket).key(self.path(&what.name)).upload_id(id);
        match call.send().await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("NoSuchUpload") => Ok(()),
            Err(error) => match self.error("aborting the upload of", &what.name, &error) {
                StoreError::NotFound { .. } => Ok(()),
                other => Err(other),
            },
        }
    }
}

fn instant(at: &aws_sdk_s3::primitives::DateTime) -> Option<Timestamp> {
    let nanoseconds = i32::try_from(at.subsec_nanos()).ok()?;
    Timestamp::new(at.secs(), nanoseconds).ok()
}

impl S3 {
    async fn get_once(&self, key: &Key, limit: u64) -> Result<Bytes, StoreError> {
        let request = self.client.get_object().bucket(&self.bucket).key(self.path(key.as_str()));
        let answer = request.send().await.map_err(|error| self.error("reading", key.as_str(), &error))?;
        let size = self.length(key, answer.content_length())?;
        if size > limit {
            return Err(StoreError::TooLarge { location: self.location(), key: key.to_string(), size, limit });
        }
        let body = answer.body.collect().await.map_err(|error| {
            let (location, cause) = (self.location(), innermost(&error));
            // The SDK tells a wrong checksum from a broken connection by its words alone. Only the first says anything
            // about the object.
            if cause.contains("checksum mismatch") {
                StoreError::Checksum { location, key: key.to_string(), message: cause }
            } else {
                StoreError::Unreachable {
                    location: self.place(),
                    message: format!("reading `{key}` broke off: {cause}"),
                }
            }
        })?;
        Ok(body.into_bytes())
    }

    /// Without a length nothing would bound what is read.
    fn length(&self, key: &Key, length: Option<i64>) -> Result<u64, StoreError> {
        length.and_then(|length| u64::try_from(length).ok()).ok_or_else(|| StoreError::Unreachable {
            location: self.place(),
            message: format!("the answer about `{key}` has no length"),
        })
    }

    /// The location and, where one is configured, the address behind it.
    fn place(&self) -> String {
        let endpoint = self.endpoint.as_ref().map(|endpoint| format!(" at {endpoint}")).unwrap_or_default();
        format!("{}{endpoint}", self.location())
    }

    fn path_of_bucket(&self) -> String {
        if self.prefix.is_empty() { self.bucket.clone() } else { format!("{}/{}", self.bucket, self.prefix) }
    }
}
