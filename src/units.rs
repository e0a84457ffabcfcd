//! Durations and sizes as people write them in configuration: `30d`, `12h`, `50gb`.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use jiff::SignedDuration;

use crate::text::text_serde;

/// A length of time in whole milliseconds, written as a number and a unit: `500ms`, `90s`, `15m`, `12h`, `30d`.
/// A day is 24 hours. Displayed in the largest unit that loses nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(u64);

const SPAN_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Span {
    /// Of so many days.
    #[must_use]
    pub const fn days(days: u64) -> Self {
        Self(days * 86_400_000)
    }

    /// Of so many hours.
    #[must_use]
    pub const fn hours(hours: u64) -> Self {
        Self(hours * 3_600_000)
    }

    /// Of so many minutes.
    #[must_use]
    pub const fn minutes(minutes: u64) -> Self {
        Self(minutes * 60_000)
    }

    /// Of so many seconds.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(seconds * 1_000)
    }

    /// Of so many milliseconds.
    #[must_use]
    pub const fn milliseconds(milliseconds: u64) -> Self {
        Self(milliseconds)
    }

    /// In milliseconds.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// In whole seconds, rounded down.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        Self::from_millis(span.0)
    }
}

/// The farthest that can be told, for a span beyond it.
impl From<Span> for SignedDuration {
    fn from(span: Span) -> Self {
        Self::try_from(Duration::from(span)).unwrap_or(Self::MAX)
    }
}

impl From<Duration> for Span {
    fn from(duration: Duration) -> Self {
        Self(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }
}

/// How long ago that was, in whole milliseconds.
#[must_use]
pub fn millis_since(clock: Instant) -> u64 {
    Span::from(clock.elapsed()).as_millis()
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let (unit, size) = SPAN_UNITS.into_iter().find(|(_, size)| self.0.is_multiple_of(*size)).unwrap_or(("ms", 1));
        write!(f, "{}{unit}", self.0 / size)
    }
}

/// A measured time in milliseconds, for people: `940ms`, `10.6s`, `1m 12s`, `2h 5m`.
#[must_use]
pub fn took(milliseconds: u64) -> String {
    let (seconds, tenth) = (milliseconds / 1_000, milliseconds % 1_000 / 100);
    match seconds {
        0 => Span::milliseconds(milliseconds).to_string(),
        1..=59 if tenth == 0 => format!("{seconds}s"),
        1..=59 => format!("{seconds}.{tenth}s"),
        60..=3_599 => format!("{}m {}s", seconds / 60, seconds % 60),
        _ => format!("{}h {}m", seconds / 3_600, seconds % 3_600 / 60),
    }
}

/// Why a duration or size was not understood; the text says what would be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a number followed by a known unit.
    #[error("`{0}` is not a duration; write a whole number and a unit (ms, s, m, h, d), such as `30d` or `12h`")]
    Span(String),
    /// Not a number followed by a known unit.
    #[error("`{0}` is not a size; write a whole number and a unit (b, kb, mb, gb, tb), such as `50gb`")]
    Size(String),
    /// More than fits.
    #[error("`{0}` is too large; a duration is a thousand years at most, a size 16 million terabytes")]
    TooLarge(String),
}

fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let number = text.get(..end)?.parse().ok()?;
    Some((number, text.get(end..)?.trim_start()))
}

fn all_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().take_while(u8::is_ascii_digit).count() > 19
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let trimmed = text.trim();
        if all_digits(trimmed) {
            return Err(UnitError::TooLarge(text.into()));
        }
        let (number, unit) = split(trimmed).ok_or_else(|| UnitError::Span(text.into()))?;
        let (_, size) =
            SPAN_UNITS.into_iter().find(|(name, _)| *name == unit).ok_or_else(|| UnitError::Span(text.into()))?;
        // A thousand years is beyond every system here, and keeps later date arithmetic from overflowing.
        let millis = number.checked_mul(size).filter(|m| *m <= 365_000 * 86_400_000);
        millis.map(Self).ok_or_else(|| UnitError::TooLarge(text.into()))
    }
}

