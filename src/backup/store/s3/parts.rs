//! Large objects, which go up in parts.

use aws_sdk_s3::Client;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::create_multipart_upload::CreateMultipartUploadError;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;

use super::{S3, innermost};
use crate::backup::store::{Key, StoreError};

/// Objects larger than this go up in parts; parts are at least this large (S3 wants 5 MiB or more).
pub(super) const PART_BYTES: usize = 16 << 20;
/// S3 takes 10,000 parts, some of its kin only 1,000.
const MAX_PARTS: usize = 1_000;

impl S3 {
    pub(super) async fn put_parts(&self, key: &Key, body: Bytes) -> Result<(), StoreError> {
        let path = self.path(key.as_str());
        let create = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(&path)
            .checksum_algorithm(ChecksumAlgorithm::Crc32)
            .set_server_side_encryption(self.algorithm())
            .set_ssekms_key_id(self.kms_key());
        let (client, bucket) = (self.client.clone(), self.bucket.clone());
        // A task of its own: dropped before the answer is there, the upload would be the store's and have no name here.
        let created = tokio::spawn(async move {
            let id = create.send().await?.upload_id().unwrap_or_default().to_owned();
            Ok::<_, SdkError<CreateMultipartUploadError>>(Upload { client, bucket, path, id, armed: true })
        });
        let ended = |error: tokio::task::JoinError| {
            let (location, doing) = (self.place(), format!("storing `{key}`"));
            StoreError::Other { location, doing, message: error.to_string() }
        };
        let upload = created.await.map_err(ended)?.map_err(|error| self.error("storing", key.as_str(), &error))?;
        let outcome = self.send_parts(key, &upload, body).await;
        upload.finish(outcome.is_ok()).await;
        outcome
    }

    async fn send_parts(&self, key: &Key, upload: &Upload, mut body: Bytes) -> Result<(), StoreError> {
        let part_bytes = PART_BYTES.max(body.len().div_ceil(MAX_PARTS));
        let mut parts = Vec::new();
        let mut number = 0;
        while !body.is_empty() {
            number += 1;
            let piece = body.split_to(part_bytes.min(body.len()));
            let sent = self
                .client
                .upload_part()
                .bucket(&upload.bucket)
                .key(&upload.path)
                .upload_id(&upload.id)
                .part_number(number)
                .checksum_algorithm(ChecksumAlgorithm::Crc32)
                .body(ByteStream::from(piece))
                .send()
                .await
                .map_err(|error| self.error("storing a part of", key.as_str(), &error))?;
            let part = CompletedPart::builder()
                .part_number(number)
                .set_e_tag(sent.e_tag().map(str::to_owned))
                .set_checksum_crc32(sent.checksum_crc32().map(str::to_owned));
            parts.push(part.build());
        }
        self.client
            .complete_multipart_upload()
            .bucket(&upload.bucket)
            .key(&upload.path)
            .upload_id(&upload.id)
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build())
            .send()
            .await
            .map(|_| ())
            .map_err(|error| self.error("completing", key.as_str(), &error))
    }
}

/// An upload in parts, which costs money until it is completed or aborted: dropping it aborts it.
struct Upload {
    client: Client,
    bucket: String,
    path: String,
    id: String,
    armed: bool,
}

impl Upload {
    async fn finish(mut self, completed: bool) {
        self.armed = false;
        if !completed {
            abort(self.client.clone(), self.bucket.clone(), self.path.clone(), self.id.clone()).await;
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let (true, Ok(runtime)) = (self.armed, tokio::runtime::Handle::try_current()) {
            runtime.spawn(abort(self.client.clone(), self.bucket.clone(), self.path.clone(), self.id.clone()));
        }
    }
}

async fn abort(client: Client, bucket: String, path: String, id: String) {
    let call = client.abort_multipart_upload().bucket(bucket).key(&path).upload_id(id);
    if let Err(error) = call.send().await {
        tracing::warn!(key = path, error = %innermost(&error), "an unfinished upload could not be aborted");
    }
}
