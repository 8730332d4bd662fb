//! Places that exist on one machine only.

use crate::{Tree, Violation};

/// Written in two halves, so that this file passes its own rule.
const MACHINE_PATHS: [&str; 4] = [concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Use", "rs/"), concat!("/wo", "rk/")];
const REGISTRY_HOSTS: [&str; 8] = [
    concat!("index.cra", "tes.io"),
    concat!("static.cra", "tes.io"),
    concat!("registry.npm", "js.org"),
    concat!("registry.yarn", "pkg.com"),
    concat!("py", "pi.org"),
    concat!("files.python", "hosted.org"),
    concat!("proxy.go", "lang.org"),
    concat!("deb.deb", "ian.org"),
];

/// No path of somebody's machine.
pub fn machine_paths(tree: &Tree) -> Vec<Violation> {
    let begins_a_path =
        |line: &str, at: usize| !line[..at].ends_with(|before: char| before.is_alphanumeric() || "._-/}*$~".contains(before));
    holding(tree, &MACHINE_PATHS, begins_a_path, "machine-path", "use a relative path, or one that is made at run time")
}

/// No registry by its host: everybody's client is set up for the one it reaches.
pub fn registry_hosts(tree: &Tree) -> Vec<Violation> {
    holding(tree, &REGISTRY_HOSTS, |_, _| true, "registry-host", "name the package and leave the host to the package manager")
}

fn holding(tree: &Tree, texts: &[&str], counts: impl Fn(&str, usize) -> bool, rule: &'static str, remedy: &str) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in &tree.files {
        for (number, line) in file.lines() {
            for text in texts.iter().filter(|text| line.match_indices(**text).any(|(at, _)| counts(line, at))) {
                found.push(Violation::new(&file.path, number, rule, format!("{text} is known to this machine only: {remedy}")));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_somebodys_machine_is_found() {
        let path = MACHINE_PATHS[0];
        assert_eq!(machine_paths(&Tree::of(&[("a.md", &format!("see\n{path}x\n"))]))[0].line, 2);
        assert!(machine_paths(&Tree::of(&[("a.md", &format!("artifacts{path}x\n"))])).is_empty());
    }

    #[test]
    fn a_registry_host_is_found() {
        let host = REGISTRY_HOSTS[0];
        assert_eq!(registry_hosts(&Tree::of(&[("a.toml", &format!("https://{host}/\n"))])).len(), 1);
    }
}
