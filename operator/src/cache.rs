//! What the operator knows of the cluster: one watch for each kind, over all namespaces or some, kept in memory.
//!
//! Promise: a reconcile reads from here and asks the API server for nothing that has not changed. What is kept is stripped of what nobody reads.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Debug;
use std::sync::Arc;

use futures_util::stream::{SelectAll, StreamExt};
use kube::api::Api;
use kube::core::NamespaceResourceScope;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Client, Resource, ResourceExt};
use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tracing::{debug, warn};

use crate::metrics::Metrics;

/// Objects that one list request returns at most: the memory of a start is that of a page, not of a cluster.
const PAGE: u32 = 200;

/// Namespaces that are watched; none named: all.
#[derive(Clone, Debug, Default)]
pub struct Scope(pub Vec<String>);

impl Scope {
    /// One API for each namespace, or one for all.
    fn apis<K>(&self, client: &Client) -> Vec<Api<K>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        if self.0.is_empty() {
            return vec![Api::all(client.clone())];
        }
        self.0.iter().map(|namespace| Api::namespaced(client.clone(), namespace)).collect()
    }
}

/// Namespace and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The namespace.
    pub namespace: String,
    /// The name in it.
    pub name: String,
}

impl Key {
    /// Of this object.
    pub fn of<K: Resource>(object: &K) -> Self {
        Self { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
    }

    /// From its parts.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

/// Objects of one kind.
pub struct Cache<K> {
    content: Arc<RwLock<Content<K>>>,
    outdated: Arc<Notify>,
}

struct Content<K> {
    objects: HashMap<Key, Arc<K>>,
    /// Objects by namespace and what they belong to.
    groups: HashMap<Key, BTreeMap<String, Arc<K>>>,
    is_ready: bool,
}

impl<K> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Self { content: self.content.clone(), outdated: self.outdated.clone() }
    }
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        let content = Content { objects: HashMap::new(), groups: HashMap::new(), is_ready: false };
        Self { content: Arc::new(RwLock::new(content)), outdated: Arc::new(Notify::new()) }
    }
}

impl<K> Cache<K> {
    /// The object of this name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.content.read().objects.get(&Key::new(namespace, name)).cloned()
    }

    /// All objects of `namespace` that belong to `group`, in the order of their names.
    pub fn of(&self, namespace: &str, group: &str) -> Vec<Arc<K>> {
        let content = self.content.read();
        content.groups.get(&Key::new(namespace, group)).map(|objects| objects.values().cloned().collect()).unwrap_or_default()
    }

    /// Everything.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.content.read().objects.values().cloned().collect()
    }

    /// What is known is not what the API server has: everything is listed again, and looked at.
    pub fn renew(&self) {
        self.outdated.notify_one();
    }

    /// Whether all that was there at the start has been seen.
    pub fn is_ready(&self) -> bool {
        self.content.read().is_ready
    }
}

/// Is told of an object that came or changed (true) or went (false).
pub type Touched<K> = Box<dyn Fn(&K, bool) + Send>;

/// What to keep of a kind, and whom to tell.
pub struct Watch<K> {
    /// Which objects: a label selector, or all.
    pub labels: Option<&'static str>,
    /// What the object belongs to; objects of the same group are found together.
    pub group: fn(&K) -> Option<String>,
    /// Takes away what nobody reads.
    pub strip: fn(&mut K),
    /// Told of each object that came or changed (true) or went (false).
    pub touched: Touched<K>,
}

/// Starts watching; the future runs as long as the operator does.
pub fn start<K>(
    client: &Client,
    scope: &Scope,
    watch: Watch<K>,
    metrics: Arc<Metrics>,
) -> (Cache<K>, impl Future<Output = ()> + Send + 'static)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let cache = Cache::default();
    let apis = scope.apis::<K>(client);
    let spaces = apis.iter().map(|_| Space::default()).collect();
    let mut config = watcher::Config::default().page_size(PAGE);
    if let Some(labels) = watch.labels {
        config = config.labels(labels);
    }
    let mut keeper = Keeper { cache: cache.clone(), watch, spaces };
    let kind = K::kind(&()).into_owned();
    let begin = move || {
        let watches = apis
            .iter()
            .enumerate()
            .map(|(index, api)| watch::watcher(api.clone(), config.clone()).default_backoff().map(move |event| (index, event)).boxed());
        watches.collect::<SelectAll<_>>()
    };
    let outdated = cache.outdated.clone();
    let run = async move {
        let mut streams = begin();
        loop {
            let next = tokio::select! {
                next = streams.next() => next,
                () = outdated.notified() => {
                    streams = begin();
                    continue;
                }
            };
            let Some((index, event)) = next else { break };
            match event {
                Ok(event) => {
                    if matches!(event, Event::InitDone) {
                        metrics.crd_missing(&kind, false);
                    }
                    keeper.handle(index, event);
                }
                Err(error) => {
                    metrics.watch_failed(&kind);
                    metrics.crd_missing(&kind, is_missing(&error));
                    warn!(kind, error = %error, "the watch failed and is made anew");
                }
            }
        }
        debug!(kind, "the watch has ended");
    };
    (cache, run)
}

/// Whether the API server does not know the kind.
fn is_missing(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status)) | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => {
            status.code == 404
        }
        _ => false,
    }
}

/// Writes what the watches tell into the cache.
struct Keeper<K> {
    cache: Cache<K>,
    watch: Watch<K>,
    spaces: Vec<Space<K>>,
}

/// One watch: of all namespaces, or of one.
struct Space<K> {
    known: HashSet<Key>,
    /// A list that is under way.
    listing: Vec<K>,
    is_listed: bool,
}

