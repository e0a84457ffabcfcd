//! Which backups are kept: so many of the last, of days, weeks, months and years.

use serde::{Deserialize, Serialize};

use crate::units::Span;

/// How many backups of each kind are kept. Of a day, an ISO week, a month or a year (in UTC) its newest backup counts,
/// and periods without a backup do not: `daily: 7` keeps one backup of each of the last seven days that have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct Keep {
    /// The last ones.
    pub last: u32,
    /// Days.
    pub daily: u32,
    /// ISO weeks, which begin on Monday.
    pub weekly: u32,
    /// Months.
    pub monthly: u32,
    /// Years.
    pub yearly: u32,
}

impl Default for Keep {
    fn default() -> Self {
        Self { last: 3, daily: 7, weekly: 5, monthly: 12, yearly: 0 }
    }
}

/// As it is written: what is left out is 0.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    last: u32,
    #[serde(default)]
    daily: u32,
    #[serde(default)]
    weekly: u32,
    #[serde(default)]
    monthly: u32,
    #[serde(default)]
    yearly: u32,
}

impl TryFrom<Written> for Keep {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { last, daily, weekly, monthly, yearly } = written;
        if [last, daily, weekly, monthly, yearly] == [0; 5] {
            let message = "`keep` keeps nothing; set at least one of last, daily, weekly, monthly and yearly above 0";
            return Err(message.into());
        }
        Ok(Self { last, daily, weekly, monthly, yearly })
    }
}

/// 1h to 365d.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Span", into = "Span")]
pub struct Grace(Span);

impl Grace {
    /// The value.
    #[must_use]
    pub const fn get(self) -> Span {
        self.0
    }
}

impl Default for Grace {
    fn default() -> Self {
        Self(Span::hours(48))
    }
}

impl TryFrom<Span> for Grace {
    type Error = String;

    fn try_from(span: Span) -> Result<Self, String> {
        let fits = (Span::hours(1)..=Span::days(365)).contains(&span);
        if fits { Ok(Self(span)) } else { Err(format!("`grace` is {span}; it must be from 1h to 365d")) }
    }
}

impl From<Grace> for Span {
    fn from(grace: Grace) -> Self {
        grace.0
    }
}
