//! What the requests of a broker cost in a month, at the list prices of Amazon S3 Standard in us-east-1.

use std::fmt::Write;

use super::results::Results;

/// US dollars for a million of PUT, POST, COPY or LIST.
const PUT_USD: f64 = 5.0;
/// For a million of GET or HEAD.
const GET_USD: f64 = 0.40;
/// For a GB stored for a month.
const GB_USD: f64 = 0.023;
/// 365 / 12 days.
const SECONDS_OF_MONTH: f64 = 2_628_000.0;

/// Dollars a month: PUT and LIST a second, GET and HEAD a second, bytes stored.
fn monthly(puts: f64, gets: f64, bytes: f64) -> (f64, f64, f64) {
    (puts * SECONDS_OF_MONTH / 1e6 * PUT_USD, gets * SECONDS_OF_MONTH / 1e6 * GET_USD, bytes / 1e9 * GB_USD)
}

/// The table; None while one of its rows was not measured.
pub fn table(results: &Results) -> Option<String> {
    let mut out = String::from(
        "| load | PUT and LIST | GET and HEAD | stored | PUT and LIST a month | GET and HEAD a month | storage a month | together |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for (row, how) in [("idle", ""), ("cost-1k", ""), ("cost-1k-250ms", ", a flush each 250 ms"), ("cost-50k", "")] {
        let figure = |name| results.median(row, name);
        // As many as there were, which on a busy machine are fewer than were wanted.
        let load = figure("messages").map_or("idle, 16 shards".to_owned(), |messages| format!("{messages:.0} msg/s{how}"));
        let (puts, gets, stored) = (figure("PUT and LIST")?, figure("GET and HEAD")?, figure("stored").unwrap_or(0.0));
        let (put_usd, get_usd, stored_usd) = monthly(puts, gets, stored * 1e6);
        let _ = writeln!(
            out,
            "| {load} | {puts:.1}/s | {gets:.1}/s | {stored:.0} MB | ${put_usd:.2} | ${get_usd:.2} | ${stored_usd:.2} | **${:.2}** |",
            put_usd + get_usd + stored_usd
        );
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_put_a_second_costs_thirteen_dollars() {
        let (puts, gets, stored) = monthly(1.0, 1.0, 100e9);
        assert!((puts - 13.14).abs() < 0.01 && (gets - 1.05).abs() < 0.01 && (stored - 2.30).abs() < 0.01);
    }

    #[test]
    fn there_is_no_table_without_all_of_its_rows() {
        assert_eq!(table(&Results::default()), None);
    }
}
