//! From the tree to types by serde, so that each room's own `Config` decides what it takes; here it is only made sure that whatever it refuses is
//! told with its key, its place, what was expected and, for a name, the one that was probably meant.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Expected, IntoDeserializer, Unexpected, Visitor};

use super::error::{ConfigError, nearest};
use super::tree::{KeyPath, Node, Step, Value};

/// Mistakes told at one time. More than this is another kind of file.
const ERRORS_MAX: usize = 50;

/// Reads `T` and tells every mistake that can be told: after one, what is wrong is skipped and all is read again. With mistakes, `T` has defaults in
/// their places.
pub fn read<T: DeserializeOwned>(tree: &Node) -> (Option<T>, Vec<ConfigError>) {
    let mut skipped = BTreeSet::new();
    let mut misspelt = BTreeSet::new();
    let mut errors: Vec<ConfigError> = Vec::new();
    loop {
        let failure = match T::deserialize(At { node: tree, path: KeyPath::default(), skipped: &skipped }) {
            Ok(value) => return (Some(value), errors),
            Err(failure) => failure,
        };
        let container = failure.path.unwrap_or_default();
        let path = match failure.kind.key() {
            Some(key) => container.join(Step::Key(key.to_owned())),
            None => container.clone(),
        };
        let missing = matches!(failure.kind, Kind::Missing(_));
        if let Kind::Unknown(key, known) = &failure.kind
            && let Some(meant) = nearest(key, known.iter().copied())
        {
            misspelt.insert(container.join(Step::Key(meant.to_owned())));
        }
        // What is missing because it was wrong or misspelt has been told.
        if !(missing && (skipped.contains(&path) || misspelt.contains(&path))) {
            errors.push(ConfigError { origin: tree.origin_of(&path.0).clone(), key: path.to_string(), problem: failure.kind.to_string() });
        }
        let skip = if missing { container } else { path };
        if errors.len() >= ERRORS_MAX || skip.0.is_empty() || !skipped.insert(skip) {
            return (None, errors);
        }
    }
}

/// Why a value was refused.
#[derive(Debug)]
struct Failure {
    /// Of the value or, for a key, of the table it stands in. None until the table or array around it knows.
    path: Option<KeyPath>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// A key that the table does not take.
    Unknown(String, &'static [&'static str]),
    /// A key that the table needs.
    Missing(&'static str),
    /// A value that the key does not take.
    Wrong(String),
}

impl Kind {
    fn key(&self) -> Option<&str> {
        match self {
            Kind::Unknown(key, _) => Some(key),
            Kind::Missing(key) => Some(key),
            Kind::Wrong(_) => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Unknown(key, known) => match nearest(key, known.iter().copied()) {
                Some(meant) => write!(f, "unknown key, did you mean `{meant}`?"),
                None => write!(f, "unknown key, expected {}", choice(known)),
            },
            Kind::Missing(_) => write!(f, "this key is missing"),
            Kind::Wrong(problem) => f.write_str(problem),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl std::error::Error for Failure {}

impl Failure {
    fn at(mut self, path: &KeyPath) -> Self {
        self.path.get_or_insert_with(|| path.clone());
        self
    }
}

impl From<Kind> for Failure {
    fn from(kind: Kind) -> Self {
        Self { path: None, kind }
    }
}

impl de::Error for Failure {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Kind::Wrong(message.to_string()).into()
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Kind::Wrong(format!("expected {}, found {}", plain_words(expected), Found(found))).into()
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let meant = nearest(variant, expected.iter().copied()).map(|meant| format!(", did you mean `{meant}`?")).unwrap_or_default();
        Kind::Wrong(format!("expected {}, found {variant:?}{meant}", choice(expected))).into()
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Kind::Unknown(field.to_owned(), expected).into()
    }

    fn missing_field(field: &'static str) -> Self {
        Kind::Missing(field).into()
    }
}

fn choice(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match &quoted[..] {
        [] => "nothing".to_owned(),
        [one] => one.clone(),
        [one, two] => format!("{one} or {two}"),
        _ => format!("one of {}", quoted.join(", ")),
    }
}

/// What serde and the crates of times and sizes call things, in words of people who write TOML.
fn plain_words(expected: &dyn Expected) -> String {
    let expected = expected.to_string();
    match expected.as_str() {
        "u8" => "a whole number from 0 to 255".to_owned(),
        "u16" => format!("a whole number from 0 to {}", u16::MAX),
        "u32" => format!("a whole number from 0 to {}", u32::MAX),
        "u64" => "a whole number from 0".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a duration" => "a time such as \"30s\", \"5m\" or \"7d\"".to_owned(),
        "parsable string" | "integer overflow" | "an integer or string" => "a size such as \"512KiB\" or \"1MiB\"".to_owned(),
        "path string" => "a path".to_owned(),
        "a map" => "a table".to_owned(),
        "a sequence" => "an array".to_owned(),
        other if other.starts_with("struct ") => "a table".to_owned(),
        other => other.to_owned(),
    }
}

struct Found<'a>(Unexpected<'a>);

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Unexpected::Bool(value) => write!(f, "{value}"),
            Unexpected::Unsigned(value) => write!(f, "{value}"),
            Unexpected::Signed(value) => write!(f, "{value}"),
            Unexpected::Float(value) => write!(f, "{value}"),
            Unexpected::Str(text) => write!(f, "{text:?}"),
            Unexpected::Seq => f.write_str("an array"),
            Unexpected::Map => f.write_str("a table"),
            ref other => write!(f, "{other}"),
        }
    }
}

