//! A bill of materials in CycloneDX 1.6, as JSON. It holds no time, and its serial number derives from what it says.

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::Materials;
use crate::packages::Package;
use crate::tree::Key;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    bom_format: &'static str,
    spec_version: &'static str,
    serial_number: String,
    version: u32,
    metadata: Metadata<'a>,
    components: Vec<Component<'a>>,
    dependencies: Vec<Dependency>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    tools: Tools<'a>,
    component: Component<'a>,
    properties: Vec<Property<'a>>,
}

#[derive(Serialize)]
struct Tools<'a> {
    components: Vec<Component<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Component<'a> {
    r#type: &'static str,
    #[serde(rename = "bom-ref", skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    name: &'a str,
    version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hashes: Vec<Hash<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    licenses: Vec<Licence<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purl: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    external_references: Vec<ExternalReference<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    properties: Vec<Property<'a>>,
}

#[derive(Serialize)]
struct Hash<'a> {
    alg: &'static str,
    content: &'a str,
}

#[derive(Serialize)]
struct Licence<'a> {
    expression: &'a str,
}

#[derive(Serialize)]
struct ExternalReference<'a> {
    r#type: &'static str,
    url: &'a str,
}

#[derive(Serialize)]
struct Property<'a> {
    name: &'static str,
    value: std::borrow::Cow<'a, str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Dependency {
    r#ref: String,
    depends_on: Vec<String>,
}

/// The standard library is in every program and in no lock file.
const STANDARD_LIBRARY: &str = "rust-std";

pub(crate) fn write(materials: &Materials) -> anyhow::Result<String> {
    let mut document = document(materials);
    let digest = Sha256::digest(serde_json::to_vec(&document)?);
    document.serial_number = serial_number(&digest);
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

fn document(materials: &Materials) -> Document<'_> {
    let Materials { target, rustc, packages, root } = materials;
    let others = packages.iter().enumerate().filter(|(index, _)| index != root).map(|(_, package)| component(package, "library"));
    let standard_library_component = Component {
        purl: Some(format!("pkg:generic/{STANDARD_LIBRARY}@{rustc}")),
        reference: Some(standard_library(rustc)),
        licenses: vec![Licence { expression: "MIT OR Apache-2.0" }],
        ..Component::named("library", STANDARD_LIBRARY, rustc)
    };
    let dependency = |(index, package): (usize, &Package)| {
        let mut depends_on: Vec<_> = package.node.dependencies.iter().map(reference).collect();
        depends_on.extend((index == *root).then(|| standard_library(rustc)));
        Dependency { r#ref: reference(&package.key), depends_on }
    };
    let mut dependencies: Vec<_> = packages.iter().enumerate().map(dependency).collect();
    dependencies.push(Dependency { r#ref: standard_library(rustc), depends_on: Vec::new() });
    Document {
        schema: "http://cyclonedx.org/schema/bom-1.6.schema.json",
        bom_format: "CycloneDX",
        spec_version: "1.6",
        serial_number: String::new(),
        version: 1,
        metadata: Metadata {
            tools: Tools { components: vec![Component::named("application", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))] },
            component: component(&packages[*root], "application"),
            properties: vec![Property { name: "cargo:target", value: target.into() }],
        },
        components: others.chain([standard_library_component]).collect(),
        dependencies,
    }
}

impl<'a> Component<'a> {
    fn named(r#type: &'static str, name: &'a str, version: &'a str) -> Self {
        Self {
            r#type,
            reference: None,
            name,
            version,
            description: None,
            hashes: Vec::new(),
            licenses: Vec::new(),
            purl: None,
            external_references: Vec::new(),
            properties: Vec::new(),
        }
    }
}

fn component<'a>(package: &'a Package, r#type: &'static str) -> Component<'a> {
    let Package { key, node, licence, description, repository, checksum, is_ours, .. } = package;
    let features = node.features.iter().map(String::as_str).collect::<Vec<_>>().join(",");
    let features = (!features.is_empty()).then(|| Property { name: "cargo:features", value: features.into() });
    Component {
        reference: Some(reference(key)),
        description: description.as_deref(),
        hashes: checksum.iter().map(|content| Hash { alg: "SHA-256", content }).collect(),
        licenses: Some(licence.as_str())
            .filter(|licence| !licence.is_empty())
            .map(|expression| Licence { expression })
            .into_iter()
            .collect(),
        // Ours are in no registry, and a name that is not there yet may be somebody else's tomorrow.
        purl: (!is_ours).then(|| package_url(key)),
        external_references: repository.iter().map(|url| ExternalReference { r#type: "vcs", url }).collect(),
        properties: features.into_iter().collect(),
        ..Component::named(r#type, &key.name, &key.version)
    }
}

fn reference(key: &Key) -> String {
    format!("{}@{}", key.name, key.version)
}

fn standard_library(rustc: &str) -> String {
    format!("{STANDARD_LIBRARY}@{rustc}")
}

/// In a package URL a plus sign would mean a blank.
fn package_url(key: &Key) -> String {
    format!("pkg:cargo/{}@{}", key.name, key.version.replace('+', "%2B"))
}

/// A UUID of version 8, whose bits are free to choose: those of a hash.
fn serial_number(digest: &[u8]) -> String {
    let mut bits = [0; 16];
    bits.copy_from_slice(&digest[..16]);
    bits[6] = bits[6] & 0x0F | 0x80;
    bits[8] = bits[8] & 0x3F | 0x80;
    let hex: String = bits.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("urn:uuid:{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
