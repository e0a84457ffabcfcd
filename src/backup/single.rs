//! One table taken out of a backup's database: itself, its rows, its indexes and the constraints that are its own.

use super::dump::{Entry, entries, qualified};
use super::error::BackupError;
use super::manifest::{Database, Manifest, Sequence, Table};
use super::name::{find_table, parts};

/// What of a database is restored.
pub(super) struct Part {
    pub(super) source: Database,
    /// The one schema that must be empty; `None` for the whole database.
    pub(super) schema: Option<String>,
    /// What is about a single table and is not restored.
    pub(super) left_out: Vec<String>,
}

impl Part {
    /// All of it.
    ///
    /// # Errors
    /// When the backup has no such database.
    pub(super) fn whole(manifest: &Manifest, database: &str) -> Result<Self, BackupError> {
        Ok(Self { source: manifest.database(database)?.clone(), schema: None, left_out: Vec::new() })
    }

    /// One table of it.
    ///
    /// # Errors
    /// When there is no such table, or it cannot be made alone.
    pub(super) fn single(manifest: &Manifest, database: &str, table: &str) -> Result<Self, BackupError> {
        let source = manifest.database(database)?;
        let table = find_table(&manifest.id, source, table)?;
        let (alone, left_out) = only(source, table)?;
        Ok(Self { source: alone, schema: Some(table.name.schema.clone()), left_out })
    }
}

/// The part of the database that is this table, and what of it is left out because it is about something else too.
///
/// # Errors
/// [`BackupError::NotAlone`] when the schema in the backup does not say how the table is made.
fn only(source: &Database, table: &Table) -> Result<(Database, Vec<String>), BackupError> {
    let (preamble, before) = entries(&source.pre_data);
    let (preamble_after, after) = entries(&source.post_data);
    let own = Own::find(&before, table).ok_or_else(|| BackupError::NotAlone { table: table.name.to_string() })?;
    let (mut pre, mut post, mut left_out) = (vec![preamble.to_owned()], vec![preamble_after.to_owned()], Vec::new());
    let mut sequences: Vec<Sequence> = Vec::new();
    for entry in &before {
        if own.makes(entry) {
            // The schema may be there already, empty.
            pre.push(format!(
                "{}\n",
                entry.sql.replacen(
                    "CREATE SCHEMA ",
                    "CREATE SCHEMA IF NOT EXISTS ",
                    usize::from(entry.kind == "SCHEMA")
                )
            ));
            // A sequence of the table: its position comes along.
            if entry.kind == "SEQUENCE" {
                let is = |sequence: &&Sequence| {
                    sequence.name.schema == table.name.schema && sequence.name.name == entry.name
                };
                sequences.extend(source.sequences.iter().filter(is).cloned());
            }
        } else if own.is_about(entry) {
            left_out.push(describe(entry));
        }
    }
    for entry in &after {
        if own.adds(entry) {
            post.push(entry.whole.to_owned());
        } else if own.is_about(entry) {
            left_out.push(describe(entry));
        }
    }
    let alone = Database {
        pre_data: pre.join("\n"),
        post_data: post.join("\n"),
        sequences,
        materialized_views: Vec::new(),
        tables: vec![table.clone()],
        ..source.clone()
    };
    Ok((alone, left_out))
}

fn describe(entry: &Entry<'_>) -> String {
    format!("{} {}", entry.kind.to_lowercase(), entry.name)
}

/// How the dump speaks of the table and of what is its own.
struct Own<'d> {
    table: &'d str,
    schema: Option<Entry<'d>>,
    /// Sequences that a column owns, as the dump writes their names.
    sequences: Vec<&'d str>,
}

