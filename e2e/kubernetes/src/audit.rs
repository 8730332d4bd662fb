//! What the operator asked of the API server, from the server's own audit log.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;

/// Requests by verb, resource and status code.
pub type Requests = BTreeMap<(String, String, i64), usize>;

/// A place in the audit log.
#[derive(Clone, Debug)]
pub struct Mark {
    path: PathBuf,
    offset: u64,
}

impl Mark {
    /// The end of the log as it is now.
    pub fn now(path: &Path) -> anyhow::Result<Self> {
        let offset = path.metadata().with_context(|| format!("the audit log {}", path.display()))?.len();
        Ok(Self { path: path.to_owned(), offset })
    }

    /// The beginning of the log.
    pub fn first(path: &Path) -> Self {
        Self { path: path.to_owned(), offset: 0 }
    }

    /// What `user` asked for since.
    pub fn since(&self, user: &str) -> anyhow::Result<Requests> {
        self.chosen(user, |_| true)
    }

    /// What `user` asked for since and had no right to. Not what a namespace refuses that is being deleted.
    pub fn forbidden_since(&self, user: &str) -> anyhow::Result<Requests> {
        self.chosen(user, |event| event["annotations"]["authorization.k8s.io/decision"] == "forbid")
    }

    fn chosen(&self, user: &str, is_chosen: impl Fn(&Value) -> bool) -> anyhow::Result<Requests> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.offset))?;
        let mut requests = Requests::new();
        for line in BufReader::new(file).lines() {
            // The last line may not be whole yet.
            let Ok(event) = serde_json::from_str::<Value>(&line?) else { continue };
            if event["stage"] != "ResponseComplete" || event["user"]["username"] != user || !is_chosen(&event) {
                continue;
            }
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let object = &event["objectRef"];
            let resource = match object["subresource"].as_str() {
                Some(part) => format!("{}/{part}", text(&object["resource"])),
                None => text(&object["resource"]),
            };
            let code = event["responseStatus"]["code"].as_i64().unwrap_or_default();
            *requests.entry((text(&event["verb"]), resource, code)).or_default() += 1;
        }
        Ok(requests)
    }

    /// What `user` wrote since; renewals of a Lease are no news.
    pub fn writes_since(&self, user: &str) -> anyhow::Result<Requests> {
        let is_write = |verb: &str| matches!(verb, "create" | "update" | "patch" | "delete" | "deletecollection");
        let mut requests = self.since(user)?;
        requests.retain(|(verb, resource, _), _| is_write(verb) && resource != "leases");
        Ok(requests)
    }
}
