//! Just enough of Rust's lexical rules to tell code from comments and literals.

/// `source` with every comment and every literal's inside replaced by spaces, line by line as before.
pub fn without_comments_and_literals(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    let mut after_word = false;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => string(rest),
            'r' | 'b' | 'c' if !after_word && prefixed_literal(rest).is_some() => prefixed_literal(rest).unwrap_or(1),
            '\'' => character(rest),
            _ => 0,
        };
        if length == 0 {
            out.push(c);
            after_word = c.is_alphanumeric() || c == '_';
            rest = &rest[c.len_utf8()..];
        } else {
            out.extend(rest[..length].chars().map(|hidden| if hidden == '\n' { '\n' } else { ' ' }));
            after_word = false;
            rest = &rest[length..];
        }
    }
    out
}

/// Comments nest.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        let tail = &rest.as_bytes()[at..];
        if tail.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if tail.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// From one quote to the next that no backslash hides.
fn string(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// `b"..."`, `c"..."`, `b'x'`, `r"..."`, `br##"..."##`.
fn prefixed_literal(rest: &str) -> Option<usize> {
    let letters = ["br", "cr", "b", "c", "r"].into_iter().find(|letters| rest.starts_with(letters))?;
    let tail = &rest[letters.len()..];
    if !letters.ends_with('r') {
        return match tail.chars().next()? {
            '"' => Some(letters.len() + string(tail)),
            '\'' if letters == "b" => Some(letters.len() + character(tail)),
            _ => None,
        };
    }
    let hashes = tail.bytes().take_while(|byte| *byte == b'#').count();
    let body = tail[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(letters.len() + hashes + 1 + body.find(&end).map_or(body.len(), |at| at + end.len()))
}

/// The length of a character literal, 0 for a lifetime.
fn character(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => rest[3..].find('\'').map_or(0, |at| 3 + at + 1),
        Some((_, c)) => match chars.next() {
            Some((at, '\'')) if c != '\'' => at + 1,
            _ => 0,
        },
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::without_comments_and_literals;

    #[test]
    fn comments_and_literals_are_hidden_and_code_is_not() {
        for (source, code) in [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"f("g\"h") i"#, "f(      ) i"),
            (r##"f(r#"g"h"#) i"##, "f(        ) i"),
            ("f(b\"g\") h", "f(    ) h"),
            ("f('\\'', 'a', '\"') g", "f(    ,    ,    ) g"),
            ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
            ("for \"x\" in y", "for     in y"),
            ("\"two\nlines\" a", "    \n       a"),
        ] {
            assert_eq!(without_comments_and_literals(source), code, "{source}");
        }
    }

    #[test]
    fn an_unfinished_literal_hides_the_rest() {
        assert_eq!(without_comments_and_literals("a \"b"), "a   ");
        assert_eq!(without_comments_and_literals("a /* b"), "a     ");
        assert_eq!(without_comments_and_literals("a r#\"b"), "a     ");
    }
}
