//! The configuration before it has types: a tree of TOML values, each with the place it was written at. File, environment and flags are laid over
//! one another here, so that whatever is found wrong later can name its line or its variable.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Origin};

/// A value and where it was written: a table's entry at its key, an array's element where it begins.
#[derive(Debug, Clone)]
pub struct Node {
    /// Where.
    pub origin: Origin,
    /// What.
    pub value: Value,
}

/// What TOML knows.
#[derive(Debug, Clone)]
pub enum Value {
    /// `"text"`
    String(String),
    /// `7`
    Integer(i128),
    /// `0.5`
    Float(f64),
    /// `true`
    Boolean(bool),
    /// `2026-01-01`, which no key takes.
    Date,
    /// `[1, 2]`
    Array(Vec<Node>),
    /// `[section]` or `{ key = 1 }`
    Table(BTreeMap<String, Node>),
}

/// One step into the tree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Into an array.
    Index(usize),
    /// Into a table.
    Key(String),
}

/// Steps from the root, written as `listeners[0].tls.client_ca`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyPath(pub Vec<Step>);

impl KeyPath {
    /// Reads what [`Display`](fmt::Display) writes, for paths of our own without quotes.
    pub fn parse(text: &str) -> Self {
        let mut steps = Vec::new();
        for part in text.split('.').filter(|part| !part.is_empty()) {
            let (key, indices) = part.split_at(part.find('[').unwrap_or(part.len()));
            if !key.is_empty() {
                steps.push(Step::Key(key.to_owned()));
            }
            let indices = indices.split(['[', ']']).filter(|index| !index.is_empty());
            steps.extend(indices.filter_map(|index| index.parse().ok().map(Step::Index)));
        }
        Self(steps)
    }

    /// One step further.
    pub fn join(&self, step: Step) -> Self {
        Self(self.0.iter().cloned().chain([step]).collect())
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => {
                    let dot = if place == 0 { "" } else { "." };
                    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
                    if bare { write!(f, "{dot}{key}")? } else { write!(f, "{dot}{key:?}")? }
                }
            }
        }
        Ok(())
    }
}

impl Node {
    /// A table without entries.
    pub fn empty(origin: Origin) -> Self {
        Self { origin, value: Value::Table(BTreeMap::new()) }
    }

    /// Reads a file's text; every syntax error in it.
    pub fn from_toml(path: &Path, text: &str) -> Result<Self, Vec<ConfigError>> {
        let source = Source { file: Arc::new(path.to_owned()), text };
        let (table, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            let error = |error: &toml::de::Error| ConfigError {
                origin: source.origin(error.span().unwrap_or(0..0)),
                key: String::new(),
                problem: format!("this is not TOML: {}", error.message()),
            };
            return Err(errors.iter().map(error).collect());
        }
        let origin = |span| source.origin(span);
        Ok(Self { origin: origin(0..0), value: Value::table(table.into_inner(), &origin) })
    }

    /// Reads one TOML value, such as `["a", "b"]`, written at `origin`.
    pub fn from_toml_value(text: &str, origin: &Origin) -> Result<Self, String> {
        let value = DeValue::parse(text).map_err(|error| error.message().to_owned())?;
        Ok(Self { origin: origin.clone(), value: Value::new(value.into_inner(), &|_| origin.clone()) })
    }

    /// The node at `path`, if there is one.
    pub fn get(&self, path: &[Step]) -> Option<&Self> {
        path.iter().try_fold(self, |node, step| match (&node.value, step) {
            (Value::Table(table), Step::Key(key)) => table.get(key),
            (Value::Array(array), Step::Index(index)) => array.get(*index),
            _ => None,
        })
    }

    /// Where `path` was written, or what is nearest above it.
    pub fn origin_of(&self, path: &[Step]) -> &Origin {
        let nearest = (0..=path.len()).rev().find_map(|length| self.get(&path[..length]));
        &nearest.unwrap_or(self).origin
    }

    /// Writes `node` at `path`, making tables and arrays on the way. An array grows by one element at most.
    pub fn set(&mut self, path: &[Step], node: Self) -> Result<(), String> {
        let Some((step, rest)) = path.split_first() else {
            *self = node;
            return Ok(());
        };
        let origin = node.origin.clone();
        match (&mut self.value, step) {
            (Value::Table(table), Step::Key(key)) => {
                let entry = table.entry(key.clone()).or_insert_with(|| Self { origin, value: Value::container(rest) });
                entry.set(rest, node)
            }
            (Value::Array(array), Step::Index(index)) => {
                if *index > array.len() {
                    return Err(format!("there is no element {index} and the next one to add is {}", array.len()));
                }
                if *index == array.len() {
                    array.push(Self { origin, value: Value::container(rest) });
                }
                array[*index].set(rest, node)
            }
            (Value::Table(_), Step::Index(index)) => Err(format!("expected a key, found the index {index}")),
            (Value::Array(_), Step::Key(key)) => Err(format!("expected an index such as 0, found {key:?}")),
            (_, _) => Err("there is nothing below it: it is neither a table nor an array".to_owned()),
        }
    }

