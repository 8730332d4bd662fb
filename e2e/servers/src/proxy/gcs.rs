//! Google's XML API, as object_store speaks it, in terms of the JSON API, which fake-gcs-server speaks.
//!
//! Objects are put, copied, read, listed and deleted; `x-goog-if-generation-match` becomes `ifGenerationMatch`, which the server checks under its lock, so a
//! race has one winner. Multipart uploads are collected here, in memory, and put whole. Requests of the JSON API pass unchanged.

use std::collections::{BTreeMap, HashMap};

use aws_lc_rs::digest;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE, ETAG, HeaderName, HeaderValue,
    IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, LAST_MODIFIED,
};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use parking_lot::Mutex;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::{Map, Value, json};

use crate::proxy::body::{AnyBody, Error};
use crate::proxy::fault::error;
use crate::proxy::forward::{Store, whole};
use crate::proxy::operation::parameter;
use crate::sign;

const GENERATION: HeaderName = HeaderName::from_static("x-goog-generation");
const GENERATION_MATCH: HeaderName = HeaderName::from_static("x-goog-if-generation-match");
const COPY_SOURCE: HeaderName = HeaderName::from_static("x-goog-copy-source");
const STORAGE_CLASS: HeaderName = HeaderName::from_static("x-goog-storage-class");
const METADATA: &str = "x-goog-meta-";

/// Where the JSON API and the server's own pages begin.
const JSON: [&str; 5] = ["/storage/", "/upload/", "/download/", "/batch/", "/_internal/"];

/// Between the parts of an upload. A body that holds it by chance would be cut there, so it is long.
const BOUNDARY: &str = "bucketmq-5b0fd6fd3a7c4b7c9d3f0e6a4f1c2b8e-5b0fd6fd3a7c4b7c9d3f0e6a4f1c2b8e";

/// Multipart uploads under way.
pub(crate) struct Gcs {
    uploads: Mutex<Uploads>,
}

#[derive(Default)]
struct Uploads {
    begun: u64,
    by_id: HashMap<String, Upload>,
}

/// Parts by their number, with their ETags, and the attributes that were given when it began.
#[derive(Clone, Default)]
struct Upload {
    attributes: HeaderMap,
    parts: BTreeMap<u32, (String, Bytes)>,
}

/// An object's place, decoded.
#[derive(Clone, Copy)]
struct Place<'a> {
    bucket: &'a str,
    key: &'a str,
}

impl Gcs {
    pub(crate) fn new() -> Self {
        Self { uploads: Mutex::default() }
    }

    /// Answers a request by one or more requests to the server.
    pub(crate) async fn handle(&self, store: &Store, request: Request<AnyBody>) -> Result<Response<AnyBody>, Error> {
        if JSON.iter().any(|start| request.uri().path().starts_with(start)) {
            return store.send(request).await;
        }
        let (head, body) = request.into_parts();
        let (bucket, key) = head.uri.path().trim_start_matches('/').split_once('/').unwrap_or((head.uri.path().trim_matches('/'), ""));
        let (bucket, key) = (percent_decode_str(bucket).decode_utf8()?, percent_decode_str(key).decode_utf8()?);
        let place = Place { bucket: &bucket, key: &key };
        let query = head.uri.query().unwrap_or_default();
        let upload_id = parameter(query, "uploadId");
        match (&head.method, upload_id) {
            (&Method::GET, _) if key.is_empty() => list(store, &bucket, query).await.map(answer),
            (&Method::GET | &Method::HEAD, _) => read(store, place, &head.method, query, head.headers).await,
            (&Method::POST, None) if parameter(query, "uploads").is_some() => Ok(answer(self.begin(place, head.headers))),
            (&Method::PUT, Some(id)) => {
                let number = parameter(query, "partNumber").and_then(|text| text.parse().ok()).unwrap_or_default();
                Ok(answer(self.part(&id, number, body.collect().await?.to_bytes())))
            }
            (&Method::POST, Some(id)) => {
                let list = body.collect().await?.to_bytes();
                self.complete(store, place, &id, &String::from_utf8_lossy(&list), &head.headers).await.map(answer)
            }
            (&Method::DELETE, Some(id)) => {
                let known = self.uploads.lock().by_id.remove(&id).is_some();
                Ok(answer(if known { empty(StatusCode::NO_CONTENT) } else { no_such_upload() }))
            }
            (&Method::PUT, None) => {
                let data = body.collect().await?.to_bytes();
                match head.headers.get(COPY_SOURCE) {
                    Some(source) => copy(store, source.to_str()?, place, &head.headers).await.map(answer),
                    None => put(store, place, &head.headers, data, &head.headers).await.map(answer),
                }
            }
            (&Method::DELETE, None) if !key.is_empty() => delete(store, place).await.map(answer),
            _ => Ok(answer(error(StatusCode::NOT_IMPLEMENTED, "NotImplemented", "not translated for fake-gcs-server"))),
        }
    }

