//! etcd and Kubernetes' own three: API server, controller manager, scheduler.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, ensure};
use rand::Rng;

use crate::certificates::{self, Authority, Purpose};
use crate::folder::{Description, Folder, Ports, make_folder, write_secret};
use crate::process::{self, Part};
use crate::{installed, kubectl, wait};

/// What the API server notes of each request.
pub const AUDIT_POLICY: &str = include_str!("audit.yaml");

/// Below the ports that clients get from the kernel, so that none of theirs takes one before its server does.
const PORTS: std::ops::Range<u16> = 20_000..30_000;
/// Loaded machines take ten times as long as idle ones, which take three seconds.
const READY_LIMIT: Duration = Duration::from_secs(120);
/// A suite of a day writes some hundred megabytes; beyond this, lines go to another file, where a test that counts would miss them.
const AUDIT_LOG_MEGABYTES_MAX: u32 = 10_000;
/// Where clusters without nodes keep the addresses of their Services, which nobody serves.
const SERVICES_WITHOUT_NODES: &str = "10.96.0.0/16";

impl Ports {
    /// Ports nobody has. Several clusters may ask at once, so each begins anywhere.
    pub(crate) fn free() -> anyhow::Result<Self> {
        let begin = rand::rng().random_range(PORTS);
        let candidates = (begin..PORTS.end).chain(PORTS.start..begin);
        // All are held until all are found.
        let held: Vec<TcpListener> = candidates.filter_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()).take(5).collect();
        let ports: Vec<u16> = held.iter().filter_map(|listener| Some(listener.local_addr().ok()?.port())).collect();
        ensure!(ports.len() == 5, "no five free ports between {} and {}", PORTS.start, PORTS.end);
        Ok(Self { api_server: ports[0], etcd: ports[1], etcd_peers: ports[2], controller_manager: ports[3], scheduler: ports[4] })
    }
}

/// The control plane of one cluster.
pub(crate) struct ControlPlane<'a> {
    pub(crate) folder: &'a Folder,
    pub(crate) description: &'a Description,
}