impl<K> Default for Space<K> {
    fn default() -> Self {
        Self { known: HashSet::new(), listing: Vec::new(), is_listed: false }
    }
}

impl<K: Resource<DynamicType = ()> + Clone> Keeper<K> {
    fn handle(&mut self, index: usize, event: Event<K>) {
        match event {
            Event::Init => self.spaces[index].listing = Vec::new(),
            Event::InitApply(mut object) => {
                self.strip(&mut object);
                self.spaces[index].listing.push(object);
            }
            Event::InitDone => self.listed(index),
            Event::Apply(mut object) => {
                self.strip(&mut object);
                self.apply(index, object);
            }
            Event::Delete(object) => self.delete(index, &Key::of(&object)),
        }
    }

    fn strip(&self, object: &mut K) {
        object.meta_mut().managed_fields = None;
        (self.watch.strip)(object);
    }

    /// A whole list is there: what it does not hold has gone while nobody watched.
    fn listed(&mut self, index: usize) {
        let objects = std::mem::take(&mut self.spaces[index].listing);
        let now: HashSet<Key> = objects.iter().map(Key::of).collect();
        let gone: Vec<Key> = self.spaces[index].known.difference(&now).cloned().collect();
        for key in gone {
            self.delete(index, &key);
        }
        for object in objects {
            self.apply(index, object);
        }
        self.spaces[index].is_listed = true;
        if self.spaces.iter().all(|space| space.is_listed) {
            self.cache.content.write().is_ready = true;
        }
    }

    fn apply(&mut self, index: usize, object: K) {
        let (key, object) = (Key::of(&object), Arc::new(object));
        let group = (self.watch.group)(&object);
        // Deleted and made again while nobody watched, it may belong to another one now.
        let moved = self.cache.content.read().objects.get(&key).is_some_and(|before| (self.watch.group)(before) != group);
        if moved {
            self.delete(index, &key);
        }
        self.spaces[index].known.insert(key.clone());
        {
            let mut content = self.cache.content.write();
            if let Some(group) = group {
                let group = content.groups.entry(Key::new(&key.namespace, &group)).or_default();
                group.insert(key.name.clone(), object.clone());
            }
            content.objects.insert(key, object.clone());
        }
        (self.watch.touched)(&object, true);
    }

    fn delete(&mut self, index: usize, key: &Key) {
        self.spaces[index].known.remove(key);
        let object = {
            let mut content = self.cache.content.write();
            let Some(object) = content.objects.remove(key) else { return };
            if let Some(group) = (self.watch.group)(&object) {
                let group = Key::new(&key.namespace, &group);
                let is_empty = content.groups.get_mut(&group).is_some_and(|objects| {
                    objects.remove(&key.name);
                    objects.is_empty()
                });
                if is_empty {
                    content.groups.remove(&group);
                }
            }
            object
        };
        (self.watch.touched)(&object, false);
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use parking_lot::Mutex;

    use super::*;

    fn config_map(name: &str, owner: &str) -> ConfigMap {
        let object = serde_json::json!({ "metadata": { "namespace": "n", "name": name, "labels": { "owner": owner } } });
        serde_json::from_value(object).unwrap()
    }

    type Told = Arc<Mutex<Vec<(String, bool)>>>;

    fn keeper(spaces: usize) -> (Keeper<ConfigMap>, Told) {
        let told = Told::default();
        let sink = told.clone();
        let watch = Watch {
            labels: None,
            group: |object: &ConfigMap| object.labels().get("owner").cloned(),
            strip: |_| {},
            touched: Box::new(move |object: &ConfigMap, exists| sink.lock().push((object.name_any(), exists))),
        };
        (Keeper { cache: Cache::default(), watch, spaces: (0..spaces).map(|_| Space::default()).collect() }, told)
    }

    #[test]
    fn what_went_while_nobody_watched_is_told() {
        let (mut keeper, told) = keeper(1);
        for event in [Event::Init, Event::InitApply(config_map("a", "x")), Event::InitApply(config_map("b", "x")), Event::InitDone] {
            keeper.handle(0, event);
        }
        assert!(keeper.cache.is_ready());
        assert_eq!(keeper.cache.of("n", "x").len(), 2);
        for event in [Event::Init, Event::InitApply(config_map("b", "x")), Event::InitDone] {
            keeper.handle(0, event);
        }
        assert!(keeper.cache.get("n", "a").is_none());
        assert_eq!(told.lock().iter().filter(|(name, exists)| name == "a" && !exists).count(), 1);
    }

    #[test]
    fn ready_is_when_every_namespace_is_listed() {
        let (mut keeper, _) = keeper(2);
        keeper.handle(0, Event::InitDone);
        assert!(!keeper.cache.is_ready());
        keeper.handle(1, Event::InitDone);
        assert!(keeper.cache.is_ready());
    }

    #[test]
    fn what_belongs_to_another_one_now_is_no_longer_found_with_the_first() {
        let (mut keeper, told) = keeper(1);
        keeper.handle(0, Event::Apply(config_map("a", "x")));
        keeper.handle(0, Event::Apply(config_map("a", "y")));
        assert!(keeper.cache.of("n", "x").is_empty() && keeper.cache.of("n", "y").len() == 1);
        assert_eq!(told.lock().as_slice(), [("a".to_owned(), true), ("a".to_owned(), false), ("a".to_owned(), true)]);
    }

    #[test]
    fn an_empty_group_is_forgotten() {
        let (mut keeper, _) = keeper(1);
        keeper.handle(0, Event::Apply(config_map("a", "x")));
        keeper.handle(0, Event::Delete(config_map("a", "x")));
        assert!(keeper.cache.content.read().groups.is_empty());
    }
}
