//! Attributes of objects as S3 headers, and back.

use std::collections::HashMap;

use aws_sdk_s3::types::StorageClass;
use object_store::{Attribute, Attributes, Error};

/// User metadata of ours on conditional and multipart writes: after an attempt without an answer it tells our own write from another's. Never shown.
pub(super) const PUT_ID: &str = "bucketmq-put-id";

/// The headers that go with a new object.
#[derive(Debug, Default)]
pub(super) struct Headers {
    pub(super) cache_control: Option<String>,
    pub(super) content_disposition: Option<String>,
    pub(super) content_encoding: Option<String>,
    pub(super) content_language: Option<String>,
    pub(super) content_type: Option<String>,
    pub(super) storage_class: Option<StorageClass>,
    pub(super) metadata: HashMap<String, String>,
}

impl Headers {
    pub(super) fn of(attributes: &Attributes) -> object_store::Result<Headers> {
        let mut headers = Headers::default();
        for (attribute, value) in attributes {
            let value = value.as_ref().to_owned();
            match attribute {
                Attribute::CacheControl => headers.cache_control = Some(value),
                Attribute::ContentDisposition => headers.content_disposition = Some(value),
                Attribute::ContentEncoding => headers.content_encoding = Some(value),
                Attribute::ContentLanguage => headers.content_language = Some(value),
                Attribute::ContentType => headers.content_type = Some(value),
                Attribute::StorageClass => headers.storage_class = Some(StorageClass::from(value.as_str())),
                Attribute::Metadata(key) => drop(headers.metadata.insert(key.to_string(), value)),
                other => return Err(Error::NotSupported { source: format!("attribute {other:?}").into() }),
            }
        }
        Ok(headers)
    }

    pub(super) fn with_put_id(mut self, put_id: &str) -> Headers {
        self.metadata.insert(PUT_ID.to_owned(), put_id.to_owned());
        self
    }
}

/// What a GET or HEAD said about an object. Not its storage class: a lifecycle rule may have changed that, so it is nothing a writer said.
pub(super) fn read(headers: Headers) -> Attributes {
    let plain = [
        (Attribute::CacheControl, headers.cache_control),
        (Attribute::ContentDisposition, headers.content_disposition),
        (Attribute::ContentEncoding, headers.content_encoding),
        (Attribute::ContentLanguage, headers.content_language),
        (Attribute::ContentType, headers.content_type),
    ];
    let plain = plain.into_iter().filter_map(|(attribute, value)| Some((attribute, value?)));
    let own = headers.metadata.into_iter().filter(|(key, _)| key != PUT_ID).map(|(key, value)| (Attribute::Metadata(key.into()), value));
    plain.chain(own).collect()
}