impl ControlPlane<'_> {
    /// Where the API server listens.
    pub(crate) fn address(&self) -> SocketAddr {
        let address = self.description.ranges().map_or(Ipv4Addr::LOCALHOST, |ranges| ranges.host());
        (address, self.description.ports.api_server).into()
    }

    /// Its certificates, and kubeconfigs for the administrator and its own parts.
    pub(crate) fn prepare(&self) -> anyhow::Result<Authority> {
        let host = self.address().ip().to_string();
        let service = self.description.ranges().map(|ranges| ranges.kubernetes().to_string()).unwrap_or_else(|| "10.96.0.1".to_owned());
        let authority = certificates::make(&self.folder.keys(), &[&host, &service])?;
        let users = [
            ("admin", Some("system:masters")),
            ("system:kube-controller-manager", None),
            ("system:kube-scheduler", None),
            ("system:kube-proxy", None),
        ];
        for (user, group) in users {
            let pair = authority.issue(user, group, Purpose::Client, &[])?;
            self.write_kubeconfig(&authority, user.trim_start_matches("system:"), &pair)?;
        }
        std::fs::rename(self.kubeconfig("admin"), self.folder.kubeconfig()).context("name the kubeconfig")?;
        write_secret(&self.folder.path.join("audit.yaml"), AUDIT_POLICY)?;
        Ok(authority)
    }

    /// Lets `user` reach the API server.
    pub(crate) fn write_kubeconfig(&self, authority: &Authority, user: &str, pair: &certificates::Pair) -> anyhow::Result<()> {
        let name = format!("local-cluster-{}", self.folder.name);
        let text = authority.kubeconfig(&name, &format!("https://{}", self.address()), pair);
        write_secret(&std::path::PathBuf::from(self.kubeconfig(user)), &text)
    }

    /// The kubeconfig of one of the parts.
    pub(crate) fn kubeconfig(&self, user: &str) -> String {
        self.folder.keys().join(format!("{user}.kubeconfig")).display().to_string()
    }

    /// Starts etcd and the API server, which tries until etcd is there.
    pub(crate) fn start(&self) -> anyhow::Result<()> {
        let ports = self.description.ports;
        let data = self.folder.path.join("etcd");
        make_folder(&data)?;
        let (clients, peers) = (format!("http://127.0.0.1:{}", ports.etcd), format!("http://127.0.0.1:{}", ports.etcd_peers));
        let etcd = installed::in_path("etcd").context("etcd is missing: run `e2e/cluster/install control-plane`")?;
        // A cluster is gone after a crash of the machine anyway.
        let arguments = [
            format!("--data-dir={}", data.display()),
            "--unsafe-no-fsync".to_owned(),
            format!("--listen-client-urls={clients}"),
            format!("--advertise-client-urls={clients}"),
            format!("--listen-peer-urls={peers}"),
            format!("--initial-advertise-peer-urls={peers}"),
            format!("--initial-cluster=default={peers}"),
            "--log-level=warn".to_owned(),
        ];
        process::start(self.folder, "etcd", &etcd, &arguments)?;
        process::start(
            self.folder,
            "kube-apiserver",
            &installed::kubernetes(&self.description.kubernetes, "kube-apiserver")?,
            self.api_server(),
        )?;
        Ok(())
    }

    fn api_server(&self) -> Vec<String> {
        let key = |name: &str| self.folder.keys().join(name).display().to_string();
        let address = self.address();
        let services = self.description.ranges().map_or(SERVICES_WITHOUT_NODES.to_owned(), |ranges| ranges.services());
        let mut arguments = vec![
            format!("--etcd-servers=http://127.0.0.1:{}", self.description.ports.etcd),
            format!("--secure-port={}", address.port()),
            format!("--bind-address={}", address.ip()),
            format!("--advertise-address={}", address.ip()),
            format!("--service-cluster-ip-range={services}"),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            format!("--client-ca-file={}", key("ca.crt")),
            format!("--tls-cert-file={}", key("apiserver.crt")),
            format!("--tls-private-key-file={}", key("apiserver.key")),
            format!("--kubelet-client-certificate={}", key("apiserver-kubelet-client.crt")),
            format!("--kubelet-client-key={}", key("apiserver-kubelet-client.key")),
            format!("--kubelet-certificate-authority={}", key("ca.crt")),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
            format!("--service-account-key-file={}", key("service-accounts.pub")),
            format!("--service-account-signing-key-file={}", key("service-accounts.key")),
            format!("--requestheader-client-ca-file={}", key("front-proxy-ca.crt")),
            "--requestheader-allowed-names=front-proxy-client".to_owned(),
            "--requestheader-username-headers=X-Remote-User".to_owned(),
            "--requestheader-group-headers=X-Remote-Group".to_owned(),
            "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
            format!("--proxy-client-cert-file={}", key("front-proxy-client.crt")),
            format!("--proxy-client-key-file={}", key("front-proxy-client.key")),
            "--profiling=false".to_owned(),
            format!("--audit-policy-file={}", self.folder.path.join("audit.yaml").display()),
            format!("--audit-log-path={}", self.folder.audit_log().display()),
            // A request is in the log before its answer is out: who counts after an answer misses none.
            "--audit-log-mode=blocking".to_owned(),
            format!("--audit-log-maxsize={AUDIT_LOG_MEGABYTES_MAX}"),
        ];
        if self.description.slot.is_none() {
            // It refuses to tell others of an address on loopback.
            arguments.push("--endpoint-reconciler-type=none".to_owned());
        }
        arguments
    }

    /// Waits until the API server says it is ready.
    pub(crate) fn wait_ready(&self) -> anyhow::Result<()> {
        let parts: Vec<Part> = ["etcd", "kube-apiserver"].into_iter().filter_map(|name| process::part(self.folder, name)).collect();
        wait::until_true("a ready API server", READY_LIMIT, || {
            for part in &parts {
                process::check(self.folder, part)?;
            }
            Ok(self.is_ready())
        })
        .with_context(|| process::end_of_log(self.folder, "kube-apiserver"))
    }

    /// Asks it.
    pub(crate) fn is_ready(&self) -> bool {
        let listens = TcpStream::connect_timeout(&self.address(), Duration::from_secs(1)).is_ok();
        listens && kubectl::run(self.folder, &["get", "--raw=/readyz", "--request-timeout=5s"], "").is_ok_and(|said| said == "ok")
    }

    /// Starts controller manager and scheduler. Only when the API server is ready: they give up where they may not read its settings yet.
    pub(crate) fn start_controllers(&self) -> anyhow::Result<()> {
        let key = |name: &str| self.folder.keys().join(name).display().to_string();
        let authority = |part: &str| {
            let config = self.kubeconfig(part);
            ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"].map(|option| format!("--{option}={config}"))
        };
        let both = ["--bind-address=127.0.0.1".to_owned(), "--leader-elect=false".to_owned(), "--profiling=false".to_owned()];
        let [manager, scheduler] = installed::CONTROLLERS;
        let mut arguments = vec![
            format!("--secure-port={}", self.description.ports.controller_manager),
            "--authentication-tolerate-lookup-failure=true".to_owned(),
            "--use-service-account-credentials=true".to_owned(),
            format!("--service-account-private-key-file={}", key("service-accounts.key")),
            format!("--root-ca-file={}", key("ca.crt")),
            format!("--cluster-signing-cert-file={}", key("ca.crt")),
            format!("--cluster-signing-key-file={}", key("ca.key")),
            "--allocate-node-cidrs=false".to_owned(),
        ];
        if self.description.fast {
            arguments.extend(["--node-monitor-grace-period=10s".to_owned(), "--node-monitor-period=1s".to_owned()]);
        }
        if self.description.fast || self.description.slot.is_none() {
            // It lets itself ask 20 times a second, of which it needs four seconds to begin.
            arguments.extend(["--kube-api-qps=200".to_owned(), "--kube-api-burst=400".to_owned()]);
        }
        arguments.extend(both.iter().cloned().chain(authority(manager)));
        process::start(self.folder, manager, &installed::kubernetes(&self.description.kubernetes, manager)?, arguments)?;

        let mut arguments =
            vec![format!("--secure-port={}", self.description.ports.scheduler), "--authentication-tolerate-lookup-failure=true".to_owned()];
        arguments.extend(both.into_iter().chain(authority(scheduler)));
        process::start(self.folder, scheduler, &installed::kubernetes(&self.description.kubernetes, scheduler)?, arguments)?;
        Ok(())
    }

    /// Ready is said before the first namespaces are there, and before a pod of theirs can have an account.
    pub(crate) fn wait_furnished(&self) -> anyhow::Result<()> {
        for namespace in ["default", "kube-system"] {
            let kind = if self.description.controllers { "serviceaccount" } else { "namespace" };
            let name = if self.description.controllers { "default" } else { namespace };
            let arguments = ["get", kind, name, "--namespace", namespace, "--output=name"];
            wait::until_true(&format!("{kind} {name} in {namespace}"), READY_LIMIT, || {
                for part in process::parts(self.folder) {
                    process::check(self.folder, &part)?;
                }
                Ok(kubectl::run(self.folder, &arguments, "").is_ok())
            })?;
        }
        Ok(())
    }
}
