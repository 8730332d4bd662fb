//! The certificates of one cluster: an authority for all of its parts and another one for the API server as a proxy, each good for a year. Keys never
//! leave the cluster's folder.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    SanType,
};

use crate::folder::write_secret;

/// A cluster is for tests: nobody keeps one for a year.
const LIFE: Duration = Duration::from_secs(365 * 24 * 3600);
/// Clocks of nodes are the machine's own; this is for one that is set back meanwhile.
const BACKDATED: Duration = Duration::from_secs(24 * 3600);

/// What a certificate is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Server,
    Client,
}

/// A pair as PEM.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// Signs.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pair: Pair,
}

impl Authority {
    /// A new one.
    pub(crate) fn new(name: &str) -> anyhow::Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut parameters = CertificateParams::new(Vec::<String>::new())?;
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        set_life(&mut parameters)?;
        let pair = Pair { certificate: parameters.self_signed(&key)?.pem(), key: key.serialize_pem() };
        Ok(Self { issuer: Issuer::new(parameters, key), pair })
    }

    /// A pair of `common_name`; Kubernetes takes the group of a user from the organization.
    pub(crate) fn issue(&self, common_name: &str, group: Option<&str>, purpose: Purpose, names: &[&str]) -> anyhow::Result<Pair> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut parameters = CertificateParams::new(Vec::<String>::new())?;
        for name in names {
            let name = match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName((*name).try_into()?),
            };
            parameters.subject_alt_names.push(name);
        }
        parameters.distinguished_name.push(DnType::CommonName, common_name);
        if let Some(group) = group {
            parameters.distinguished_name.push(DnType::OrganizationName, group);
        }
        parameters.is_ca = IsCa::ExplicitNoCa;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![match purpose {
            Purpose::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Purpose::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        parameters.use_authority_key_identifier_extension = true;
        set_life(&mut parameters)?;
        let certificate = parameters.signed_by(&key, &self.issuer)?;
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// Its own pair.
    pub(crate) fn pair(&self) -> &Pair {
        &self.pair
    }

    /// A kubeconfig that holds all it needs: it works from whatever folder, and as one file.
    pub(crate) fn kubeconfig(&self, name: &str, server: &str, user: &Pair) -> String {
        let [authority, certificate, key] = [&self.pair.certificate, &user.certificate, &user.key].map(|pem| BASE64_STANDARD.encode(pem));
        format!(
            "apiVersion: v1\nkind: Config\n\
             clusters:\n- name: {name}\n  cluster:\n    server: {server}\n    certificate-authority-data: {authority}\n\
             users:\n- name: {name}\n  user:\n    client-certificate-data: {certificate}\n    client-key-data: {key}\n\
             contexts:\n- name: {name}\n  context:\n    cluster: {name}\n    user: {name}\n\
             current-context: {name}\n"
        )
    }
}

impl Pair {
    /// As NAME.crt and NAME.key.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> anyhow::Result<()> {
        write_secret(&folder.join(format!("{name}.crt")), &self.certificate)?;
        write_secret(&folder.join(format!("{name}.key")), &self.key)
    }
}

/// Makes and writes what a control plane needs into `folder`; `addresses` are those of its API server, besides loopback.
pub(crate) fn make(folder: &Path, addresses: &[&str]) -> anyhow::Result<Authority> {
    let authority = Authority::new("local-cluster")?;
    authority.pair().write(folder, "ca")?;
    let mut names = vec!["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost"];
    names.push("127.0.0.1");
    names.extend(addresses);
    authority.issue("kube-apiserver", None, Purpose::Server, &names)?.write(folder, "apiserver")?;
    authority.issue("apiserver-kubelet-client", Some("system:masters"), Purpose::Client, &[])?.write(folder, "apiserver-kubelet-client")?;

    let front = Authority::new("local-cluster-front-proxy")?;
    front.pair().write(folder, "front-proxy-ca")?;
    front.issue("front-proxy-client", None, Purpose::Client, &[])?.write(folder, "front-proxy-client")?;

    // Tokens of service accounts.
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    write_secret(&folder.join("service-accounts.key"), &key.serialize_pem())?;
    write_secret(&folder.join("service-accounts.pub"), &key.public_key_pem())?;
    Ok(authority)
}

fn set_life(parameters: &mut CertificateParams) -> anyhow::Result<()> {
    let now = rcgen::date_time_ymd(1970, 1, 1) + SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    parameters.not_before = now - BACKDATED;
    parameters.not_after = now + LIFE;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keys_are_for_their_owner_only() {
        let folder = tempfile::tempdir().expect("a folder");
        make(folder.path(), &[]).expect("certificates");
        for file in std::fs::read_dir(folder.path()).expect("a folder") {
            let file = file.expect("a file");
            assert_eq!(file.metadata().expect("metadata").permissions().mode() & 0o777, 0o600, "{}", file.path().display());
        }
    }

    #[test]
    fn a_kubeconfig_names_no_other_file() {
        let authority = Authority::new("ca").expect("an authority");
        let user = authority.issue("admin", Some("system:masters"), Purpose::Client, &[]).expect("a pair");
        let text = authority.kubeconfig("here", "https://127.0.0.1:6443", &user);
        assert!(text.contains("server: https://127.0.0.1:6443\n"));
        assert!(text.contains("current-context: here\n"));
        assert!(!text.contains("certificate: /"));
    }
}
