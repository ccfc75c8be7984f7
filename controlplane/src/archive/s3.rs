//! A bucket as an archive: Amazon's S3 or any server that speaks its protocol.
//! Owns:  the client, the cut of large files into parts, the check of what was stored.
//! Gives: `S3`, a `Target`.
//! Never: tries again by itself: the schedule does. Shows a key.
//! Holds: after `Ok` the bucket's own SHA-256 was compared with ours, or the object was read back.

use std::error::Error as StdError;
use std::fmt;
use std::io::SeekFrom;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Config, Credentials, Region, RequestChecksumCalculation,
    ResponseChecksumValidation,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode, CompletedMultipartUpload, CompletedPart};
use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use shared::config::Bucket;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::Semaphore;
use tokio_util::io::ReaderStream;

use super::target::{Content, NotStored, Object, Source, Storing, Target, hex};
use crate::webhooks::one_line;

/// Above this a file goes in parts of this size, as S3's own tools do. At most 10 000 parts.
pub const PART_BYTES: usize = 8 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For one request: a part of 8 MiB at 70 kB/s. Slower is as good as hanging.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);

/// Uploads in parts at a time: each holds one part in memory.
const IN_PARTS_MAX: usize = 8;

pub struct S3 {
    client: Client,
    bucket: String,
    root: String,
    in_parts: Semaphore,
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3({})", self.bucket)
    }
}

impl S3 {
    /// `request_timeout`: for one part, or one small object.
    pub fn new(bucket: &Bucket, request_timeout: Duration) -> Self {
        let keys =
            Credentials::new(&bucket.access_key, &bucket.secret_key, None, None, "configuration");
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_timeout(request_timeout)
            .build();
        let mut config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(bucket.region.clone()))
            .credentials_provider(keys)
            .force_path_style(bucket.path_style)
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            // We send our own SHA-256 and compare it ourselves; older servers know no other way.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        if let Some(endpoint) = &bucket.endpoint {
            config = config.endpoint_url(endpoint.as_str());
        }
        Self {
            client: Client::from_conf(config.build()),
            bucket: bucket.name.clone(),
            root: bucket.root.clone(),
            in_parts: Semaphore::new(IN_PARTS_MAX),
        }
    }

    async fn put(&self, key: &str, source: &Source) -> Result<(), NotStored> {
        let body = match &source.content {
            Content::Bytes(bytes) => ByteStream::from(bytes.clone()),
            Content::File(path) => ByteStream::from_path(path)
                .await
                .map_err(|error| NotStored::Source(error.to_string()))?,
        };
        self.client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .content_type(source.media_type)
            .content_length(signed(source.size))
            .checksum_sha256(STANDARD.encode(source.sha256))
            .body(body)
            .send()
            .await
            .map_err(|error| failed("PutObject", &error))?;
        Ok(())
    }

    async fn put_parts(&self, key: &str, path: &Path, source: &Source) -> Result<(), NotStored> {
        let _room = self.in_parts.acquire().await;
        let begun = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .content_type(source.media_type)
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .send()
            .await
            .map_err(|error| failed("CreateMultipartUpload", &error))?;
        let Some(upload) = begun.upload_id() else {
            return Err(NotStored::Target("CreateMultipartUpload gave no id".to_owned()));
        };
        let sent = self.send_parts(key, upload, path, source.size).await;
        if let Err(why) = sent {
            let aborted = self.client.abort_multipart_upload().bucket(&self.bucket).key(key);
            if let Err(error) = aborted.upload_id(upload).send().await {
                let reason = failed("AbortMultipartUpload", &error);
                tracing::warn!(key, %reason, "parts of a failed upload stay in the bucket");
            }
            return Err(why);
        }
        Ok(())
    }

    async fn send_parts(
        &self,
        key: &str,
        upload: &str,
        path: &Path,
        size: u64,
    ) -> Result<(), NotStored> {
        let unreadable = |error: std::io::Error| NotStored::Source(error.to_string());
        let mut file = File::open(path).await.map_err(unreadable)?;
        let mut parts = Vec::new();
        let (mut sent, mut number) = (0_u64, 0);
        while sent < size {
            let left = usize::try_from(size - sent).unwrap_or(usize::MAX);
            let mut part = vec![0; left.min(PART_BYTES)];
            file.seek(SeekFrom::Start(sent)).await.map_err(unreadable)?;
            file.read_exact(&mut part).await.map_err(unreadable)?;
            sent += part.len() as u64;
            number += 1;
            let hash = STANDARD.encode(Sha256::digest(&part));
            let taken = self
                .client
                .upload_part()
                .bucket(&self.bucket)
                .key(key)
                .upload_id(upload)
                .part_number(number)
                .checksum_sha256(&hash)
                .body(ByteStream::from(part))
                .send()
                .await
                .map_err(|error| failed("UploadPart", &error))?;
            let done = CompletedPart::builder()
                .part_number(number)
                .checksum_sha256(hash)
                .set_e_tag(taken.e_tag().map(str::to_owned));
            parts.push(done.build());
        }
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        self.client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .upload_id(upload)
            .multipart_upload(parts)
            .send()
            .await
            .map_err(|error| failed("CompleteMultipartUpload", &error))?;
        Ok(())
    }

    /// The bucket's word where it gives a hash of the whole object; else every byte is read back.
    async fn verify(&self, key: &str, source: &Source) -> Result<(), NotStored> {
        let head = self
            .client
            .head_object()
            .bucket(&self.bucket)
            .key(key)
            .checksum_mode(ChecksumMode::Enabled)
            .send()
            .await
            .map_err(|error| failed("HeadObject", &error))?;
        let length = head.content_length().unwrap_or(-1);
        if length != signed(source.size) {
            let reason = format!("{length} bytes instead of {}", source.size);
            return Err(NotStored::Corrupt(reason));
        }
        let ours = STANDARD.encode(source.sha256);
        if head.checksum_sha256() == Some(ours.as_str()) {
            return Ok(());
        }
        let found = self.hash_of(key).await?;
        if found != source.sha256 {
            return Err(NotStored::Corrupt(format!("its SHA-256 is {}", hex(&found))));
        }
        Ok(())
    }

    async fn hash_of(&self, key: &str) -> Result<[u8; 32], NotStored> {
        let got = self.client.get_object().bucket(&self.bucket).key(key).send().await;
        let mut body = got.map_err(|error| failed("GetObject", &error))?.body;
        let mut hash = Sha256::new();
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| NotStored::Target(format!("GetObject: {error}")))?;
            hash.update(&chunk);
        }
        Ok(hash.finalize().into())
    }
}

