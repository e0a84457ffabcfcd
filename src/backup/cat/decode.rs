//! Values in their binary form, as the text that the server would write under the settings that a backup reads with:
//! ISO dates, UTC, hexadecimal bytea. The forms are those of the types' send functions in PostgreSQL's source.

use super::float;
use crate::backup::rows::RowsError;

/// How the values of a column become text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::backup) enum Decoder {
    Int2,
    Int4,
    Int8,
    Oid,
    Bool,
    Text,
    Jsonb,
    Bytea,
    Uuid,
    Real,
    Double,
    Numeric,
    Date,
    Timestamp { zoned: bool },
}

impl Decoder {
    /// For a type as `format_type` writes it; `None` for one that is not decoded.
    pub(in crate::backup) fn of(type_name: &str) -> Option<Self> {
        let base = without_modifier(type_name);
        Some(match base.as_str() {
            "smallint" => Self::Int2,
            "integer" => Self::Int4,
            "bigint" => Self::Int8,
            "oid" => Self::Oid,
            "boolean" => Self::Bool,
            "text" | "character varying" | "character" | "bpchar" | "name" | "json" | "xml" => Self::Text,
            "jsonb" => Self::Jsonb,
            "bytea" => Self::Bytea,
            "uuid" => Self::Uuid,
            "real" => Self::Real,
            "double precision" => Self::Double,
            "numeric" => Self::Numeric,
            "date" => Self::Date,
            "timestamp without time zone" => Self::Timestamp { zoned: false },
            "timestamp with time zone" => Self::Timestamp { zoned: true },
            _ => return None,
        })
    }

    /// The text of a value.
    ///
    /// # Errors
    /// When it has not the length that its type has.
    pub(in crate::backup) fn text(self, value: &[u8]) -> Result<Vec<u8>, RowsError> {
        Ok(match self {
            Self::Int2 => i16::from_be_bytes(exactly(value)?).to_string().into(),
            Self::Int4 => i32::from_be_bytes(exactly(value)?).to_string().into(),
            Self::Int8 => i64::from_be_bytes(exactly(value)?).to_string().into(),
            Self::Oid => u32::from_be_bytes(exactly(value)?).to_string().into(),
            Self::Bool => if exactly::<1>(value)? == [0] { b"f" } else { b"t" }.to_vec(),
            Self::Text => value.to_vec(),
            // Its version, 1, goes before the text.
            Self::Jsonb => value.strip_prefix(&[1]).ok_or(RowsError::FieldLength)?.to_vec(),
            Self::Bytea => format!("\\x{}", hex::encode(value)).into(),
            Self::Uuid => uuid::Uuid::from_bytes(exactly(value)?).to_string().into(),
            Self::Real => float::single(f32::from_be_bytes(exactly(value)?)).into(),
            Self::Double => float::double(f64::from_be_bytes(exactly(value)?)).into(),
            Self::Numeric => numeric(value)?.into(),
            Self::Date => date(i32::from_be_bytes(exactly(value)?)).into(),
            Self::Timestamp { zoned } => timestamp(i64::from_be_bytes(exactly(value)?), zoned).into(),
        })
    }
}

/// `character varying(16)` is `character varying`, `timestamp(3) with time zone` is `timestamp with time zone`.
fn without_modifier(type_name: &str) -> String {
    match (type_name.find('('), type_name.find(')')) {
        (Some(from), Some(to)) if from < to => {
            let (before, after) =
                (type_name.get(..from).unwrap_or_default(), type_name.get(to + 1..).unwrap_or_default());
            format!("{before}{after}")
        }
        _ => type_name.to_owned(),
    }
}

fn exactly<const N: usize>(value: &[u8]) -> Result<[u8; N], RowsError> {
    value.try_into().map_err(|_| RowsError::FieldLength)
}

/// The fields of the row at the beginning of `rest`, and what comes after it.
///
/// # Errors
/// When it is not a whole row.
pub(in crate::backup) fn row<'r>(rest: &'r [u8], fields: &mut Vec<Option<&'r [u8]>>) -> Result<&'r [u8], RowsError> {
    fields.clear();
    let (count, mut rest) = rest.split_first_chunk::<2>().ok_or(RowsError::Truncated)?;
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<4>().ok_or(RowsError::Truncated)?;
        rest = after;
        match i32::from_be_bytes(*length) {
            -1 => fields.push(None),
            length => {
                let length = usize::try_from(length).map_err(|_| RowsError::FieldLength)?;
                let (value, after) = rest.split_at_checked(length).ok_or(RowsError::Truncated)?;
                fields.push(Some(value));
                rest = after;
            }
        }
    }
    Ok(rest)
}

