//! The JSON Schema of the whole configuration, asked by the environment (what type has this place?) and by the reference (what is there at all?).

use std::sync::LazyLock;

use serde_json::Value;

use super::Config;
use super::tree::Step;

static SCHEMA: LazyLock<Value> = LazyLock::new(|| schemars::schema_for!(Config).to_value());

/// The schema's root, which is the file as a whole.
pub fn root() -> &'static Value {
    &SCHEMA
}

/// Follows references, and what is optional to what it is when it is there.
pub fn resolve(mut schema: &'static Value) -> &'static Value {
    loop {
        let reference = schema.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix('#'));
        let next = match (reference, schema.get("anyOf").and_then(Value::as_array)) {
            (Some(pointer), _) => SCHEMA.pointer(pointer),
            (None, Some(choices)) => match &choices[..] {
                [one, null] if is_null(null) => Some(one),
                _ => None,
            },
            (None, None) => None,
        };
        match next {
            Some(next) => schema = next,
            None => return schema,
        }
    }
}

/// Whether it may be absent.
pub fn is_optional(schema: &Value) -> bool {
    let nullable = schema.get("type").and_then(Value::as_array).is_some_and(|types| types.iter().any(|name| name == "null"));
    nullable || schema.get("anyOf").and_then(Value::as_array).is_some_and(|choices| choices.iter().any(is_null))
}

fn is_null(schema: &Value) -> bool {
    schema.get("type").is_some_and(|name| name == "null")
}

/// What may stand at `path`; `None` if there is no such place.
pub fn at(path: &[Step]) -> Option<&'static Value> {
    path.iter().try_fold(root(), |schema, step| {
        let schema = resolve(schema);
        match step {
            Step::Key(key) => schema.get("properties").and_then(|properties| properties.get(key)).or_else(|| map_values(schema)),
            Step::Index(_) => schema.get("items"),
        }
    })
}

/// Of a table whose keys are free: what their values are.
pub fn map_values(schema: &'static Value) -> Option<&'static Value> {
    schema.get("additionalProperties").filter(|values| values.is_object())
}

/// Whether JSON's `name` (`string`, `integer`, `array`, `object` ...) may stand here.
pub fn takes(schema: &'static Value, name: &str) -> bool {
    let schema = resolve(schema);
    let listed = |key: &str| schema.get(key).and_then(Value::as_array).into_iter().flatten();
    match schema.get("type") {
        Some(Value::String(only)) => only == name,
        Some(Value::Array(types)) => types.iter().any(|one| one == name),
        _ => {
            listed("anyOf").chain(listed("oneOf")).any(|choice| takes(choice, name)) || (name == "string" && schema.get("const").is_some())
        }
    }
}
