//! Links between the documents.

use crate::{Tree, Violation};

/// A relative link of a Markdown file leads to a tracked file or folder, and its anchor to a heading there.
pub fn resolve(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in tree.files.iter().filter(|file| file.path.ends_with(".md")) {
        let mut in_code = false;
        for (number, line) in file.lines() {
            if line.trim_start().starts_with("```") {
                in_code = !in_code;
            }
            if in_code {
                continue;
            }
            for target in targets(line).filter(|target| !target.contains("://") && !target.starts_with("mailto:")) {
                let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
                let path = if path.is_empty() { Some(file.path.clone()) } else { resolved(&file.path, path) };
                let Some(path) = path.filter(|path| tree.holds(path)) else {
                    found.push(Violation::new(&file.path, number, "link", format!("nothing is tracked at {target}: mend the link")));
                    continue;
                };
                let document = tree.get(&path).filter(|document| document.path.ends_with(".md"));
                if let (Some(anchor), Some(document)) = (anchor, document)
                    && !headings(&document.text).any(|heading| heading == anchor)
                {
                    found.push(Violation::new(&file.path, number, "link", format!("{path} has no heading #{anchor}: mend the link")));
                }
            }
        }
    }
    found
}

/// What stands in `](...)`, outside of code spans.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("](").filter(|(at, _)| line[..*at].matches('`').count().is_multiple_of(2)).filter_map(|(at, opening)| {
        let tail = &line[at + opening.len()..];
        Some(tail[..tail.find(')')?].split(' ').next().unwrap_or_default())
    })
}

/// `target` as seen from the folder of `from`; none where it leaves the tree.
fn resolved(from: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.trim_end_matches('/').split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Anchors as they are made from headings: lower case, blanks to dashes, punctuation gone.
fn headings(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter(|line| line.starts_with('#')).map(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_')).map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(readme: &str) -> Vec<usize> {
        let tree =
            Tree::of(&[("README.md", readme), ("broker/ARCHITECTURE.md", "# The road of a `PUBLISH`, by room\n[up](../README.md)\n")]);
        resolve(&tree).iter().map(|violation| violation.line).collect()
    }

    #[test]
    fn links_lead_to_what_is_tracked() {
        assert_eq!(broken("[a](broker/ARCHITECTURE.md) [b](broker/) [c](https://example.org/x)\n[d](broker/decisions)\n"), [2]);
        assert_eq!(broken("[a](../outside.md)\n"), [1]);
    }

    #[test]
    fn anchors_lead_to_headings() {
        assert_eq!(broken("[a](broker/ARCHITECTURE.md#the-road-of-a-publish-by-room)\n[b](#nowhere)\n"), [2]);
    }

    #[test]
    fn what_stands_in_code_is_not_a_link() {
        assert!(broken("`[a](b)`\n```\n[c](d)\n```\n").is_empty());
    }
}
