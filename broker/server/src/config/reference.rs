//! The configuration reference, made of the types: what stands in a doc comment stands in the document.

use std::fmt::Write;

use bytesize::ByteSize;
use serde_json::Value;

use super::{schema, units};

const INTRODUCTION: &str = "\
<!-- Made by `bucketmq check-config --reference`; change the doc comments of the types instead. -->

# Configuration

`bucketmq serve --config FILE` reads a TOML file. Without one everything has its default. Over the file goes the environment, over that go the flags of
`serve`. `bucketmq check-config --config FILE` says what is wrong without starting anything, and with `--json` also what is in force.

- **Times** are written as `\"30s\"`, `\"5m\"`, `\"12h\"`, `\"7d\"` or several of these; **sizes** as `\"512KiB\"`, `\"1MiB\"`, `\"10MB\"` or a number of bytes.
- **Environment**: `BUCKETMQ_SECTION__KEY`, with two underscores between the parts: `BUCKETMQ_LIMITS__MAX_QOS=1`, `BUCKETMQ_LISTENERS__0__URL=tcp://0.0.0.0:1883`. Text
  is written without quotes, lists and tables as TOML: `BUCKETMQ_ACCESS__CERTIFICATE_ROLES='[\"sensor\"]'`. An empty value of a key without default unsets it.
- **Flags**: `--listen URL` (repeated; instead of all `[[listeners]]`), `--bucket URL`, `--member NAME`,
  `--takeover WHEN`, `--admin URL`, `--log-level`, `--log-format`.
- Relative paths count from the working directory.
- A key that is unknown, misspelt or out of its range is refused with its line. On SIGHUP everything is read again, and comes into force whole or not at all.

```toml
[[listeners]]
url = \"tls://0.0.0.0:8883\"
[listeners.tls]
certificates = [{ cert = \"/etc/bucketmq/server.pem\", key = \"/etc/bucketmq/server.key\" }]

[access]
users_file = \"/etc/bucketmq/users\"
[access.roles.sensor]
rules = [\"allow connect\", \"allow publish site/%c/#\", \"allow subscribe cmd/%c/#\"]

[limits]
max_packet_size = \"256KiB\"
```
";

/// The head of each table.
const HEAD: &str = "| key | type | default | meaning |\n|---|---|---|---|\n";

/// The whole document in Markdown.
pub fn markdown() -> String {
    let mut document = INTRODUCTION.to_owned();
    // By how often they are needed.
    let order = ["listeners", "access", "limits", "admin", "log", "bucket", "cluster", "sys_topics"];
    let (mut sections, keys): (Vec<_>, Vec<_>) =
        properties(schema::root()).into_iter().partition(|(_, value)| schema::takes(value, "object") || schema::takes(value, "array"));
    sections.sort_by_key(|(name, _)| order.iter().position(|known| known == name).unwrap_or(order.len()));
    for (name, section) in sections {
        let is_array = schema::takes(section, "array");
        let heading = if is_array { format!("[[{name}]]") } else { format!("[{name}]") };
        let element = if is_array { &section["items"] } else { section };
        table(&mut document, &heading, name, description(section), element);
    }
    write(&mut document, format_args!("\n## Outside of sections\n\nThey stand before the first section.\n\n{HEAD}"));
    for (key, value) in keys {
        row(&mut document, schema::root(), key, value);
    }
    document
}

/// A key and what it means.
fn row(document: &mut String, section: &'static Value, key: &str, value: &'static Value) {
    let default = match value.get("default") {
        _ if is_required(section, key) => "required".to_owned(),
        None | Some(Value::Null) => "none".to_owned(),
        Some(Value::Object(_)) => String::new(),
        Some(default) => format!("`{}`", as_toml(default)),
    };
    let meaning = one_line(&format!("{}{}", description(value), choices(value)));
    write(document, format_args!("| `{key}` | {} | {default} | {} |\n", kind(value), meaning.replace('|', "\\|")));
}

/// A section's table, then the tables of what is below it.
fn table(document: &mut String, heading: &str, path: &str, text: &str, section: &'static Value) {
    let section = schema::resolve(section);
    write(document, format_args!("\n## `{heading}`\n\n{}\n\n{HEAD}", one_line(text)));
    let mut below = Vec::new();
    for (key, value) in properties(section) {
        row(document, section, key, value);
        let resolved = schema::resolve(value);
        if let Some(values) = schema::map_values(resolved) {
            below.push((format!("[{path}.{key}.NAME]"), format!("{path}.{key}.NAME"), values));
        } else if resolved.get("properties").is_some() {
            below.push((format!("[{path}.{key}]"), format!("{path}.{key}"), value));
        } else if let Some(items) = resolved.get("items") {
            let table = [schema::resolve(items)].into_iter().chain(alternatives(items)).find(|one| one.get("properties").is_some());
            below.extend(table.map(|table| (format!("{path}.{key} = [{{ ... }}]"), format!("{path}.{key}"), table)));
        }
    }
    for (heading, path, section) in below {
        table(document, &heading, &path, description(section), section);
    }
}