    fn begin(&self, place: Place<'_>, attributes: HeaderMap) -> Response<Bytes> {
        let mut uploads = self.uploads.lock();
        uploads.begun += 1;
        let id = format!("upload-{}", uploads.begun);
        uploads.by_id.insert(id.clone(), Upload { attributes, ..Upload::default() });
        let (bucket, key) = (escaped(place.bucket), escaped(place.key));
        xml(format!(
            "<InitiateMultipartUploadResult><Bucket>{bucket}</Bucket><Key>{key}</Key><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
        ))
    }

    fn part(&self, id: &str, number: u32, data: Bytes) -> Response<Bytes> {
        let etag = format!("\"{}\"", &sign::hex(digest::digest(&digest::SHA256, &data).as_ref())[..32]);
        let mut uploads = self.uploads.lock();
        let Some(upload) = uploads.by_id.get_mut(id) else { return no_such_upload() };
        let mut response = empty(StatusCode::OK);
        response.headers_mut().insert(ETAG, etag.parse().expect("hexadecimal in quotes"));
        upload.parts.insert(number, (etag, data));
        response
    }

    /// Puts the parts that `list` names, in its order. The upload stays until that has succeeded.
    async fn complete(&self, store: &Store, place: Place<'_>, id: &str, list: &str, headers: &HeaderMap) -> Result<Response<Bytes>, Error> {
        let Some(upload) = self.uploads.lock().by_id.get(id).cloned() else { return Ok(no_such_upload()) };
        let mut data = BytesMut::new();
        for part in list.split("<Part>").skip(1) {
            let number: Option<u32> = between(part, "<PartNumber>", "</PartNumber>").and_then(|text| text.trim().parse().ok());
            let etag = between(part, "<ETag>", "</ETag>").map(|text| text.replace("&quot;", "\""));
            match number.and_then(|number| upload.parts.get(&number)) {
                Some((known, bytes)) if etag.as_deref().is_some_and(|etag| etag.trim_matches('"') == known.trim_matches('"')) => {
                    data.extend_from_slice(bytes);
                }
                _ => return Ok(error(StatusCode::BAD_REQUEST, "InvalidPart", "a part that was not put, or another one")),
            }
        }
        let response = put(store, place, &upload.attributes, data.freeze(), headers).await?;
        if !response.status().is_success() {
            return Ok(response);
        }
        self.uploads.lock().by_id.remove(id);
        let (head, _) = response.into_parts();
        let etag = head.headers.get(ETAG).and_then(|etag| etag.to_str().ok()).unwrap_or_default();
        let (bucket, key, etag) = (escaped(place.bucket), escaped(place.key), escaped(etag));
        let mut response = xml(format!(
            "<CompleteMultipartUploadResult><Bucket>{bucket}</Bucket><Key>{key}</Key><ETag>{etag}</ETag></CompleteMultipartUploadResult>"
        ));
        response.headers_mut().extend(head.headers);
        Ok(response)
    }
}

/// Puts an object with `attributes`, if the condition of `headers` is met.
async fn put(store: &Store, place: Place<'_>, attributes: &HeaderMap, data: Bytes, headers: &HeaderMap) -> Result<Response<Bytes>, Error> {
    let mut target = format!("/upload/storage/v1/b/{}/o?uploadType=multipart", encoded(place.bucket));
    if let Some(generation) = headers.get(GENERATION_MATCH) {
        target.push_str(&format!("&ifGenerationMatch={}", generation.to_str()?));
    }
    let content_type = attributes.get(CONTENT_TYPE).map_or("application/octet-stream", |value| value.to_str().unwrap_or_default());
    let resource = resource(place.key, content_type, attributes)?;
    let opening =
        format!("--{BOUNDARY}\r\ncontent-type: application/json\r\n\r\n{resource}\r\n--{BOUNDARY}\r\ncontent-type: {content_type}\r\n\r\n");
    let mut body = BytesMut::with_capacity(opening.len() + data.len() + BOUNDARY.len() + 8);
    body.extend_from_slice(opening.as_bytes());
    body.extend_from_slice(&data);
    body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, format!("multipart/related; boundary={BOUNDARY}").parse()?);
    let response = store.ask(Method::POST, &target, headers, body.freeze()).await?;
    if !response.status().is_success() {
        return Ok(as_xml_error(response.status()));
    }
    let object: Value = serde_json::from_slice(response.body())?;
    let (etag, generation) = (text(&object, "etag"), text(&object, "generation"));
    let mut response = empty(StatusCode::OK);
    response.headers_mut().insert(ETAG, quoted(etag).parse()?);
    response.headers_mut().insert(GENERATION, generation.parse()?);
    Ok(response)
}

