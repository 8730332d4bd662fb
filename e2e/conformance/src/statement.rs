//! The tables: every normative statement of both versions, and the hard areas. The data stands in `statements/`.

use std::collections::HashMap;

use anyhow::{Context, Result};
use bucketmq_packet::ProtocolVersion;
use serde::Deserialize;

use crate::tests;

/// Who has to obey.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Binds {
    /// The broker.
    Server,
    /// Whoever connects to it.
    Client,
    /// Both.
    Both,
}

/// One row: a normative statement.
#[derive(Debug, Clone)]
pub struct Statement {
    /// As the specification numbers it.
    pub id: String,
    /// Who has to obey.
    pub binds: Binds,
    /// Our paraphrase.
    pub says: String,
    /// Why no test can show it from outside.
    pub untestable: Option<String>,
}

/// One row: where brokers go wrong.
#[derive(Debug, Clone)]
pub struct Area {
    /// What tests call it.
    pub name: String,
    /// What a correct broker does.
    pub right: String,
    /// Bare ids of 5.0.
    pub clauses: String,
    /// Why no test can show it from outside.
    pub untestable: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StatementRow {
    binds: Binds,
    says: String,
    untestable: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AreaRow {
    right: String,
    clauses: String,
    untestable: Option<String>,
}

/// The numbers of an id, for sorting: 3.10.4-1 comes after 3.8.4-8.
fn numbers(id: &str) -> Vec<u32> {
    id.split(|character: char| !character.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

/// All statements of a version in the order of the specification; MQTT 3.1 numbers none.
pub fn statements(version: ProtocolVersion) -> Result<Vec<Statement>> {
    let text = match version {
        ProtocolVersion::V5 => include_str!("../statements/mqtt-5.0.toml"),
        ProtocolVersion::V3_1_1 => include_str!("../statements/mqtt-3.1.1.toml"),
        ProtocolVersion::V3_1 => "",
    };
    let rows: HashMap<String, StatementRow> = toml::from_str(text).context("statement table")?;
    let mut statements: Vec<Statement> =
        rows.into_iter().map(|(id, row)| Statement { id, binds: row.binds, says: row.says, untestable: row.untestable }).collect();
    statements.sort_by_key(|statement| numbers(&statement.id));
    Ok(statements)
}

/// All hard areas, by name.
pub fn areas() -> Result<Vec<Area>> {
    let rows: HashMap<String, AreaRow> = toml::from_str(include_str!("../statements/hard-areas.toml")).context("table of hard areas")?;
    let mut areas: Vec<Area> =
        rows.into_iter().map(|(name, row)| Area { name, right: row.right, clauses: row.clauses, untestable: row.untestable }).collect();
    areas.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(areas)
}

impl Statement {
    /// Names of the tests that show it in `version`.
    pub fn tests(&self, version: ProtocolVersion) -> Vec<&'static str> {
        let bare = self.id.trim_start_matches("MQTT-");
        tests::all().filter(|test| test.shows(version).is_some_and(|ids| ids.contains(&bare))).map(|test| test.name).collect()
    }
}

impl Area {
    /// Names of the tests that cover it.
    pub fn tests(&self) -> Vec<&'static str> {
        tests::all().filter(|test| test.areas.contains(&self.name.as_str())).map(|test| test.name).collect()
    }
}

#[cfg(test)]
mod table {
    use std::collections::HashSet;

    use super::*;

    const VERSIONS: [ProtocolVersion; 2] = [ProtocolVersion::V5, ProtocolVersion::V3_1_1];

    #[test]
    fn every_statement_has_its_row() {
        assert_eq!(statements(ProtocolVersion::V5).unwrap().len(), 251);
        assert_eq!(statements(ProtocolVersion::V3_1_1).unwrap().len(), 137);
        assert_eq!(areas().unwrap().len(), 43);
    }

    #[test]
    fn ids_have_the_form_of_the_specification() {
        for version in VERSIONS {
            for statement in statements(version).unwrap() {
                assert!(statement.id.starts_with("MQTT-") && numbers(&statement.id).len() == 4, "{}", statement.id);
                assert!(statement.says.ends_with('.'), "{}: a paraphrase is a sentence", statement.id);
            }
        }
    }

    #[test]
    fn every_statement_that_binds_a_server_has_a_test_or_a_reason() {
        for version in VERSIONS {
            for statement in statements(version).unwrap() {
                let tests = statement.tests(version);
                if statement.binds != Binds::Client {
                    assert!(
                        !tests.is_empty() || statement.untestable.is_some(),
                        "{} of {version:?} has neither test nor reason",
                        statement.id
                    );
                }
                assert!(tests.is_empty() || statement.untestable.is_none(), "{} of {version:?} is tested and untestable", statement.id);
            }
        }
    }

    #[test]
    fn every_hard_area_has_a_test_or_a_reason() {
        for area in areas().unwrap() {
            assert_ne!(area.tests().is_empty(), area.untestable.is_none(), "{}", area.name);
        }
    }

    #[test]
    fn tests_show_statements_and_areas_that_exist() {
        for version in VERSIONS {
            let known: HashSet<String> = statements(version).unwrap().into_iter().map(|statement| statement.id).collect();
            for test in tests::all() {
                for id in test.shows(version).unwrap_or_default() {
                    assert!(known.contains(&format!("MQTT-{id}")), "{} shows {id} of {version:?}, which is no statement", test.name);
                }
            }
        }
        let known: HashSet<String> = areas().unwrap().into_iter().map(|area| area.name).collect();
        for test in tests::all() {
            test.areas.iter().for_each(|area| assert!(known.contains(*area), "{} covers {area}, which is no area", test.name));
        }
    }

    #[test]
    fn names_of_tests_are_unique_and_run_somewhere() {
        let mut names = HashSet::new();
        for test in tests::all() {
            assert!(names.insert(test.name), "{} twice", test.name);
            assert!(test.v5.is_some() || test.v3.is_some(), "{} never runs", test.name);
        }
    }
}