/// A number of bytes, written with a binary unit as Elasticsearch does: `1kb` is 1024 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(u64);

const SIZE_UNITS: [(&str, u64); 5] = [("tb", 1 << 40), ("gb", 1 << 30), ("mb", 1 << 20), ("kb", 1 << 10), ("b", 1)];

impl Size {
    /// Of so many bytes.
    #[must_use]
    pub const fn bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// In bytes.
    #[must_use]
    pub const fn as_bytes(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0b");
        }
        let (unit, size) = SIZE_UNITS.into_iter().find(|(_, size)| self.0.is_multiple_of(*size)).unwrap_or(("b", 1));
        write!(f, "{}{unit}", self.0 / size)
    }
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let trimmed = text.trim().to_ascii_lowercase();
        if all_digits(&trimmed) {
            return Err(UnitError::TooLarge(text.into()));
        }
        let (number, unit) = split(&trimmed).ok_or_else(|| UnitError::Size(text.into()))?;
        let (_, size) =
            SIZE_UNITS.into_iter().find(|(name, _)| *name == unit).ok_or_else(|| UnitError::Size(text.into()))?;
        number.checked_mul(size).map(Self).ok_or_else(|| UnitError::TooLarge(text.into()))
    }
}

/// Bytes for people: `1.3 GiB`.
#[must_use]
pub fn human_bytes(bytes: u64) -> String {
    const NAMES: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    #[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = bytes as f64;
    let mut index = 0;
    while value >= 1024.0 && index < NAMES.len() - 1 {
        value /= 1024.0;
        index += 1;
    }
    if index == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", NAMES[index]) }
}

/// A count with its noun: `1 change`, `2 changes`.
#[must_use]
pub fn counted<N: fmt::Display + PartialEq + From<u8>>(count: N, one: &str, many: &str) -> String {
    format!("{count} {}", if count == N::from(1) { one } else { many })
}

text_serde!(Span);
text_serde!(Size);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spans_read_as_written_and_print_in_the_largest_exact_unit() {
        let check = |text: &str, shown: &str| {
            assert_eq!(text.parse::<Span>().map(|s| s.to_string()), Ok(shown.to_owned()), "{text}");
        };
        check("30d", "30d");
        check("24h", "1d");
        check("90m", "90m");
        check("1500ms", "1500ms");
        check("0s", "0s");
    }

    #[test]
    fn what_is_not_a_span_says_so() {
        for text in ["", "30", "d", "-1d", "1.5h", "30 days", "1w", "99999999999999999999d", "18446744073709551615d"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_measured_time_is_told_as_exactly_as_it_matters() {
        let check = |milliseconds: u64, shown: &str| assert_eq!(took(milliseconds), shown);
        check(0, "0s");
        check(940, "940ms");
        check(2_000, "2s");
        check(10_612, "10.6s");
        check(59_999, "59.9s");
        check(72_400, "1m 12s");
        check(7_530_000, "2h 5m");
    }

    #[test]
    fn sizes_are_binary() {
        assert_eq!("50gb".parse::<Size>().map(Size::as_bytes), Ok(50 << 30));
        assert_eq!("1KB".parse::<Size>().map(Size::as_bytes), Ok(1024));
        assert!("50g".parse::<Size>().is_err());
        assert_eq!(human_bytes(1_395_864_371), "1.3 GiB");
        assert_eq!(human_bytes(17), "17 B");
    }

    proptest! {
        #[test]
        fn a_printed_span_reads_back(millis in 0u64..365_000 * 86_400_000) {
            let span = Span(millis);
            prop_assert_eq!(span.to_string().parse::<Span>(), Ok(span));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = text.parse::<Span>();
            let _ = text.parse::<Size>();
        }
    }
}
