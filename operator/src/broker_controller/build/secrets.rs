//! The Secrets, the ConfigMap and the ServiceAccount.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use kube::ResourceExt;

use super::Rendered;
use crate::broker_controller::files::Files;
use crate::broker_controller::users::Users;
use crate::crd::{MqttBroker, Provider};
use crate::names::{self, CONTENT, INPUTS, SOURCES, short_hash};

/// The key of a listener's file in the Secret, which is also its file name in the pod.
pub fn file_key(listener: &str, what: &str) -> String {
    format!("tls-{listener}.{what}")
}

/// The file the broker reads the bucket's credentials from: its key, and what it says, from the keys of the user's Secret. `Err`: the key that is missing.
pub fn credentials_file(provider: Provider, data: &BTreeMap<String, ByteString>) -> Result<(&'static str, Vec<u8>), &'static str> {
    let text = |key: &'static str| {
        let bytes = &data.get(key).ok_or(key)?.0;
        std::str::from_utf8(bytes).map(str::trim).ok().filter(|text| !text.is_empty()).ok_or(key)
    };
    match provider {
        Provider::S3 => {
            let (id, secret) = (text("accessKeyId")?, text("secretAccessKey")?);
            let mut file = format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
            if let Ok(token) = text("sessionToken") {
                file.push_str(&format!("aws_session_token = {token}\n"));
            }
            Ok(("bucket-credentials", file.into_bytes()))
        }
        Provider::Gcs => Ok(("bucket-credentials", text("serviceAccount")?.as_bytes().to_vec())),
        Provider::Azure => Ok(("bucket-credentials", text("accountKey")?.as_bytes().to_vec())),
    }
}

pub(super) fn service_account(broker: &MqttBroker) -> Option<ServiceAccount> {
    let wanted = &broker.spec.workload.service_account;
    if !wanted.create {
        return None;
    }
    let mut metadata = names::child(broker, names::broker(&broker.name_any()), "broker");
    metadata.annotations = (!wanted.annotations.is_empty()).then(|| wanted.annotations.clone());
    Some(ServiceAccount { metadata, automount_service_account_token: Some(false), ..ServiceAccount::default() })
}

pub(super) fn authority(broker: &MqttBroker, data: &BTreeMap<String, Vec<u8>>) -> Secret {
    secret(broker, names::authority(&broker.name_any()), data.clone(), None)
}

pub(super) fn files(broker: &MqttBroker, files: &Files) -> Secret {
    secret(broker, names::files(&broker.name_any()), files.data.clone(), Some(files.sources_text()))
}

pub(super) fn users(broker: &MqttBroker, users: &Users) -> Secret {
    let data = [("users".to_owned(), users.text.clone().into_bytes()), ("sources".to_owned(), users.sources_text().into_bytes())];
    secret(broker, names::users(&broker.name_any()), data.into(), None)
}

fn secret(broker: &MqttBroker, name: String, data: BTreeMap<String, Vec<u8>>, sources: Option<String>) -> Secret {
    let mut metadata = names::child(broker, name, "configuration");
    metadata.annotations = sources.map(|sources| [(SOURCES.to_owned(), sources)].into());
    let data = data.into_iter().map(|(key, bytes)| (key, ByteString(bytes))).collect();
    Secret { metadata, data: Some(data), type_: Some("Opaque".to_owned()), ..Secret::default() }
}

pub(super) fn config_map(broker: &MqttBroker, rendered: &Rendered) -> ConfigMap {
    let mut metadata = names::child(broker, names::config(&broker.name_any()), "configuration");
    metadata.annotations = Some([(INPUTS.to_owned(), rendered.inputs.clone()), (CONTENT.to_owned(), short_hash(&rendered.toml))].into());
    ConfigMap { metadata, data: Some([("broker.toml".to_owned(), rendered.toml.clone())].into()), ..ConfigMap::default() }
}
