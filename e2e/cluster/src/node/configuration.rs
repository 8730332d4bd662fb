//! The configurations of a node's programs.

use anyhow::Context;

use super::Node;
use crate::furniture;
use crate::installed::PLUGINS;

/// Sooner than Kubernetes does by default.
const FAST_KUBELET: &str = "\
nodeLeaseDurationSeconds: 8
featureGates: {KubeletCrashLoopBackOffMax: true}
crashLoopBackOff: {maxContainerRestartPeriod: 1s}
";
const FAST_PROXY: &str = "nftables: {minSyncPeriod: 100ms}\n";

impl Node {
    /// Writes all of them into its folder.
    pub(super) fn write_configurations(&self) -> anyhow::Result<()> {
        for (name, text) in [
            ("containerd.toml", self.containerd()),
            ("cni/10-bridge.conflist", self.network()),
            // Nobody answers: what the cluster's DNS does not know, nobody does.
            ("resolv.conf", "nameserver 127.0.0.1\n".to_owned()),
            ("kubelet.yaml", self.kubelet()),
            ("kube-proxy.yaml", self.proxy()),
        ] {
            let path = self.folder().join(name);
            std::fs::create_dir_all(path.parent().context("a folder above")?)?;
            std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }

    fn containerd(&self) -> String {
        let (cni, pause) = (self.folder().join("cni"), furniture::PAUSE);
        // Where root may not lower what the kernel's memory killer thinks of a process (no CAP_SYS_RESOURCE), no container would start otherwise.
        format!(
            r#"version = 2
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp",
]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{PLUGINS}"
    conf_dir = "{}"
"#,
            cni.display()
        )
    }

    /// Pods hang on a bridge of the node. `isDefaultGateway` makes the only route they get: the plugin fails when it is listed, too.
    fn network(&self) -> String {
        format!(
            r#"{{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {{"type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "hairpinMode": true, "ipMasq": false,
    "ipam": {{"type": "host-local", "ranges": [[{{"subnet": "{}"}}]]}}}},
  {{"type": "portmap", "capabilities": {{"portMappings": true}}}}
]}}
"#,
            self.ranges.pods_of(self.number)
        )
    }

    fn kubelet(&self) -> String {
        let keys = self.cluster.folder.keys();
        let keys = keys.display();
        let (name, cgroup, address, dns) = (self.name(), self.cgroup(), self.address(), self.ranges.dns());
        let resolv = self.folder().join("resolv.conf");
        // No image comes back once it is removed, and disks of test machines are full of other things: a node must not act on that.
        let text = format!(
            "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /{cgroup}
failSwapOn: false
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
address: {address}
clusterDNS: [{dns}]
clusterDomain: cluster.local
resolvConf: {}
authentication: {{anonymous: {{enabled: false}}, webhook: {{enabled: true}}, x509: {{clientCAFile: {keys}/ca.crt}}}}
authorization: {{mode: Webhook}}
tlsCertFile: {keys}/{name}.crt
tlsPrivateKeyFile: {keys}/{name}.key
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {{memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}}
",
            resolv.display()
        );
        if self.cluster.description.fast { text + FAST_KUBELET } else { text }
    }

    fn proxy(&self) -> String {
        let (address, pods) = (self.address(), self.ranges.pods());
        let kubeconfig = self.cluster.control_plane().kubeconfig("kube-proxy");
        // The kernel's limits of connections belong to the machine.
        let text = format!(
            "apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {{kubeconfig: {kubeconfig}}}
mode: nftables
clusterCIDR: {pods}
detectLocalMode: ClusterCIDR
conntrack: {{maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}}
healthzBindAddress: {address}:10256
metricsBindAddress: 127.0.0.1:10249
"
        );
        if self.cluster.description.fast { text + FAST_PROXY } else { text }
    }
}
