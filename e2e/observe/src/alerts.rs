//! The rules of a chart, and their expressions in parts.

use std::path::PathBuf;

use anyhow::Context;

use crate::Chart;

/// The file of the rules.
pub fn file(chart: &Chart) -> PathBuf {
    chart.folder().join("files/alerts.yaml")
}

/// The rules as the chart renders them for who is under test.
pub fn rendered(chart: &Chart) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file(chart)).with_context(|| file(chart).display().to_string())?;
    let quoted = |name: &str| format!("\"{name}\"");
    let text = text.replace(&quoted("NAMESPACE"), &quoted(chart.namespace)).replace(&quoted("JOB"), &quoted(chart.job));
    Ok(text.replace("RUNBOOKS", "https://example.org/runbooks"))
}

/// What stands between the operands of an alert, which are looked at one by one.
const BETWEEN: [&str; 9] = [" and ", " or ", " unless ", " == ", " != ", " <= ", " >= ", " < ", " > "];

/// The operands of the comparisons of `expression`, and of what combines these. What stands in parentheses stays whole.
pub fn operands(expression: &str) -> Vec<&str> {
    let (mut found, mut begin, mut depth, mut in_text) = (Vec::new(), 0, 0, false);
    for (at, letter) in expression.char_indices().filter(|(_, letter)| letter.is_ascii()) {
        match letter {
            '"' => in_text = !in_text,
            _ if in_text => {}
            '(' | '{' | '[' => depth += 1,
            ')' | '}' | ']' => depth -= 1,
            ' ' if depth == 0 && at >= begin => {
                if let Some(between) = BETWEEN.iter().find(|between| expression[at..].starts_with(**between)) {
                    found.push(expression[begin..at].trim());
                    begin = at + between.len();
                }
            }
            _ => {}
        }
    }
    found.push(expression[begin..].trim());
    found
}

#[cfg(test)]
mod tests {
    use super::operands;

    #[test]
    fn an_expression_comes_apart_at_its_comparisons_only() {
        let expression = r#"sum by (job) (rate(a{b="x > y"}[5m])) > 2 * sum(c) and d - time() < 7 * 86400 or absent(up{job="and"})"#;
        let expected = [r#"sum by (job) (rate(a{b="x > y"}[5m]))"#, "2 * sum(c)", "d - time()", "7 * 86400", r#"absent(up{job="and"})"#];
        assert_eq!(operands(expression), expected);
        assert_eq!(operands("up"), ["up"]);
    }
}