/// A node with the path that leads to it.
struct At<'a> {
    node: &'a Node,
    path: KeyPath,
    skipped: &'a BTreeSet<KeyPath>,
}

impl<'a> At<'a> {
    fn below(&self, node: &'a Node, step: Step) -> Option<Self> {
        let path = self.path.join(step);
        if self.skipped.contains(&path) { None } else { Some(At { node, path, skipped: self.skipped }) }
    }

    fn found(&self) -> Unexpected<'a> {
        match &self.node.value {
            Value::String(text) => Unexpected::Str(text),
            Value::Integer(number) => Unexpected::Signed(i64::try_from(*number).unwrap_or(i64::MAX)),
            Value::Float(number) => Unexpected::Float(*number),
            Value::Boolean(value) => Unexpected::Bool(*value),
            Value::Date => Unexpected::Other("a date"),
            Value::Array(_) => Unexpected::Seq,
            Value::Table(_) => Unexpected::Map,
        }
    }
}

impl<'de> de::Deserializer<'de> for At<'_> {
    type Error = Failure;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let result = match &self.node.value {
            Value::String(text) => visitor.visit_str(text),
            Value::Integer(number) => match (i64::try_from(*number), u64::try_from(*number)) {
                (_, Ok(number)) => visitor.visit_u64(number),
                (Ok(number), _) => visitor.visit_i64(number),
                _ => Err(de::Error::custom("this number is too large")),
            },
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Boolean(value) => visitor.visit_bool(*value),
            Value::Date => Err(de::Error::invalid_type(self.found(), &visitor)),
            Value::Array(array) => {
                let elements = array.iter().enumerate().filter_map(|(index, node)| self.below(node, Step::Index(index)));
                visitor.visit_seq(Elements(elements))
            }
            Value::Table(table) => {
                let entries = table.iter().filter_map(|(key, node)| Some((key, self.below(node, Step::Key(key.clone()))?)));
                visitor.visit_map(Entries { entries, value: None })
            }
        };
        result.map_err(|failure| failure.at(&self.path))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        let result = match &self.node.value {
            Value::String(text) => visitor.visit_enum(IntoDeserializer::<Failure>::into_deserializer(text.as_str())),
            _ => Err(de::Error::invalid_type(self.found(), &choice(variants).as_str())),
        };
        result.map_err(|failure: Failure| failure.at(&self.path))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct
        identifier ignored_any
    }
}

struct Elements<I>(I);

impl<'a, 'de, I: Iterator<Item = At<'a>>> de::SeqAccess<'de> for Elements<I> {
    type Error = Failure;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Failure> {
        let Some(element) = self.0.next() else { return Ok(None) };
        let path = element.path.clone();
        seed.deserialize(element).map(Some).map_err(|failure| failure.at(&path))
    }
}

struct Entries<'a, I> {
    entries: I,
    value: Option<At<'a>>,
}

impl<'a, 'de, I: Iterator<Item = (&'a String, At<'a>)>> de::MapAccess<'de> for Entries<'a, I> {
    type Error = Failure;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Failure> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(StrDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Failure> {
        let value = self.value.take().expect("serde asks for a value after its key");
        let path = value.path.clone();
        seed.deserialize(value).map_err(|failure| failure.at(&path))
    }
}
