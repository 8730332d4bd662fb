//! The rules, one file per subject.

pub mod arrows;
pub mod clauses;
pub mod files;
pub mod licences;
pub mod links;
pub mod lockfile;
pub mod metrics;
pub mod places;
pub mod source;

use crate::{Tree, Violation};

/// Looks at the whole tree.
pub type Rule = fn(&Tree) -> Vec<Violation>;

/// Every rule over the tree. Licences are judged apart, because they need what cargo knows of the dependencies.
pub const ALL: [Rule; 15] = [
    files::opening_comment,
    files::name_says_nothing,
    files::top_level,
    files::white_space,
    source::unfinished,
    source::print_in_library,
    source::silenced_without_reason,
    arrows::between_rooms,
    arrows::rooms_without_io,
    clauses::exist,
    links::resolve,
    lockfile::one_version,
    metrics::prefix,
    places::machine_paths,
    places::registry_hosts,
];