/// Digits to the base of 10000, the place of the first one, the sign, and how many decimals are shown.
fn numeric(value: &[u8]) -> Result<String, RowsError> {
    let (head, digits) = value.split_first_chunk::<8>().ok_or(RowsError::FieldLength)?;
    let [a, b, c, d, e, f, g, h] = *head;
    let count = usize::from(u16::from_be_bytes([a, b]));
    let (weight, sign) = (i32::from(i16::from_be_bytes([c, d])), u16::from_be_bytes([e, f]));
    let decimals = usize::from(u16::from_be_bytes([g, h]));
    match sign {
        0xC000 => return Ok("NaN".into()),
        0xD000 => return Ok("Infinity".into()),
        0xF000 => return Ok("-Infinity".into()),
        _ => {}
    }
    if digits.len() != count * 2 {
        return Err(RowsError::FieldLength);
    }
    let groups: Vec<u16> =
        digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |sum, b| (sum << 8) | u16::from(*b))).collect();
    // The group for 10000 to this power; those that are not stored are zero.
    let group = |power: i32| usize::try_from(weight - power).ok().and_then(|at| groups.get(at)).copied().unwrap_or(0);
    let mut text = if sign == 0x4000 { "-".to_owned() } else { String::new() };
    let whole: String = (0..=weight.max(0)).rev().map(|power| format!("{:04}", group(power))).collect();
    match whole.trim_start_matches('0') {
        "" => text.push('0'),
        whole => text.push_str(whole),
    }
    if decimals > 0 {
        let groups = i32::try_from(decimals.div_ceil(4)).unwrap_or(i32::MAX);
        let fraction: String = (1..=groups).map(|power| format!("{:04}", group(-power))).collect();
        text.push('.');
        text.extend(fraction.chars().take(decimals));
    }
    Ok(text)
}

/// Days between 1970 and 2000, from which PostgreSQL counts.
const EPOCH: i64 = 10_957;
const MICROS_A_DAY: i64 = 86_400_000_000;

fn date(days: i32) -> String {
    match days {
        i32::MAX => "infinity".into(),
        i32::MIN => "-infinity".into(),
        days => {
            let (date, is_before) = civil(i64::from(days));
            format!("{date}{}", if is_before { " BC" } else { "" })
        }
    }
}

fn timestamp(micros: i64, zoned: bool) -> String {
    match micros {
        i64::MAX => return "infinity".into(),
        i64::MIN => return "-infinity".into(),
        _ => {}
    }
    let (date, is_before) = civil(micros.div_euclid(MICROS_A_DAY));
    let of_day = micros.rem_euclid(MICROS_A_DAY);
    let (seconds, fraction) = (of_day / 1_000_000, of_day % 1_000_000);
    let mut text = format!("{date} {:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if fraction > 0 {
        text.push('.');
        text.push_str(format!("{fraction:06}").trim_end_matches('0'));
    }
    if zoned {
        text.push_str("+00");
    }
    if is_before {
        text.push_str(" BC");
    }
    text
}

/// The date so many days after 2000-01-01, and whether its year is before Christ. The calendar library of this crate
/// ends at the year 9999, PostgreSQL's at 294276. (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".)
fn civil(days: i64) -> (String, bool) {
    let shifted = days + EPOCH + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let is_before = year <= 0;
    let year = if is_before { 1 - year } else { year };
    (format!("{year:04}-{month:02}-{day:02}"), is_before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_read_as_the_server_writes_them() {
        assert_eq!(timestamp(0, false), "2000-01-01 00:00:00");
        assert_eq!(timestamp(-1, true), "1999-12-31 23:59:59.999999+00");
        assert_eq!(timestamp(500_000, false), "2000-01-01 00:00:00.5");
        assert_eq!(date(59), "2000-02-29");
        assert_eq!(date(-730_120), "0001-12-31 BC");
        assert_eq!(date(i32::MAX), "infinity");
    }

    #[test]
    fn a_value_of_another_length_is_no_value() {
        for decoder in [Decoder::Int4, Decoder::Uuid, Decoder::Numeric, Decoder::Date, Decoder::Jsonb] {
            assert!(decoder.text(&[0; 3]).is_err(), "{decoder:?}");
        }
        assert_eq!(Decoder::of("character varying(255)"), Some(Decoder::Text));
        assert_eq!(Decoder::of("timestamp(3) with time zone"), Some(Decoder::Timestamp { zoned: true }));
        assert_eq!(Decoder::of("integer[]"), None);
        assert_eq!(Decoder::of("public.mood"), None);
    }
}
