//! Scratch buckets on the stack's S3 store.

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    DefaultRetention, ObjectLockConfiguration, ObjectLockEnabled, ObjectLockRetentionMode, ObjectLockRule,
};
use sexton::backup::store::Settings;

use super::{stack, suffix};

/// A bucket of its own; [`Bucket::remove`] takes it away.
#[derive(Debug, Clone)]
pub struct Bucket {
    pub client: Client,
    pub name: String,
}

impl Bucket {
    pub async fn new() -> Self {
        Self::made(false).await
    }

    /// One that keeps every version, and none of them may be removed for a day.
    pub async fn locked() -> Self {
        let bucket = Self::made(true).await;
        let retention = DefaultRetention::builder().mode(ObjectLockRetentionMode::Governance).days(1).build();
        let lock = ObjectLockConfiguration::builder()
            .object_lock_enabled(ObjectLockEnabled::Enabled)
            .rule(ObjectLockRule::builder().default_retention(retention).build())
            .build();
        let put = bucket.client.put_object_lock_configuration().bucket(&bucket.name);
        put.object_lock_configuration(lock).send().await.unwrap();
        bucket
    }

    async fn made(lock: bool) -> Self {
        let stack = stack();
        let keys = Credentials::new(stack.get("S3_ACCESS_KEY"), stack.get("S3_SECRET_KEY"), None, None, "stack");
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(stack.get("S3_REGION")))
            .endpoint_url(stack.get("S3_ENDPOINT"))
            .credentials_provider(keys)
            .force_path_style(true)
            .build();
        let bucket = Self { client: Client::from_conf(config), name: format!("it-{}", suffix()) };
        let made = bucket.client.create_bucket().bucket(&bucket.name);
        made.object_lock_enabled_for_bucket(lock).send().await.unwrap();
        bucket
    }

    /// sexton's settings for it.
    pub fn settings(&self, prefix: &str) -> Settings {
        Settings::S3 {
            bucket: self.name.clone(),
            prefix: prefix.to_owned(),
            region: stack().get("S3_REGION").to_owned(),
            endpoint: Some(stack().get("S3_ENDPOINT").to_owned()),
            path_style: true,
            server_side: None,
            credentials: Some((
                stack().get("S3_ACCESS_KEY").to_owned(),
                stack().get("S3_SECRET_KEY").to_owned().into(),
            )),
        }
    }

    /// The names of its objects.
    pub async fn keys(&self) -> Vec<String> {
        let mut pages = self.client.list_objects_v2().bucket(&self.name).into_paginator().send();
        let mut keys = Vec::new();
        while let Some(page) = pages.next().await {
            keys.extend(page.unwrap().contents().iter().filter_map(|object| object.key().map(str::to_owned)));
        }
        keys
    }

    /// Uploads in parts that were neither completed nor aborted.
    pub async fn unfinished(&self) -> usize {
        // An upload that ends while it is listed makes the stack's store fail now and then.
        for _ in 0..20 {
            if let Ok(listed) = self.client.list_multipart_uploads().bucket(&self.name).send().await {
                return listed.uploads().len();
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        panic!("the uploads of {} cannot be listed", self.name)
    }

    /// Waits until no more than so many are left: an abort goes its own way.
    pub async fn settles_at(&self, most: usize) {
        for _ in 0..2400 {
            if self.unfinished().await <= most {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("{} uploads in parts that nobody will complete", self.unfinished().await)
    }

    /// Removes an object behind sexton's back.
    pub async fn delete(&self, key: &str) {
        self.client.delete_object().bucket(&self.name).key(key).send().await.unwrap();
    }

    /// Writes an object behind sexton's back.
    pub async fn overwrite(&self, key: &str, body: Vec<u8>) {
        self.client.put_object().bucket(&self.name).key(key).body(ByteStream::from(body)).send().await.unwrap();
    }

    /// Empties and removes it.
    pub async fn remove(self) {
        for key in self.keys().await {
            self.delete(&key).await;
        }
        let _ = self.client.delete_bucket().bucket(&self.name).send().await;
    }
}
