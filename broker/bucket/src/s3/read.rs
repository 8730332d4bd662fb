//! GET and HEAD.

use std::ops::Range;

use aws_sdk_s3::primitives::{ByteStream, DateTime};
use futures_util::{StreamExt, stream};
use object_store::path::Path;
use object_store::{Extensions, GetOptions, GetRange, GetResult, GetResultPayload, ObjectMeta, Result};

use super::attributes::{self, Headers, PUT_ID};
use super::error::Failure;
use super::{S3Store, STORE};

/// An object as HEAD shows it, with the id of the write that made it.
pub(super) struct Head {
    pub(super) meta: ObjectMeta,
    pub(super) attributes: object_store::Attributes,
    pub(super) put_id: Option<String>,
}

macro_rules! conditions {
    ($request:expr, $options:expr) => {
        $request
            .set_if_match($options.if_match)
            .set_if_none_match($options.if_none_match)
            .set_if_modified_since($options.if_modified_since.map(sdk_time))
            .set_if_unmodified_since($options.if_unmodified_since.map(sdk_time))
            .set_version_id($options.version)
    };
}

macro_rules! headers {
    ($output:expr) => {
        Headers {
            cache_control: $output.cache_control,
            content_disposition: $output.content_disposition,
            content_encoding: $output.content_encoding,
            content_language: $output.content_language,
            content_type: $output.content_type,
            storage_class: None,
            metadata: $output.metadata.unwrap_or_default(),
        }
    };
}

impl S3Store {
    pub(super) async fn head_object(&self, location: &Path, options: GetOptions) -> Result<Head, Failure> {
        const OPERATION: &str = "HeadObject";
        let request = self.0.client.head_object().bucket(&self.0.bucket).key(location.as_ref());
        let output = conditions!(request, options).send().await.map_err(|error| Failure::of(OPERATION, &error))?;
        let size = size(OPERATION, output.content_length)?;
        let meta = meta(OPERATION, location, size, output.last_modified, output.e_tag.clone(), output.version_id.clone())?;
        let headers = headers!(output);
        let put_id = headers.metadata.get(PUT_ID).cloned();
        Ok(Head { meta, put_id, attributes: attributes::read(headers) })
    }

    pub(super) async fn get_object(&self, location: &Path, options: GetOptions) -> Result<GetResult, Failure> {
        const OPERATION: &str = "GetObject";
        let wanted = options.range.clone();
        if let Some(Err(problem)) = wanted.as_ref().map(GetRange::is_valid) {
            return Err(Failure::protocol(OPERATION, format!("was not asked: {problem}")));
        }
        let request = self.0.client.get_object().bucket(&self.0.bucket).key(location.as_ref());
        let request = conditions!(request, options).set_range(wanted.as_ref().map(header));
        let mut output = request.send().await.map_err(|error| Failure::of(OPERATION, &error))?;
        let (range, size) = match &wanted {
            None => size(OPERATION, output.content_length).map(|size| (0..size, size))?,
            Some(wanted) => {
                // A server that ignores Range would hand out the wrong bytes.
                let text = output.content_range.as_deref().unwrap_or_default();
                let (range, size) = parse_content_range(text)
                    .ok_or_else(|| Failure::protocol(OPERATION, format!("was asked for {} and answered with {text:?}", header(wanted))))?;
                if wanted.as_range(size).ok().as_ref() != Some(&range) {
                    return Err(Failure::protocol(OPERATION, format!("was asked for {} and sent {text}", header(wanted))));
                }
                (range, size)
            }
        };
        let meta = meta(OPERATION, location, size, output.last_modified, output.e_tag.take(), output.version_id.take())?;
        let payload = GetResultPayload::Stream(body(std::mem::take(&mut output.body), location.clone()));
        let attributes = attributes::read(headers!(output));
        Ok(GetResult { payload, meta, range, attributes, extensions: Extensions::new() })
    }
}

fn body(body: ByteStream, location: Path) -> stream::BoxStream<'static, Result<bytes::Bytes>> {
    stream::try_unfold((body, location), |(mut body, location)| async move {
        match body.try_next().await {
            Ok(Some(bytes)) => Ok(Some((bytes, (body, location)))),
            Ok(None) => Ok(None),
            Err(error) => {
                Err(object_store::Error::Generic { store: STORE, source: format!("GetObject: body of {location}: {error}").into() })
            }
        }
    })
    .boxed()
}

fn meta(
    operation: &'static str,
    location: &Path,
    size: u64,
    last_modified: Option<DateTime>,
    e_tag: Option<String>,
    version: Option<String>,
) -> Result<ObjectMeta, Failure> {
    let last_modified = last_modified.as_ref().and_then(time).ok_or_else(|| Failure::protocol(operation, "sent no Last-Modified"))?;
    Ok(ObjectMeta { location: location.clone(), last_modified, size, e_tag, version })
}

fn size(operation: &'static str, length: Option<i64>) -> Result<u64, Failure> {
    length.and_then(|length| length.try_into().ok()).ok_or_else(|| Failure::protocol(operation, "sent no Content-Length"))
}

pub(super) fn time(time: &DateTime) -> Option<chrono::DateTime<chrono::Utc>> {
    chrono::DateTime::from_timestamp(time.secs(), time.subsec_nanos())
}

fn sdk_time(time: chrono::DateTime<chrono::Utc>) -> DateTime {
    DateTime::from_secs(time.timestamp())
}

fn header(range: &GetRange) -> String {
    match range {
        GetRange::Bounded(range) => format!("bytes={}-{}", range.start, range.end.saturating_sub(1)),
        GetRange::Offset(offset) => format!("bytes={offset}-"),
        GetRange::Suffix(length) => format!("bytes=-{length}"),
    }
}

/// `bytes 2-4/14`: the range and the size of the whole.
fn parse_content_range(text: &str) -> Option<(Range<u64>, u64)> {
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some((first.parse().ok()?..last.parse::<u64>().ok()?.checked_add(1)?, size.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_asked_for_and_read() {
        assert_eq!(header(&GetRange::Bounded(2..5)), "bytes=2-4");
        assert_eq!(header(&GetRange::Offset(3)), "bytes=3-");
        assert_eq!(header(&GetRange::Suffix(2)), "bytes=-2");
        assert_eq!(parse_content_range("bytes 2-4/14"), Some((2..5, 14)));
        for text in ["", "bytes 2-4/*", "bytes */14", "2-4/14", "bytes 2-18446744073709551615/14"] {
            assert_eq!(parse_content_range(text), None, "{text}");
        }
    }
}