fn write(document: &mut String, arguments: std::fmt::Arguments<'_>) {
    document.write_fmt(arguments).expect("writing to a String does not fail");
}

/// What is required, then the rest by name: a schema has its keys in one order or another, depending on features that other crates switch on.
fn properties(schema: &'static Value) -> Vec<(&'static str, &'static Value)> {
    let properties = schema["properties"].as_object().into_iter().flatten();
    let mut properties: Vec<_> = properties.map(|(key, value)| (key.as_str(), value)).collect();
    properties.sort_by_key(|(key, _)| (!is_required(schema, key), *key));
    properties
}

fn is_required(schema: &Value, key: &str) -> bool {
    schema["required"].as_array().is_some_and(|required| required.iter().any(|name| name == key))
}

fn alternatives(schema: &'static Value) -> impl Iterator<Item = &'static Value> {
    let schema = schema::resolve(schema);
    ["anyOf", "oneOf"].into_iter().filter_map(|key| schema.get(key)?.as_array()).flatten().map(schema::resolve)
}

/// Of the field, else of its type.
fn description(schema: &'static Value) -> &'static str {
    let own = schema.get("description").or_else(|| schema::resolve(schema).get("description"));
    own.and_then(Value::as_str).unwrap_or_default()
}

/// The values of an enumeration with their meanings, where the field's own text does not name them.
fn choices(schema: &'static Value) -> String {
    let text = description(schema);
    let known = alternatives(schema).filter_map(|choice| Some((choice.get("const")?.as_str()?, description(choice))));
    let unnamed: Vec<String> = known.map(|(name, meaning)| format!("`{name}`: {}", lower_first(meaning.trim_end_matches('.')))).collect();
    if unnamed.is_empty() || text.contains(&unnamed[0]) { String::new() } else { format!(" {}.", unnamed.join("; ")) }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        // Not an abbreviation.
        (Some(first), Some(second)) if second.is_lowercase() => first.to_lowercase().chain(chars).collect(),
        _ => text.to_owned(),
    }
}

/// What may be written, in a word or two. Times and sizes are text to a schema, but their defaults show what they are.
fn kind(schema: &'static Value) -> String {
    let default = schema.get("default").and_then(Value::as_str).unwrap_or_default();
    let resolved = schema::resolve(schema);
    if alternatives(schema).any(|choice| choice.get("const").is_some()) || resolved.get("enum").is_some() {
        "choice".to_owned()
    } else if schema::takes(schema, "boolean") {
        "boolean".to_owned()
    } else if schema::takes(schema, "integer") {
        range(resolved)
    } else if schema::takes(schema, "array") {
        "list".to_owned()
    } else if schema::takes(schema, "object") {
        "table".to_owned()
    } else if humantime::parse_duration(default).is_ok() {
        "time".to_owned()
    } else if default.ends_with('B') && default.parse::<ByteSize>().is_ok() {
        "size".to_owned()
    } else {
        "text".to_owned()
    }
}

fn range(schema: &Value) -> String {
    let minimum = schema.get("minimum").and_then(Value::as_u64).unwrap_or(0);
    match schema.get("maximum").and_then(Value::as_u64) {
        Some(maximum) => format!("{minimum} to {maximum}"),
        None => format!("number from {minimum}"),
    }
}

fn as_toml(value: &Value) -> String {
    match value {
        Value::String(text) => match text.parse::<ByteSize>() {
            // As a person would write it.
            Ok(size) if text.ends_with('B') => format!("{:?}", units::size_text(size)),
            _ => format!("{text:?}"),
        },
        other => other.to_string(),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    /// Where the document is kept.
    const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");

    #[test]
    fn the_document_is_up_to_date() {
        let kept = std::fs::read_to_string(PATH).unwrap_or_default();
        assert!(
            kept == super::markdown(),
            "broker/docs/configuration.md is out of date; run: cargo run -p bucketmq -- check-config --reference > broker/docs/configuration.md"
        );
    }

    #[test]
    fn every_key_says_what_it_means() {
        for line in super::markdown().lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            assert!(cells.len() >= 4 && !cells[1].is_empty() && cells[3].len() > 10, "{line}");
        }
    }

    #[test]
    fn the_example_of_the_document_is_read() {
        let document = super::markdown();
        let example = document.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), example).unwrap();
        let loaded = crate::config::Config::load(Some(file.path()), std::iter::empty(), &crate::config::ServeFlags::default()).unwrap();
        assert_eq!(loaded.config.limits.max_packet_size.as_u64(), 256 << 10);
    }
}