/// What the JSON API calls the attributes that came as headers.
fn resource(key: &str, content_type: &str, attributes: &HeaderMap) -> Result<Value, Error> {
    let mut resource = json!({ "name": key, "contentType": content_type });
    for (header, name) in [
        (CACHE_CONTROL, "cacheControl"),
        (CONTENT_DISPOSITION, "contentDisposition"),
        (CONTENT_ENCODING, "contentEncoding"),
        (CONTENT_LANGUAGE, "contentLanguage"),
        (STORAGE_CLASS, "storageClass"),
    ] {
        if let Some(value) = attributes.get(&header) {
            resource[name] = value.to_str()?.into();
        }
    }
    let mut metadata = Map::new();
    for (name, value) in attributes {
        if let Some(name) = name.as_str().strip_prefix(METADATA) {
            metadata.insert(name.to_owned(), value.to_str()?.into());
        }
    }
    resource["metadata"] = metadata.into();
    Ok(resource)
}

/// The server's own copy knows no condition, so the object is read and put.
async fn copy(store: &Store, source: &str, to: Place<'_>, headers: &HeaderMap) -> Result<Response<Bytes>, Error> {
    let (bucket, key) = source.trim_start_matches('/').split_once('/').unwrap_or((source, ""));
    let (bucket, key) = (percent_decode_str(bucket).decode_utf8()?, percent_decode_str(key).decode_utf8()?);
    let from = store.ask(Method::GET, &download(Place { bucket: &bucket, key: &key }, ""), HeaderMap::new(), Bytes::new()).await?;
    if !from.status().is_success() {
        return Ok(as_xml_error(from.status()));
    }
    let (head, data) = from.into_parts();
    let response = put(store, to, &head.headers, data, headers).await?;
    if !response.status().is_success() {
        return Ok(response);
    }
    let etag = response.headers().get(ETAG).and_then(|etag| etag.to_str().ok()).unwrap_or_default();
    let mut result = xml(format!("<CopyObjectResult><ETag>{}</ETag></CopyObjectResult>", escaped(etag)));
    result.headers_mut().extend(response.headers().clone());
    Ok(result)
}

/// The object streams through; conditions are judged here, by the attributes that come with it.
async fn read(store: &Store, place: Place<'_>, method: &Method, query: &str, headers: HeaderMap) -> Result<Response<AnyBody>, Error> {
    let mut request = Request::new(whole(Bytes::new()));
    *request.method_mut() = method.clone();
    *request.uri_mut() = download(place, query).parse()?;
    let conditions = headers.clone();
    *request.headers_mut() = headers;
    // Otherwise the server unpacks what is marked as packed, and fails halfway where that is not true.
    request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    let response = store.send(request).await?;
    let status = response.status();
    if !status.is_success() && status != StatusCode::RANGE_NOT_SATISFIABLE {
        let body = if *method == Method::HEAD { empty(status) } else { as_xml_error(status) };
        return Ok(answer(body));
    }
    match refusal(&conditions, response.headers()) {
        Some(status) if status == StatusCode::NOT_MODIFIED || *method == Method::HEAD => Ok(answer(empty(status))),
        Some(status) => Ok(answer(as_xml_error(status))),
        None => Ok(response),
    }
}

/// What an object's reader is told instead of the object, when a condition of the request is not met.
fn refusal(conditions: &HeaderMap, object: &HeaderMap) -> Option<StatusCode> {
    let etag = object.get(ETAG).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let names_it = |value: &HeaderValue| {
        value
            .to_str()
            .is_ok_and(|list| list.split(',').map(str::trim).any(|one| one == "*" || one.trim_matches('"') == etag.trim_matches('"')))
    };
    let time = |headers: &HeaderMap, name: HeaderName| httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok();
    let modified = time(object, LAST_MODIFIED);
    if let Some(value) = conditions.get(IF_MATCH) {
        if !names_it(value) {
            return Some(StatusCode::PRECONDITION_FAILED);
        }
    } else if time(conditions, IF_UNMODIFIED_SINCE).is_some_and(|since| modified.is_some_and(|modified| modified > since)) {
        return Some(StatusCode::PRECONDITION_FAILED);
    }
    if let Some(value) = conditions.get(IF_NONE_MATCH) {
        return names_it(value).then_some(StatusCode::NOT_MODIFIED);
    }
    let unchanged = time(conditions, IF_MODIFIED_SINCE).is_some_and(|since| modified.is_some_and(|modified| modified <= since));
    unchanged.then_some(StatusCode::NOT_MODIFIED)
}

