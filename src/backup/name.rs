//! Tables as a person names them.

use super::error::BackupError;
use super::manifest::{BackupId, Database, Name, Table};
use crate::document::distance;

/// Names that are suggested.
const SUGGESTED: usize = 5;

/// The table of a backup that is meant by `table`, `schema.table` or either in double quotes; the schema is `public`
/// unless said. A name without quotes is taken as written, or in lower case as PostgreSQL would.
///
/// # Errors
/// [`BackupError::BadTableName`], and [`BackupError::NoSuchTable`] with those of a similar name.
pub(super) fn find_table<'d>(id: &BackupId, database: &'d Database, text: &str) -> Result<&'d Table, BackupError> {
    let parts = parse(text).ok_or_else(|| BackupError::BadTableName(text.chars().take(200).collect()))?;
    let (schema, name) = match parts.as_slice() {
        [name] => (None, name),
        [schema, name] => (Some(schema), name),
        _ => return Err(BackupError::BadTableName(text.chars().take(200).collect())),
    };
    let public = Part { text: "public".into(), quoted: true };
    let schema = schema.unwrap_or(&public);
    let is = |table: &&Table, fold: bool| {
        let Name { schema: of, name: called } = &table.name;
        schema.is(of, fold) && name.is(called, fold)
    };
    let tables = || database.tables.iter();
    let found = tables().find(|table| is(table, false)).or_else(|| tables().find(|table| is(table, true)));
    found.ok_or_else(|| BackupError::NoSuchTable {
        id: id.to_string(),
        database: database.name.clone(),
        table: format!("{}.{}", schema.text, name.text),
        near: near(&schema.text, &name.text, database),
    })
}

struct Part {
    text: String,
    quoted: bool,
}

impl Part {
    fn is(&self, name: &str, fold: bool) -> bool {
        self.text == name || (fold && !self.quoted && self.text.to_lowercase() == name)
    }
}

/// The parts of a name, quotes taken off; `None` when it is no name.
pub(super) fn parts(text: &str) -> Option<Vec<String>> {
    Some(parse(text)?.into_iter().map(|part| part.text).collect())
}

/// The parts between dots, quotes taken off; `None` when the quotes do not close or a part is empty.
fn parse(text: &str) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        let mut part = Part { text: String::new(), quoted: chars.peek() == Some(&'"') };
        if part.quoted {
            chars.next();
            loop {
                match chars.next()? {
                    '"' if chars.peek() == Some(&'"') => {
                        chars.next();
                        part.text.push('"');
                    }
                    '"' => break,
                    c => part.text.push(c),
                }
            }
        } else {
            while let Some(c) = chars.next_if(|c| *c != '.') {
                part.text.push(c);
            }
        }
        if part.text.is_empty() {
            return None;
        }
        parts.push(part);
        match chars.next() {
            None => return Some(parts),
            Some('.') => {}
            Some(_) => return None,
        }
    }
}

/// The tables whose name is a few edits away or holds what was typed, the nearest first.
fn near(schema: &str, name: &str, database: &Database) -> Vec<String> {
    let limit = (name.chars().count() / 3).max(2);
    let score = |table: &Table| {
        let there = table.name.name.to_lowercase();
        let away = distance(&name.to_lowercase(), &there);
        let holds = there.contains(&name.to_lowercase());
        let elsewhere = usize::from(table.name.schema != schema);
        (away <= limit || holds)
            .then(|| (if holds { away.min(limit) } else { away } + elsewhere, table.name.to_string()))
    };
    let mut found: Vec<(usize, String)> = database.tables.iter().filter_map(score).collect();
    found.sort();
    found.into_iter().take(SUGGESTED).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_psql_reads_them() {
        let check = |text: &str, expect: Option<&[&str]>| {
            let parts = parse(text).map(|parts| parts.into_iter().map(|part| part.text).collect::<Vec<_>>());
            assert_eq!(parts, expect.map(|parts| parts.iter().map(|part| (*part).to_owned()).collect()), "{text}");
        };
        check("t", Some(&["t"]));
        check("public.t", Some(&["public", "t"]));
        check("\"Odd \"\"schema\".\"a.b\"", Some(&["Odd \"schema", "a.b"]));
        check("a.b.c", Some(&["a", "b", "c"]));
        for broken in ["", ".", "a.", ".a", "\"a", "\"a\"b", "\"\""] {
            check(broken, None);
        }
    }
}
