//! `[bucket.snapshots]`: snapshots that a broker takes by itself, and how many of them it keeps.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When, and how many stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SnapshotsConfig {
    /// When the broker takes a snapshot, as cron and Kubernetes write it, in UTC: `"0 3 * * *"` is each night at three, `"@hourly"` each hour. None by default: a snapshot keeps what was deleted since, which costs space. A time at which no broker serves is not made up for.
    #[schemars(with = "Option<String>")]
    pub schedule: Option<Schedule>,
    /// Scheduled snapshots that stay; older ones are deleted when there is a new one. 7 are a week of nights. Others stay until somebody deletes them.
    #[schemars(range(min = 1, max = 1000))]
    pub retain: u32,
}

impl Default for SnapshotsConfig {
    fn default() -> Self {
        Self { schedule: None, retain: 7 }
    }
}

/// Times that come again: five fields, minute, hour, day of the month, month, day of the week, or a name such as `@daily`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Schedule {
    text: String,
    cron: Cron,
}

impl Schedule {
    /// The first time after `now`, both in milliseconds since 1970; `None`: there is none, as for the 30th of February.
    pub fn after(&self, now_ms: u64) -> Option<u64> {
        let now = DateTime::<Utc>::from_timestamp_millis(i64::try_from(now_ms).ok()?)?;
        let next = self.cron.find_next_occurrence(&now, false).ok()?;
        u64::try_from(next.timestamp_millis()).ok()
    }
}

impl FromStr for Schedule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(text).map_err(|error| format!("{text:?} is no schedule such as \"0 3 * * *\": {error}"))?;
        let schedule = Self { text: text.to_owned(), cron };
        match schedule.after(0) {
            Some(_) => Ok(schedule),
            None => Err(format!("{text:?} never comes")),
        }
    }
}

impl TryFrom<String> for Schedule {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Schedule> for String {
    fn from(schedule: Schedule) -> Self {
        schedule.text
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-23 10:15:00.
    const NOW: u64 = 1_795_428_900_000;
    const MINUTE: u64 = 60_000;

    #[test]
    fn a_schedule_is_what_cron_and_kubernetes_write() {
        for (text, minutes) in [("0 3 * * *", 1005), ("*/15 * * * *", 15), ("@hourly", 45), ("16-18 10 * 11 MON", 1), ("@daily", 825)] {
            let schedule: Schedule = text.parse().unwrap();
            assert_eq!(schedule.after(NOW), Some(NOW + minutes * MINUTE), "{text}");
            assert_eq!(schedule.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_the_reason() {
        for text in ["", "daily", "0 3 * *", "61 3 * * *", "0 0 3 * * *", "0 0 30 2 *"] {
            assert!(text.parse::<Schedule>().is_err(), "{text}");
        }
        let error = "61 3 * * *".parse::<Schedule>().unwrap_err();
        assert!(error.contains("61 3 * * *"), "{error}");
    }

    #[test]
    fn it_stands_in_the_configuration() {
        let config: SnapshotsConfig = toml::from_str("schedule = \"0 3 * * *\"").unwrap();
        assert_eq!((config.schedule.unwrap().to_string().as_str(), config.retain), ("0 3 * * *", 7));
        assert!(toml::from_str::<SnapshotsConfig>("schedule = \"at three\"").is_err());
    }
}
