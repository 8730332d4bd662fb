//! Which certificate a Client gets: by the name it asks for, among those whose key it can verify.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

thread_local! {
    /// The name in the hello that was resolved last on this thread. rustls tells it to nobody else in the unbuffered API; who drives a handshake takes
    /// it right after the step in which it was resolved.
    static SERVER_NAME: RefCell<Option<Box<str>>> = const { RefCell::new(None) };
}

/// The name asked for in the handshake step just done on this thread.
pub(super) fn take_server_name() -> Option<Box<str>> {
    SERVER_NAME.take()
}

/// Certificates by name.
#[derive(Debug)]
pub(super) struct Resolver {
    /// In the order of the configuration; the first one is the default.
    keys: Vec<Arc<CertifiedKey>>,
    /// Lower-case names, wildcards with their `*`. Several keys of one name stand there for Clients that know only RSA or only ECDSA.
    by_name: HashMap<String, Vec<usize>>,
}

impl Resolver {
    pub(super) fn new(keys: Vec<(Arc<CertifiedKey>, Vec<String>)>) -> Resolver {
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, (_, names)) in keys.iter().enumerate() {
            for name in names {
                by_name.entry(name.to_ascii_lowercase()).or_default().push(at);
            }
        }
        Resolver { keys: keys.into_iter().map(|(key, _)| key).collect(), by_name }
    }

    /// The keys for `name`: the exact one, else the wildcard of its parent.
    fn named(&self, name: &str) -> Option<&[usize]> {
        let name = name.to_ascii_lowercase();
        let wildcard = || self.by_name.get(&format!("*.{}", name.split_once('.')?.1));
        self.by_name.get(&name).or_else(wildcard).map(Vec::as_slice)
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        SERVER_NAME.set(hello.server_name().map(Into::into));
        let usable = |at: &&usize| self.keys[**at].key.choose_scheme(hello.signature_schemes()).is_some();
        let named = hello.server_name().and_then(|name| self.named(name));
        let at = named.and_then(|keys| keys.iter().find(usable)).or_else(|| named?.first()).copied();
        // Of those for nobody in particular, too, the first that the Client can verify.
        let any = || self.keys.iter().find(|key| key.key.choose_scheme(hello.signature_schemes()).is_some()).or(self.keys.first());
        at.map(|at| &self.keys[at]).or_else(any).cloned()
    }
}
