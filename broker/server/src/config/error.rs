//! What is wrong with a configuration, where, and what was expected: made for the person who wrote it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In the file. Line and column count from 1.
    File {
        /// The file.
        file: Arc<PathBuf>,
        /// The line.
        line: usize,
        /// The column, in characters.
        column: usize,
    },
    /// In an environment variable.
    Environment(Arc<str>),
    /// In a flag, such as `--listen`.
    Flag(&'static str),
    /// Nowhere: a default.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File { file, line, column } => write!(f, "{}:{line}:{column}", file.display()),
            Origin::Environment(variable) => write!(f, "{variable}"),
            Origin::Flag(flag) => write!(f, "{flag}"),
            Origin::Default => write!(f, "default"),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Where it was written.
    pub origin: Origin,
    /// The key with its sections, such as `listeners[0].tls.client_ca`. Empty if the file as a whole is meant.
    pub key: String,
    /// What was expected and what was found.
    pub problem: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.origin != Origin::Default {
            write!(f, "{}: ", self.origin)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.problem)
    }
}

/// The same for programs: `file`, `line` and `column`, or `variable`, or `flag`, then `key` and `problem`.
impl Serialize for ConfigError {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(None)?;
        match &self.origin {
            Origin::File { file, line, column } => {
                map.serialize_entry("file", &file.display().to_string())?;
                map.serialize_entry("line", line)?;
                map.serialize_entry("column", column)?;
            }
            Origin::Environment(variable) => map.serialize_entry("variable", &**variable)?,
            Origin::Flag(flag) => map.serialize_entry("flag", flag)?,
            Origin::Default => {}
        }
        map.serialize_entry("key", &self.key)?;
        map.serialize_entry("problem", &self.problem)?;
        map.end()
    }
}

/// Everything that was found wrong with a configuration, one line each. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.0))]
pub struct ConfigErrors(pub Vec<ConfigError>);

fn lines(errors: &[ConfigError]) -> String {
    errors.iter().map(ConfigError::to_string).collect::<Vec<_>>().join("\n")
}

/// The known name that was probably meant.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase().replace(['-', ' '], "_");
    let rated = known.into_iter().map(|candidate| (strsim::damerau_levenshtein(&name, candidate), candidate));
    // A third of the letters wrong is a typo; more is another word.
    let typo = rated.filter(|(distance, candidate)| *distance * 3 <= candidate.len().max(name.len())).min_by_key(|(distance, _)| *distance);
    typo.map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_the_key_and_another_word_finds_none() {
        let known = ["max_packet_size", "max_qos", "receive_maximum", "url"];
        assert_eq!(nearest("max_paket_size", known), Some("max_packet_size"));
        assert_eq!(nearest("maxPacketSize", known), Some("max_packet_size"));
        assert_eq!(nearest("max-qos", known), Some("max_qos"));
        assert_eq!(nearest("colour", known), None);
    }

    #[test]
    fn errors_are_objects_for_programs() {
        let file = Arc::new(PathBuf::from("b.toml"));
        let error = ConfigError { origin: Origin::File { file, line: 3, column: 1 }, key: "a.b".into(), problem: "expected c".into() };
        assert_eq!(error.to_string(), "b.toml:3:1: a.b: expected c");
        let json = serde_json::to_value(&error).unwrap();
        assert_eq!(json, serde_json::json!({ "file": "b.toml", "line": 3, "column": 1, "key": "a.b", "problem": "expected c" }));
    }
}