    /// Takes a table's entry away, if it is there.
    pub fn remove(&mut self, path: &[Step]) {
        let Some((step, rest)) = path.split_first() else { return };
        match (&mut self.value, step) {
            (Value::Table(table), Step::Key(key)) if rest.is_empty() => drop(table.remove(key)),
            (Value::Table(table), Step::Key(key)) => table.get_mut(key).into_iter().for_each(|node| node.remove(rest)),
            (Value::Array(array), Step::Index(index)) => array.get_mut(*index).into_iter().for_each(|node| node.remove(rest)),
            _ => {}
        }
    }
}

impl Value {
    fn container(below: &[Step]) -> Self {
        match below.first() {
            Some(Step::Index(_)) => Value::Array(Vec::new()),
            _ => Value::Table(BTreeMap::new()),
        }
    }

    fn new(value: DeValue<'_>, origin: &impl Fn(Range<usize>) -> Origin) -> Self {
        match value {
            DeValue::String(text) => Value::String(text.into_owned()),
            // TOML promises 64 bits; whatever is larger is out of every key's range anyway.
            DeValue::Integer(number) => Value::Integer(i128::from_str_radix(number.as_str(), number.radix()).unwrap_or(i128::MAX)),
            DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(value) => Value::Boolean(value),
            DeValue::Datetime(_) => Value::Date,
            DeValue::Array(array) => {
                let node = |element: toml::Spanned<DeValue<'_>>| Node {
                    origin: origin(element.span()),
                    value: Value::new(element.into_inner(), origin),
                };
                Value::Array(array.into_iter().map(node).collect())
            }
            DeValue::Table(table) => Value::table(table, origin),
        }
    }

    fn table(table: DeTable<'_>, origin: &impl Fn(Range<usize>) -> Origin) -> Self {
        let entry = |(key, value): (toml::Spanned<std::borrow::Cow<'_, str>>, toml::Spanned<DeValue<'_>>)| {
            let node = Node { origin: origin(key.span()), value: Value::new(value.into_inner(), origin) };
            (key.into_inner().into_owned(), node)
        };
        Value::Table(table.into_iter().map(entry).collect())
    }
}

struct Source<'a> {
    file: Arc<PathBuf>,
    text: &'a str,
}

impl Source<'_> {
    fn origin(&self, span: Range<usize>) -> Origin {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Origin::File { file: self.file.clone(), line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Node {
        Node::from_toml(Path::new("b.toml"), text).unwrap()
    }

    fn place(node: &Node, path: &str) -> String {
        node.origin_of(&KeyPath::parse(path).0).to_string()
    }

    #[test]
    fn every_value_knows_where_its_key_stands() {
        let node = read(
            "[log]\nlevel = \"info\"\n\n[[listeners]]\nurl = \"a\"\n[[listeners]]\n  url = \"b\"\n[access.roles.x]\nrules = [\n  \"1\",\n  \"2\"]\n",
        );
        for (path, expected) in [
            ("log", "b.toml:1:2"),
            ("log.level", "b.toml:2:1"),
            ("log.format", "b.toml:1:2"),
            ("listeners[0].url", "b.toml:5:1"),
            ("listeners[1].url", "b.toml:7:3"),
            ("listeners[1]", "b.toml:6:1"),
            ("access.roles.x.rules[1]", "b.toml:11:3"),
            ("nothing", "b.toml:1:1"),
        ] {
            assert_eq!(place(&node, path), expected, "{path}");
        }
    }

    #[test]
    fn paths_are_written_as_they_are_read() {
        for path in ["listeners[0].tls.certificates[1].key", "log.level", ""] {
            assert_eq!(KeyPath::parse(path).to_string(), path);
        }
        assert_eq!(KeyPath(vec![Step::Key("roles".into()), Step::Key("a.b".into())]).to_string(), "roles.\"a.b\"");
    }

    #[test]
    fn syntax_errors_name_their_lines() {
        let errors = Node::from_toml(Path::new("b.toml"), "[log]\nlevel = \nformat = \"text\"\nformat = \"json\"\n").unwrap_err();
        let lines: Vec<String> = errors.iter().map(|error| error.origin.to_string()).collect();
        assert!(lines[0].starts_with("b.toml:2:"), "{errors:?}");
        assert!(lines.iter().any(|line| line.starts_with("b.toml:4:")), "{errors:?}");
    }

    #[test]
    fn a_value_can_be_set_below_what_is_not_there_yet() {
        let mut node = read("");
        let origin = Origin::Environment("X".into());
        let value = || Node { origin: origin.clone(), value: Value::String("tcp://[::1]".into()) };
        node.set(&KeyPath::parse("listeners[0].url").0, value()).unwrap();
        assert_eq!(place(&node, "listeners[0].url"), "X");
        assert!(node.set(&KeyPath::parse("listeners[2].url").0, value()).unwrap_err().contains("the next one to add is 1"));
        assert!(node.set(&KeyPath::parse("listeners.url").0, value()).unwrap_err().contains("expected an index"));
    }
}
