//! The primary key of a row as COPY writes it.

use std::collections::BTreeMap;

use super::side::Shape;
use crate::backup::cat::decode::{self, Decoder};
use crate::backup::cat::text::unescape;
use crate::backup::rows::Format;

/// Where in a row its primary key stands.
#[derive(Debug)]
pub(super) struct Key {
    format: Format,
    /// Name, place, and how the value is shown.
    columns: Vec<(String, usize, Option<Decoder>)>,
}

impl Key {
    /// The key of these columns; `None` when one of them is not copied.
    pub(super) fn new(shape: &Shape, columns: &[String]) -> Option<Self> {
        let place = |name: &String| {
            let (place, column) = shape.columns.iter().enumerate().find(|(_, column)| column.name == *name)?;
            Some((name.clone(), place, Decoder::of(&column.type_name)))
        };
        Some(Self { format: shape.format, columns: columns.iter().map(place).collect::<Option<_>>()? })
    }

    /// The bytes of a row's key, from which [`Key::show`] reads its values again; empty for what is no row.
    pub(super) fn of(&self, row: &[u8]) -> Vec<u8> {
        let mut fields = Vec::new();
        match self.format {
            Format::Binary => drop(decode::row(row, &mut fields)),
            Format::Text => {
                let line = row.strip_suffix(b"\n").unwrap_or(row);
                fields.extend(line.split(|byte| *byte == b'\t').map(Some));
            }
        }
        let mut key = Vec::new();
        for (_, place, _) in &self.columns {
            let field = fields.get(*place).copied().flatten().unwrap_or_default();
            key.extend(u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
            key.extend(field);
        }
        key
    }

    /// The key's values by column; what is not decoded is shown as hexadecimal digits.
    pub(super) fn show(&self, mut key: &[u8]) -> BTreeMap<String, String> {
        let mut values = BTreeMap::new();
        for (name, _, decoder) in &self.columns {
            let Some((length, rest)) = key.split_first_chunk::<4>() else { break };
            let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
            let Some((value, rest)) = rest.split_at_checked(length) else { break };
            key = rest;
            let text = match self.format {
                Format::Text => unescape(value),
                Format::Binary => decoder.and_then(|decoder| decoder.text(value).ok()),
            };
            let text = text.and_then(|text| String::from_utf8(text).ok());
            values.insert(name.clone(), text.unwrap_or_else(|| hex::encode(value)));
        }
        values
    }
}
