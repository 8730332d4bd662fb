//! PUT, with and without a condition.

use aws_sdk_s3::config::Config;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::types::ServerSideEncryption;
use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error, Extensions, GetOptions, PutMode, PutOptions, PutPayload, PutResult, Result, UpdateVersion};

use super::attributes::Headers;
use super::error::{Failure, Kind};
use super::retry::wait_before;
use super::{S3Store, STORE};

const OPERATION: &str = "PutObject";

/// What has to hold for a write to be stored.
#[derive(Clone, Debug)]
enum Condition {
    Absent,
    Tag(String),
}

/// Tells writes apart: 128 random bits.
pub(super) fn new_put_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

impl S3Store {
    pub(super) async fn put_object(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let headers = Headers::of(&options.attributes)?;
        let tags = (!options.tags.is_empty()).then(|| options.tags.encoded().to_owned());
        // Several pieces become one: the signature covers the whole, and an attempt must be repeatable.
        let body = Bytes::from(payload);
        let condition = match options.mode {
            PutMode::Overwrite => {
                let sent = self.send(location, body, &headers, tags, None).await;
                return sent.map_err(|failure| failure.at(location.as_ref()));
            }
            PutMode::Create => Condition::Absent,
            PutMode::Update(UpdateVersion { e_tag: Some(tag), .. }) => Condition::Tag(tag),
            PutMode::Update(_) => {
                return Err(Error::Generic { store: STORE, source: "an update needs the ETag of what it replaces".into() });
            }
        };
        self.put_if(location, body, headers, tags, condition).await
    }

    /// Attempts are counted here and not by the SDK: after one without an answer, 412 may be the echo of our own write, and 409 says nothing about the
    /// condition. In both cases the object is read before anybody is told that another was faster.
    async fn put_if(
        &self,
        location: &Path,
        body: Bytes,
        headers: Headers,
        tags: Option<String>,
        condition: Condition,
    ) -> Result<PutResult> {
        let put_id = new_put_id();
        let headers = headers.with_put_id(&put_id);
        let mut unanswered = false;
        let mut attempt = 1;
        loop {
            let failure = match self.send(location, body.clone(), &headers, tags.clone(), Some(&condition)).await {
                Ok(result) => return Ok(result),
                Err(failure) => failure,
            };
            match failure.kind {
                // A missing object has no ETag that could match.
                Kind::Precondition | Kind::NotFound if failure.kind == Kind::Precondition || matches!(condition, Condition::Tag(_)) => {
                    let ours = if unanswered { self.stored_by(location, &put_id).await? } else { None };
                    return ours.ok_or_else(|| refused(failure, location, &condition));
                }
                Kind::Conflict => match self.after_conflict(location, &put_id, &condition).await? {
                    Conflict::Ours(result) => return Ok(result),
                    Conflict::Lost => return Err(refused(failure, location, &condition)),
                    Conflict::Open if attempt < self.0.max_attempts => {}
                    Conflict::Open => return Err(failure.at(location.as_ref())),
                },
                Kind::Transient if attempt < self.0.max_attempts => unanswered = true,
                _ => return Err(failure.at(location.as_ref())),
            }
            attempt += 1;
            tracing::debug!(%location, attempt, failure = ?failure, "conditional put is tried again");
            tokio::time::sleep(wait_before(attempt)).await;
        }
    }

    async fn send(
        &self,
        location: &Path,
        body: Bytes,
        headers: &Headers,
        tags: Option<String>,
        condition: Option<&Condition>,
    ) -> Result<PutResult, Failure> {
        let mut request = self
            .0
            .client
            .put_object()
            .bucket(&self.0.bucket)
            .key(location.as_ref())
            .body(body.into())
            .set_cache_control(headers.cache_control.clone())
            .set_content_disposition(headers.content_disposition.clone())
            .set_content_encoding(headers.content_encoding.clone())
            .set_content_language(headers.content_language.clone())
            .set_content_type(headers.content_type.clone())
            .set_storage_class(headers.storage_class.clone())
            .set_metadata(Some(headers.metadata.clone()))
            .set_tagging(tags);
        if let Some(key) = &self.0.kms_key {
            // A bucket key asks KMS once in a while instead of once per object.
            request = request.server_side_encryption(ServerSideEncryption::AwsKms).ssekms_key_id(key).bucket_key_enabled(true);
        }
        request = match condition {
            None => request,
            Some(Condition::Absent) => request.if_none_match("*"),
            Some(Condition::Tag(tag)) => request.if_match(tag),
        };
        let sent = match condition {
            None => request.send().await,
            Some(_) => request.customize().config_override(Config::builder().retry_config(RetryConfig::disabled())).send().await,
        };
        let output = sent.map_err(|error| Failure::of(OPERATION, &error))?;
        let e_tag = output.e_tag.ok_or_else(|| Failure::protocol(OPERATION, "sent no ETag"))?;
        Ok(PutResult { e_tag: Some(e_tag), version: output.version_id, extensions: Extensions::new() })
    }

    /// The object, when the write with this id made it.
    pub(super) async fn stored_by(&self, location: &Path, put_id: &str) -> Result<Option<PutResult>> {
        match self.head_object(location, GetOptions::new()).await {
            Ok(head) if head.put_id.as_deref() == Some(put_id) => {
                Ok(Some(PutResult { e_tag: head.meta.e_tag, version: head.meta.version, extensions: Extensions::new() }))
            }
            Ok(_) => Ok(None),
            Err(failure) if failure.kind == Kind::NotFound => Ok(None),
            Err(failure) => Err(failure.at(location.as_ref())),
        }
    }

    async fn after_conflict(&self, location: &Path, put_id: &str, condition: &Condition) -> Result<Conflict> {
        let head = match self.head_object(location, GetOptions::new()).await {
            Ok(head) => Some(head),
            Err(failure) if failure.kind == Kind::NotFound => None,
            Err(failure) => return Err(failure.at(location.as_ref())),
        };
        Ok(match (head, condition) {
            (Some(head), _) if head.put_id.as_deref() == Some(put_id) => {
                Conflict::Ours(PutResult { e_tag: head.meta.e_tag, version: head.meta.version, extensions: Extensions::new() })
            }
            (None, Condition::Absent) => Conflict::Open,
            (Some(head), Condition::Tag(tag)) if head.meta.e_tag.as_ref() == Some(tag) => Conflict::Open,
            _ => Conflict::Lost,
        })
    }
}

/// What the object says after a 409.
enum Conflict {
    /// An earlier attempt of ours was stored.
    Ours(PutResult),
    /// The condition does not hold any more.
    Lost,
    /// It still holds: once more.
    Open,
}

fn refused(failure: Failure, location: &Path, condition: &Condition) -> Error {
    match condition {
        Condition::Absent => failure.already_exists(location.as_ref()),
        Condition::Tag(_) => failure.precondition(location.as_ref()),
    }
}
