//! Cron expressions, in UTC.

use std::fmt;

use chrono::{DateTime, Utc};
use croner::Cron;
use croner::parser::{CronParser, Seconds};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

/// A cron expression of five fields, or of six with seconds first, always in UTC. When both the day of the month and
/// the day of the week are restricted, both must match: that is how the scheduler underneath reads it.
#[derive(Debug, Clone)]
pub struct CronSchedule {
    written: String,
    cron: Cron,
}

impl CronSchedule {
    /// Parses an expression.
    ///
    /// # Errors
    /// With what is wrong and an example.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fields = text.split_whitespace().count();
        let six = match fields {
            5 => format!("0 {}", text.trim()),
            6 => text.trim().to_owned(),
            1 if text.trim().starts_with('@') => {
                return Err(format!(
                    "`{text}` is not a cron expression; write the five fields, for example `0 2 * * *` for 02:00 UTC every day"
                ));
            }
            n => {
                return Err(format!(
                    "`{text}` has {n} fields; write five (minute hour day month weekday), or six with seconds first: \
                     `0 2 * * *` is 02:00 UTC every day"
                ));
            }
        };
        // The scheduler's own parser is set up the same way, so what is shown here is when it fires.
        let parser = CronParser::builder().seconds(Seconds::Required).dom_and_dow(true).build();
        let cron = parser.parse(&six).map_err(|error| {
            format!(
                "`{text}` is not a cron expression: {}; write the fields as `0 2 * * *`, which is 02:00 UTC every day",
                lower(&error.to_string())
            )
        })?;
        let schedule = Self { written: text.trim().to_owned(), cron };
        if schedule.next_after(Timestamp::now()).is_none() {
            return Err(format!("`{text}` never comes; write a day that its months have"));
        }
        Ok(schedule)
    }

    /// The expression with seconds, as the scheduler takes it.
    #[must_use]
    pub fn with_seconds(&self) -> String {
        if self.written.split_whitespace().count() == 5 { format!("0 {}", self.written) } else { self.written.clone() }
    }

    /// The first instant after `now` at which it is due.
    #[must_use]
    pub fn next_after(&self, now: Timestamp) -> Option<Timestamp> {
        let next = self.cron.find_next_occurrence(&to_chrono(now)?, false).ok()?;
        Timestamp::from_second(next.timestamp()).ok()
    }

    /// The last instant at or before `now` at which it was due.
    #[must_use]
    pub fn last_before(&self, now: Timestamp) -> Option<Timestamp> {
        let last = self.cron.find_previous_occurrence(&to_chrono(now)?, true).ok()?;
        Timestamp::from_second(last.timestamp()).ok()
    }
}

/// The parser's words as a part of a sentence.
fn lower(text: &str) -> String {
    let text = text.strip_prefix("Component error: ").unwrap_or(text).trim_end_matches('.');
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

fn to_chrono(at: Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(at.as_second(), 0)
}

impl fmt::Display for CronSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl PartialEq for CronSchedule {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl<'de> Deserialize<'de> for CronSchedule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn five_fields_fire_on_the_minute_and_in_utc() {
        let cron = CronSchedule::parse("30 2 * * *").unwrap();
        assert_eq!(cron.next_after(at("2026-03-29T01:00:00Z")), Some(at("2026-03-29T02:30:00Z")));
        assert_eq!(cron.last_before(at("2026-03-29T01:00:00Z")), Some(at("2026-03-28T02:30:00Z")));
        assert_eq!(cron.last_before(at("2026-03-29T02:30:00Z")), Some(at("2026-03-29T02:30:00Z")));
    }

    #[test]
    fn what_is_no_expression_says_so() {
        for text in ["", "* * *", "@daily", "61 * * * *", "a b c d e", "0 0 30 2 *", "* * * * * * *"] {
            assert!(CronSchedule::parse(text).is_err(), "{text}");
        }
    }
}