impl Target for S3 {
    fn store<'a>(&'a self, key: &'a str, source: &'a Source) -> Storing<'a, Option<String>> {
        Box::pin(async move {
            match &source.content {
                Content::File(path) if source.size > PART_BYTES as u64 => {
                    self.put_parts(key, path, source).await?;
                }
                _ => self.put(key, source).await?,
            }
            self.verify(key, source).await?;
            Ok(Some(key.to_owned()))
        })
    }

    fn read<'a>(&'a self, key: &'a str, range: Option<RangeInclusive<u64>>) -> Storing<'a, Object> {
        Box::pin(async move {
            let range = range.map(|range| format!("bytes={}-{}", range.start(), range.end()));
            let got = self.client.get_object().bucket(&self.bucket).key(key).set_range(range);
            let got = got.send().await.map_err(|error| failed("GetObject", &error))?;
            let length = u64::try_from(got.content_length().unwrap_or(0)).unwrap_or(0);
            let stream = ReaderStream::new(got.body.into_async_read());
            Ok(Object { body: Body::from_stream(stream), length })
        })
    }

    fn key_for(&self, below_root: &str) -> String {
        match self.root.as_str() {
            "" => below_root.to_owned(),
            root => format!("{root}/{below_root}"),
        }
    }
}

fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// What the bucket said, or why it said nothing, in one line.
fn failed<E, R>(operation: &str, error: &SdkError<E, R>) -> NotStored
where
    E: ProvideErrorMetadata + StdError + 'static,
    R: fmt::Debug,
    SdkError<E, R>: StdError,
{
    let reason = match error.as_service_error() {
        Some(said) => match (said.code(), said.message()) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (Some(code), None) => code.to_owned(),
            (None, _) => one_line(error),
        },
        None => one_line(error),
    };
    NotStored::Target(format!("{operation}: {reason}"))
}
