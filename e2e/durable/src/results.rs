//! Tables of RESULTS.md, kept between markers: a row that was measured again takes the place of the old one.

use std::path::Path;

use anyhow::{Context, bail};

/// A table.
pub struct Table {
    /// Stands in its markers.
    pub name: &'static str,
    /// Titles of the columns. A row is known by its first cell.
    pub head: Vec<&'static str>,
    /// Cells.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// As Markdown, with the rows of `old` that were not measured again.
    fn markdown(&self, old: &str) -> String {
        let line = |cells: &[String]| format!("| {} |", cells.join(" | "));
        let head: Vec<String> = self.head.iter().map(ToString::to_string).collect();
        let mut lines = vec![line(&head), line(&vec!["---".to_owned(); head.len()])];
        let first = |line: &str| line.split('|').nth(1).map(|cell| cell.trim().to_owned());
        let mut new: Vec<(String, String)> = self.rows.iter().map(|row| (row[0].clone(), line(row))).collect();
        // Of a table with other columns nothing is kept.
        let old_rows = if old.lines().next() == Some(&lines[0]) { old.lines().skip(2).collect() } else { Vec::new() };
        for old in old_rows {
            match new.iter().position(|(name, _)| first(old).as_ref() == Some(name)) {
                Some(place) => lines.push(new.remove(place).1),
                None => lines.push(old.to_owned()),
            }
        }
        lines.extend(new.into_iter().map(|(_, line)| line));
        lines.join("\n")
    }

    /// `text` with this table in its place.
    fn put_into(&self, text: &str) -> anyhow::Result<String> {
        let (begin, end) = (format!("<!-- {} -->\n", self.name), format!("\n<!-- end of {} -->", self.name));
        let Some((before, rest)) = text.split_once(&begin) else { bail!("no marker {}", begin.trim()) };
        let Some((old, after)) = rest.split_once(&end) else { bail!("no marker {}", end.trim()) };
        Ok(format!("{before}{begin}{}{end}{after}", self.markdown(old)))
    }

    /// Puts it into the file.
    pub fn write(&self, file: &Path) -> anyhow::Result<()> {
        let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        std::fs::write(file, self.put_into(&text)?).with_context(|| format!("write {}", file.display()))
    }

    /// As it is read on a terminal, which is as Markdown.
    pub fn print(&self) {
        println!("{}", self.markdown(""));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[[&str; 2]]) -> Table {
        let rows = rows.iter().map(|row| row.map(str::to_owned).to_vec()).collect();
        Table { name: "crash", head: vec!["run", "lost"], rows }
    }

    #[test]
    fn a_row_takes_the_place_of_the_old_one_and_others_stay() {
        let empty = "# Title\n<!-- crash -->\n\n<!-- end of crash -->\nBehind.\n";
        let first = table(&[["a", "0"], ["b", "1"]]).put_into(empty).unwrap();
        assert!(
            first.contains("<!-- crash -->\n| run | lost |\n| --- | --- |\n| a | 0 |\n| b | 1 |\n<!-- end of crash -->\nBehind."),
            "{first}"
        );
        let second = table(&[["a", "2"], ["c", "3"]]).put_into(&first).unwrap();
        assert!(second.contains("| a | 2 |\n| b | 1 |\n| c | 3 |\n<!-- end"), "{second}");
    }

    #[test]
    fn a_file_without_markers_is_left_alone() {
        assert!(table(&[]).put_into("# Title\n").unwrap_err().to_string().contains("crash"));
    }
}
