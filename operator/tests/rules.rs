//! Every rule of the custom resources accepts and refuses what it should, without a cluster; `crds/` is what the types say; golden objects stay valid.

use std::collections::BTreeSet;
use std::path::Path;

use bucketmq_operator::crd::{self, MqttBroker, MqttRole, MqttUser};
use kube::CustomResourceExt;
use kube::core::cel::Validator;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The table.
#[derive(Deserialize)]
struct Table {
    base: serde_json::Map<String, Value>,
    cases: Vec<Case>,
}

/// One object and what has to become of it.
#[derive(Deserialize)]
struct Case {
    kind: String,
    set: Value,
    from: Option<Value>,
    refused: Option<String>,
    /// false: bounds of the schema, which only an API server looks at.
    #[serde(default = "yes")]
    offline: bool,
}

fn yes() -> bool {
    true
}

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn table() -> Table {
    let text = std::fs::read_to_string(folder().join("tests/rules.yaml")).expect("the table is there");
    serde_saphyr::from_str(&text).expect("the table is one")
}

/// JSON Merge Patch (RFC 7396).
fn lay_over(base: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        base.clone_from(patch);
        return;
    };
    if !base.is_object() {
        *base = json!({});
    }
    for (key, value) in patch {
        match value {
            Value::Null => {
                base.as_object_mut().expect("made one above").remove(key);
            }
            value => lay_over(&mut base[key], value),
        }
    }
}

/// The object with defaults filled in, as an API server would.
fn with_defaults(kind: &str, object: Value) -> Result<Value, serde_json::Error> {
    fn through<K: DeserializeOwned + serde::Serialize>(object: Value) -> Result<Value, serde_json::Error> {
        serde_json::to_value(serde_json::from_value::<K>(object)?)
    }
    match kind {
        "MqttBroker" => through::<MqttBroker>(object),
        "MqttUser" => through::<MqttUser>(object),
        "MqttRole" => through::<MqttRole>(object),
        other => panic!("{other} is no kind of ours"),
    }
}

fn schema(kind: &str) -> Value {
    let crd = match kind {
        "MqttBroker" => MqttBroker::crd(),
        "MqttUser" => MqttUser::crd(),
        _ => MqttRole::crd(),
    };
    let crd = serde_json::to_value(crd).expect("a definition is JSON");
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

#[test]
fn every_case_of_the_table_is_taken_or_refused_as_it_says() {
    let table = table();
    let mut wrong = Vec::new();
    for case in table.cases.iter().filter(|case| case.offline) {
        let base = table.base[&case.kind].clone();
        let old = case.from.as_ref().map(|from| {
            let mut old = base.clone();
            lay_over(&mut old, from);
            old
        });
        let mut object = base;
        lay_over(&mut object, &case.set);
        let old = old.map(|old| with_defaults(&case.kind, old).unwrap());
        let object = with_defaults(&case.kind, object).unwrap_or_else(|error| panic!("{}: {error}", case.set));
        let outcome = Validator::new().validate(&schema(&case.kind), &object, old.as_ref());
        let said = outcome.err().map(|errors| errors.to_string());
        let is_right = match (&case.refused, &said) {
            (None, None) => true,
            (Some(refused), Some(said)) => said.contains(refused),
            _ => false,
        };
        if !is_right {
            wrong.push(format!("{} {}: expected {:?}, got {said:?}", case.kind, case.set, case.refused));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_rule_has_a_case_that_breaks_it() {
    fn messages(schema: &Value, found: &mut BTreeSet<String>) {
        match schema {
            Value::Object(object) => {
                for rule in object.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
                    found.insert(rule["message"].as_str().expect("every rule of ours has a message").to_owned());
                }
                object.values().for_each(|value| messages(value, found));
            }
            Value::Array(array) => array.iter().for_each(|value| messages(value, found)),
            _ => {}
        }
    }
    let mut rules = BTreeSet::new();
    for kind in ["MqttBroker", "MqttUser", "MqttRole"] {
        messages(&schema(kind), &mut rules);
    }
    let tried: BTreeSet<String> = table().cases.into_iter().filter_map(|case| case.refused).collect();
    let untried: Vec<&String> = rules.difference(&tried).collect();
    assert!(untried.is_empty(), "no case breaks: {untried:#?}");
    assert!(rules.len() > 40, "{}", rules.len());
}

#[test]
fn the_files_in_crds_are_what_the_types_say() {
    for crd in crd::all() {
        let path = folder().join("../crds").join(format!("{}.yaml", crd.metadata.name.as_ref().unwrap()));
        let file = std::fs::read_to_string(&path).unwrap();
        assert!(file.ends_with(&crd::yaml(&crd).unwrap()), "{}: run `cargo crds`", path.display());
    }
}

#[test]
fn golden_objects_of_every_release_are_valid_and_come_back_as_they_were() {
    let mut count = 0;
    for release in std::fs::read_dir(folder().join("tests/golden")).unwrap() {
        for file in std::fs::read_dir(release.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            for document in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
                let kind = document["kind"].as_str().unwrap().to_owned();
                let object = with_defaults(&kind, document.clone()).unwrap();
                if let Err(errors) = Validator::new().validate(&schema(&kind), &object, None) {
                    panic!("{}: {errors}", path.display());
                }
                assert!(holds(&object, &document), "{}: a field got lost: {object:#}", path.display());
                count += 1;
            }
        }
    }
    assert!(count >= 9, "{count}");
}

/// Whether everything that was written is still there.
fn holds(object: &Value, written: &Value) -> bool {
    match written {
        Value::Object(written) => {
            written.iter().all(|(key, value)| object.get(key).is_some_and(|object| holds(object, value)) || value == &json!({}))
        }
        Value::Array(written) => object.as_array().is_some_and(|object| {
            object.len() == written.len() && written.iter().zip(object).all(|(written, object)| holds(object, written))
        }),
        // A number of a quantity comes back as a text.
        Value::Number(number) => object == written || object.as_str() == Some(number.to_string().as_str()),
        scalar => object == scalar,
    }
}
