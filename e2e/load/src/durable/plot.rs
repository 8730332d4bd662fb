//! The picture of memory against queued messages, as an SVG that is readable on light and on dark.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

/// The broker at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// Messages that wait.
    pub queued: u64,
    /// Resident memory.
    pub rss_bytes: u64,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 360.0;
/// Left, right, top, bottom of the field.
const FIELD: (f64, f64, f64, f64) = (64.0, 700.0, 46.0, 312.0);
/// Points of a line; more cannot be told apart at this width.
const POINTS_MAX: usize = 150;

/// So many points, evenly over the messages, each the most memory since the one before.
pub fn thin(points: &[Point]) -> Vec<Point> {
    let most = points.iter().map(|point| point.queued).max().unwrap_or(0);
    let mut thinned: Vec<Point> = Vec::new();
    let mut step = None;
    for point in points {
        let at = point.queued * POINTS_MAX as u64 / most.max(1);
        match thinned.last_mut() {
            Some(last) if step == Some(at) => {
                last.rss_bytes = last.rss_bytes.max(point.rss_bytes);
                last.queued = point.queued;
            }
            _ => thinned.push(*point),
        }
        step = Some(at);
    }
    thinned
}

/// The picture: with a bucket, and in memory.
pub fn svg(with_bucket: &[Point], in_memory: &[Point]) -> String {
    let all = || with_bucket.iter().chain(in_memory);
    let most_queued = round_up(all().map(|point| point.queued as f64).fold(1.0, f64::max));
    let most_mb = round_up(all().map(|point| point.rss_bytes as f64 / 1e6).fold(1.0, f64::max));
    let (left, right, top, bottom) = FIELD;
    let x = |queued: f64| left + (right - left) * queued / most_queued;
    let y = |mb: f64| bottom - (bottom - top) * mb / most_mb;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <style>\n\
         text {{ fill: #1f2328 }} .grid {{ stroke: #d0d7de }} .bucket {{ stroke: #0969da; fill: none; stroke-width: 2.5 }}\n\
         .memory {{ stroke: #bc4c00; fill: none; stroke-width: 2.5 }} .b {{ fill: #0969da }} .m {{ fill: #bc4c00 }}\n\
         @media (prefers-color-scheme: dark) {{ text {{ fill: #e6edf3 }} .grid {{ stroke: #3d444d }} .bucket {{ stroke: #58a6ff }}\n\
         .memory {{ stroke: #f0883e }} .b {{ fill: #58a6ff }} .m {{ fill: #f0883e }} }}\n\
         </style>\n\
         <text x=\"{left}\" y=\"22\" font-size=\"15\">Memory of the broker while messages of 256 B are queued for Sessions that are away</text>\n"
    );
    for step in 0..=4 {
        let (mb, queued) = (most_mb * f64::from(step) / 4.0, most_queued * f64::from(step) / 4.0);
        let (line, column) = (y(mb), x(queued));
        let _ = writeln!(out, "<line class=\"grid\" x1=\"{left}\" x2=\"{right}\" y1=\"{line:.1}\" y2=\"{line:.1}\"/>");
        let _ = writeln!(out, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{mb:.0} MB</text>", left - 6.0, line + 4.0);
        let _ = writeln!(out, "<text x=\"{column:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>", bottom + 18.0, thousands(queued));
    }
    let _ =
        writeln!(out, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">messages queued</text>", (left + right) / 2.0, HEIGHT - 8.0);
    for (class, label, name, points) in [("bucket", "b", "in a bucket", with_bucket), ("memory", "m", "in memory", in_memory)] {
        let points = thin(points);
        let Some(last) = points.last() else { continue };
        let path: Vec<String> =
            points.iter().map(|point| format!("{:.1},{:.1}", x(point.queued as f64), y(point.rss_bytes as f64 / 1e6))).collect();
        let _ = writeln!(out, "<polyline class=\"{class}\" points=\"{}\"/>", path.join(" "));
        let (column, line) = (x(last.queued as f64) - 4.0, y(last.rss_bytes as f64 / 1e6) - 8.0);
        let mb = last.rss_bytes as f64 / 1e6;
        let _ = writeln!(out, "<text class=\"{label}\" x=\"{column:.1}\" y=\"{line:.1}\" text-anchor=\"end\">{name}: {mb:.0} MB</text>");
    }
    out.push_str("</svg>\n");
    out
}

/// The next of 1, 2, 4, 5, 8, 10 times a power of ten.
fn round_up(value: f64) -> f64 {
    let magnitude = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 4.0, 5.0, 8.0, 10.0];
    steps.iter().map(|step| step * magnitude).find(|step| *step >= value).unwrap_or(value)
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_is_thinned_to_the_most_of_each_step() {
        let points: Vec<Point> = (0..10_000).map(|at| Point { queued: at, rss_bytes: at % 100 }).collect();
        let thinned = thin(&points);
        assert!((POINTS_MAX..=POINTS_MAX + 1).contains(&thinned.len()), "{}", thinned.len());
        assert_eq!(thinned.last().map(|point| point.queued), Some(9_999));
        assert!(thinned[1].rss_bytes > 90);
        assert!(thin(&[]).is_empty());
    }

    #[test]
    fn picture_names_both_lines_and_fits_its_field() {
        let line = |mb: u64| [Point { queued: 0, rss_bytes: 30_000_000 }, Point { queued: 1_000_000, rss_bytes: mb * 1_000_000 }];
        let picture = svg(&line(90), &line(410));
        assert!(
            picture.contains("in a bucket: 90 MB") && picture.contains("in memory: 410 MB") && picture.contains(">1,000,000<"),
            "{picture}"
        );
        assert_eq!((round_up(410.0), round_up(1_000_000.0), round_up(1.5)), (500.0, 1_000_000.0, 2.0));
    }
}