impl<'d> Own<'d> {
    fn find(before: &[Entry<'d>], table: &Table) -> Option<Self> {
        let name = |entry: &Entry<'d>| {
            let rest =
                entry.sql.strip_prefix("CREATE TABLE ").or_else(|| entry.sql.strip_prefix("CREATE UNLOGGED TABLE "))?;
            qualified(rest)
        };
        let wanted = [table.name.schema.as_str(), table.name.name.as_str()];
        let tables = before.iter().filter(|entry| entry.kind == "TABLE").filter_map(name);
        let own = tables.into_iter().find(|name| parts(name).is_some_and(|parts| parts == wanted))?;
        let schema = before.iter().find(|entry| entry.kind == "SCHEMA" && entry.name == table.name.schema).copied();
        let owned = |entry: &Entry<'d>| {
            let rest = entry.sql.strip_prefix("ALTER SEQUENCE ")?;
            let sequence = qualified(rest)?;
            let by = rest.get(sequence.len()..)?.trim_start().strip_prefix("OWNED BY ")?;
            column_of(by, own).then_some(sequence)
        };
        let sequences = before.iter().filter(|entry| entry.kind == "SEQUENCE OWNED BY").filter_map(owned).collect();
        Some(Self { table: own, schema, sequences })
    }

    /// Belongs to what is made before the rows.
    fn makes(&self, entry: &Entry<'_>) -> bool {
        let after = |words: &str| entry.sql.strip_prefix(words).and_then(qualified);
        match entry.kind {
            "SCHEMA" => self.schema.is_some_and(|schema| schema == *entry),
            "TABLE" => [after("CREATE TABLE "), after("CREATE UNLOGGED TABLE ")].contains(&Some(self.table)),
            "DEFAULT" => self.alters(entry),
            "SEQUENCE" | "SEQUENCE OWNED BY" => {
                let sequence = after("CREATE SEQUENCE ").or_else(|| after("ALTER SEQUENCE "));
                // An identity column's is made with the column.
                sequence.is_some_and(|sequence| self.sequences.contains(&sequence)) || self.alters(entry)
            }
            "COMMENT" => {
                let column = entry.sql.strip_prefix("COMMENT ON COLUMN ").is_some_and(|of| column_of(of, self.table));
                column || after("COMMENT ON TABLE ") == Some(self.table)
            }
            _ => false,
        }
    }

    /// Belongs to what is made after the rows, and is the table's alone.
    fn adds(&self, entry: &Entry<'_>) -> bool {
        match entry.kind {
            "CONSTRAINT" | "CHECK CONSTRAINT" | "DEFAULT" => self.alters(entry),
            "INDEX" => self.indexes(entry),
            _ => false,
        }
    }

    fn alters(&self, entry: &Entry<'_>) -> bool {
        let rest = entry.sql.strip_prefix("ALTER TABLE ONLY ").or_else(|| entry.sql.strip_prefix("ALTER TABLE "));
        rest.and_then(qualified) == Some(self.table)
    }

    fn indexes(&self, entry: &Entry<'_>) -> bool {
        let rest =
            ["CREATE INDEX ", "CREATE UNIQUE INDEX "].into_iter().find_map(|words| entry.sql.strip_prefix(words));
        let Some(rest) = rest else { return false };
        let Some(after) = qualified(rest).and_then(|index| rest.get(index.len()..)) else { return false };
        let of = after.strip_prefix(" ON ONLY ").or_else(|| after.strip_prefix(" ON "));
        of.and_then(qualified) == Some(self.table)
    }

    /// Is the table's too, but not its alone: it speaks of the table by its whole name.
    fn is_about(&self, entry: &Entry<'_>) -> bool {
        const KINDS: [&str; 7] =
            ["TRIGGER", "RULE", "POLICY", "ROW SECURITY", "TABLE ATTACH", "INDEX ATTACH", "STATISTICS"];
        if entry.kind == "FK CONSTRAINT" {
            return self.alters(entry);
        }
        if !KINDS.contains(&entry.kind) {
            return false;
        }
        let mut from = 0;
        while let Some(at) = entry.sql.get(from..).and_then(|rest| rest.find(self.table)) {
            let (begin, end) = (from + at, from + at + self.table.len());
            let is_inside = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '"' | '.');
            let before = entry.sql.get(..begin).and_then(|text| text.chars().next_back());
            let after = entry.sql.get(end..).and_then(|text| text.chars().next());
            if !before.is_some_and(is_inside) && !after.is_some_and(|c| is_inside(c) && c != '.') {
                return true;
            }
            from = end;
        }
        false
    }
}

/// Whether `table.column` begins the text.
fn column_of(text: &str, table: &str) -> bool {
    qualified(text).and_then(|name| name.strip_prefix(table)).is_some_and(|rest| rest.starts_with('.'))
}
