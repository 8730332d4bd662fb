//! What a request asks of an object store, and of which key: read from its method and target, for the three ways stores are spoken to.

use std::borrow::Cow;

use hyper::{Method, Uri};
use percent_encoding::percent_decode_str;

use crate::Kind;

/// What a request does. Stores are paid by these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Reads an object or a part of it.
    Get,
    /// Asks for an object's attributes.
    Head,
    /// Lists keys.
    List,
    /// Writes an object whole; copies count here too.
    Put,
    /// A step of a multipart upload: begin, part, complete. Giving one up is a [`Operation::Delete`].
    Multipart,
    /// Deletes one object.
    Delete,
    /// Everything else: deleting many objects in one request, batches.
    Post,
}

impl Operation {
    /// All of them, in the order they are counted.
    pub const ALL: [Self; 7] = [Self::Get, Self::Head, Self::List, Self::Put, Self::Multipart, Self::Delete, Self::Post];

    /// In lower case, as in JSON and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Head => "head",
            Self::List => "list",
            Self::Put => "put",
            Self::Multipart => "multipart",
            Self::Delete => "delete",
            Self::Post => "post",
        }
    }

    /// True for what changes nothing.
    pub fn is_read(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::List)
    }
}

/// What is asked for. The key is decoded; of a list it is the prefix.
pub(crate) fn of<'a>(kind: Kind, method: &Method, uri: &'a Uri) -> (Operation, Cow<'a, str>) {
    let query = uri.query().unwrap_or_default();
    let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
    let (bucket_depth, is_list, is_multipart) = match kind {
        // The first part of every path is the account.
        Kind::Azurite => (2, has_value(query, "comp", "list"), has_value(query, "comp", "block") || has_value(query, "comp", "blocklist")),
        Kind::Versitygw | Kind::Moto | Kind::FakeGcs => (1, false, has("uploadId") || has("uploads")),
    };
    let path = uri.path().trim_start_matches('/');
    let key = match path.splitn(bucket_depth + 1, '/').nth(bucket_depth).unwrap_or_default() {
        "" => Cow::Owned(parameter(query, "prefix").unwrap_or_default()),
        key => percent_decode_str(key).decode_utf8_lossy(),
    };
    let of_bucket = path.trim_end_matches('/').split('/').count() <= bucket_depth;
    let operation = match *method {
        Method::GET if is_list || of_bucket => Operation::List,
        Method::GET => Operation::Get,
        Method::HEAD => Operation::Head,
        Method::PUT | Method::POST if is_multipart => Operation::Multipart,
        Method::PUT => Operation::Put,
        Method::DELETE => Operation::Delete,
        _ => Operation::Post,
    };
    (operation, key)
}

fn has_value(query: &str, name: &str, value: &str) -> bool {
    query.split('&').any(|pair| pair.split_once('=') == Some((name, value)))
}

/// The decoded value of a query parameter.
pub(crate) fn parameter(query: &str, name: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart() {
        for (kind, method, target, operation, key) in [
            (Kind::Moto, Method::GET, "/bucket/a/b%20c", Operation::Get, "a/b c"),
            (Kind::Moto, Method::HEAD, "/bucket/a", Operation::Head, "a"),
            (Kind::Moto, Method::GET, "/bucket?list-type=2&prefix=a%2Fb", Operation::List, "a/b"),
            (Kind::Moto, Method::GET, "/bucket/?list-type=2", Operation::List, ""),
            (Kind::Moto, Method::PUT, "/bucket/a?x-id=PutObject", Operation::Put, "a"),
            (Kind::Moto, Method::POST, "/bucket/a?uploads", Operation::Multipart, "a"),
            (Kind::Moto, Method::PUT, "/bucket/a?partNumber=1&uploadId=x", Operation::Multipart, "a"),
            (Kind::Moto, Method::POST, "/bucket/a?uploadId=x", Operation::Multipart, "a"),
            (Kind::Moto, Method::DELETE, "/bucket/a?uploadId=x", Operation::Delete, "a"),
            (Kind::Moto, Method::POST, "/bucket?delete", Operation::Post, ""),
            (Kind::FakeGcs, Method::PUT, "/bucket/a%2Fb", Operation::Put, "a/b"),
            (Kind::Azurite, Method::GET, "/account/box?restype=container&comp=list&prefix=a", Operation::List, "a"),
            (Kind::Azurite, Method::GET, "/account/box/a/b", Operation::Get, "a/b"),
            (Kind::Azurite, Method::PUT, "/account/box/a?comp=block&blockid=x", Operation::Multipart, "a"),
            (Kind::Azurite, Method::PUT, "/account/box/a?comp=blocklist", Operation::Multipart, "a"),
            (Kind::Azurite, Method::PUT, "/account/box/a", Operation::Put, "a"),
            (Kind::Azurite, Method::POST, "/account/box?restype=container&comp=batch", Operation::Post, ""),
        ] {
            let uri: Uri = target.parse().unwrap();
            assert_eq!(of(kind, &method, &uri), (operation, Cow::Borrowed(key)), "{method} {target}");
        }
    }
}