async fn delete(store: &Store, place: Place<'_>) -> Result<Response<Bytes>, Error> {
    let target = format!("/storage/v1/b/{}/o/{}", encoded(place.bucket), encoded(place.key));
    let response = store.ask(Method::DELETE, &target, HeaderMap::new(), Bytes::new()).await?;
    Ok(if response.status().is_success() { empty(StatusCode::NO_CONTENT) } else { as_xml_error(response.status()) })
}

/// A page of a list, version 2.
async fn list(store: &Store, bucket: &str, query: &str) -> Result<Response<Bytes>, Error> {
    let response = store.ask(Method::GET, &list_target(bucket, query), HeaderMap::new(), Bytes::new()).await?;
    if !response.status().is_success() {
        return Ok(as_xml_error(response.status()));
    }
    let page: Value = serde_json::from_slice(response.body())?;
    let entries = |name: &str| page[name].as_array().cloned().unwrap_or_default();
    let mut text_out = String::from("<ListBucketResult>");
    for object in entries("items") {
        let (key, size, modified, etag) = (text(&object, "name"), text(&object, "size"), text(&object, "updated"), text(&object, "etag"));
        let (key, etag) = (escaped(key), escaped(&quoted(etag)));
        text_out.push_str(&format!(
            "<Contents><Key>{key}</Key><LastModified>{modified}</LastModified><ETag>{etag}</ETag><Size>{size}</Size></Contents>"
        ));
    }
    for prefix in entries("prefixes").iter().filter_map(Value::as_str) {
        text_out.push_str(&format!("<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>", escaped(prefix)));
    }
    match page["nextPageToken"].as_str().filter(|token| !token.is_empty()) {
        Some(token) => {
            text_out.push_str(&format!("<IsTruncated>true</IsTruncated><NextContinuationToken>{}</NextContinuationToken>", escaped(token)))
        }
        None => text_out.push_str("<IsTruncated>false</IsTruncated>"),
    }
    text_out.push_str("</ListBucketResult>");
    Ok(xml(text_out))
}

fn list_target(bucket: &str, query: &str) -> String {
    let mut target = {
        let start = format!("/storage/v1/b/{}/o?", encoded(bucket));
        let length = start.len();
        form_urlencoded::Serializer::for_suffix(start, length)
    };
    let names = [("prefix", "prefix"), ("delimiter", "delimiter"), ("max-keys", "maxResults"), ("continuation-token", "pageToken")];
    for (name, json_name) in names {
        if let Some(value) = parameter(query, name) {
            target.append_pair(json_name, &value);
        }
    }
    // The JSON API begins with the name it is given, the XML API after it: no name stands between a name and itself with a zero behind.
    if let Some(name) = parameter(query, "start-after") {
        target.append_pair("startOffset", &(name + "\0"));
    }
    target.finish()
}

fn download(place: Place<'_>, query: &str) -> String {
    let mark = if query.is_empty() { "" } else { "?" };
    format!("/download/storage/v1/b/{}/o/{}{mark}{query}", encoded(place.bucket), encoded(place.key))
}

fn encoded(text: &str) -> percent_encoding::PercentEncode<'_> {
    utf8_percent_encode(text, NON_ALPHANUMERIC)
}

fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    object[name].as_str().unwrap_or_default()
}

fn quoted(etag: &str) -> String {
    format!("\"{}\"", etag.trim_matches('"'))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    Some(text.split_once(start)?.1.split_once(end)?.0)
}

fn empty(status: StatusCode) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    response
}

fn xml(text: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{text}")));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    response
}

fn no_such_upload() -> Response<Bytes> {
    error(StatusCode::NOT_FOUND, "NoSuchUpload", "begun nowhere, completed or given up")
}

/// The server's errors are JSON, or text.
fn as_xml_error(status: StatusCode) -> Response<Bytes> {
    let (code, message) = match status {
        StatusCode::NOT_FOUND => ("NoSuchKey", "The specified key does not exist."),
        StatusCode::PRECONDITION_FAILED => ("PreconditionFailed", "At least one of the pre-conditions you specified did not hold."),
        StatusCode::BAD_REQUEST => ("InvalidArgument", "Invalid argument."),
        _ => ("InternalError", "fake-gcs-server failed."),
    };
    error(status, code, message)
}

fn answer(response: Response<Bytes>) -> Response<AnyBody> {
    response.map(whole)
}
