//! The last section of a schema, taken apart: the indexes, which take the time and can be made beside each other while the
//! tables are read, and the rest, which is quick once they are there.

use super::dump::{Entry, entries, qualified, statements};
use super::manifest::Table;
use super::name::parts;

/// The section in its two parts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Split {
    /// What each session must be told first.
    pub(super) preamble: String,
    /// Statements that each make an index, in any order.
    pub(super) indexes: Vec<String>,
    /// Everything else, in its order, with the constraints on those indexes.
    pub(super) rest: String,
    /// Whether the rest makes something that statistics are gathered for, such as an index on an expression.
    pub(super) rest_has_statistics: bool,
}

/// What of the rest has none.
const WITHOUT_STATISTICS: [&str; 4] = ["CHECK CONSTRAINT", "COMMENT", "FK CONSTRAINT", "TRIGGER"];

/// Takes the section apart. An entry that is not plainly one index, or one key of a plain table, stays in the rest.
pub(super) fn split(post_data: &str, tables: &[Table]) -> Split {
    let (preamble, entries) = entries(post_data);
    // A function stands in this section when it needs a key; an index may then need the function.
    let in_order = entries.iter().any(|entry| entry.kind == "FUNCTION");
    let mut split = Split {
        preamble: preamble.to_owned(),
        indexes: Vec::new(),
        rest: preamble.to_owned(),
        rest_has_statistics: false,
    };
    for entry in &entries {
        if !in_order && is_index(entry, tables) {
            split.indexes.push(entry.sql.to_owned());
        } else if !in_order && let Some((index, constraint)) = key(entry, tables) {
            split.indexes.push(index);
            split.rest.push_str(&constraint);
            split.rest.push('\n');
        } else {
            split.rest.push_str(entry.whole);
            split.rest_has_statistics |= !WITHOUT_STATISTICS.contains(&entry.kind);
        }
    }
    split
}

/// That of a partitioned table (`ON ONLY`) is made of its partitions' indexes later, and takes no time. That of a
/// materialized view must wait for the view, which stands in this section itself when it needs a key.
fn is_index(entry: &Entry<'_>, tables: &[Table]) -> bool {
    let table = || {
        let makes = ["CREATE INDEX ", "CREATE UNIQUE INDEX "];
        let rest = makes.iter().find_map(|makes| entry.sql.strip_prefix(makes))?;
        let rest = rest.get(qualified(rest)?.len()..)?.trim_start().strip_prefix("ON ")?;
        qualified(rest)
    };
    entry.kind == "INDEX" && statements(entry.sql) == 1 && table().is_some_and(|table| is_plain(table, tables))
}

/// Whether a name is one of a plain table. A partitioned one has no rows and is not among these.
fn is_plain(name: &str, tables: &[Table]) -> bool {
    let is =
        |known: &[String]| tables.iter().any(|table| known == [table.name.schema.as_str(), table.name.name.as_str()]);
    parts(name).is_some_and(|known| is(&known))
}

/// The index of a primary key or unique constraint, and the constraint on that index: made as an index it keeps nobody
/// from reading the table.
fn key(entry: &Entry<'_>, tables: &[Table]) -> Option<(String, String)> {
    if entry.kind != "CONSTRAINT" || statements(entry.sql) != 1 {
        return None;
    }
    let rest = entry.sql.strip_prefix("ALTER TABLE ONLY ")?;
    let table = qualified(rest)?;
    if !is_plain(table, tables) {
        return None;
    }
    let rest = rest.get(table.len()..)?.trim_start().strip_prefix("ADD CONSTRAINT ")?;
    let name = qualified(rest)?;
    let rest = rest.get(name.len()..)?.trim_start();
    let kind = ["PRIMARY KEY", "UNIQUE"].into_iter().find(|kind| rest.starts_with(kind))?;
    let columns = rest.strip_prefix(kind)?.trim_start().strip_prefix('(')?.strip_suffix(");")?;
    // More than a list of columns, or a name that looks like more.
    if columns.contains(['(', ')']) || columns.ends_with(" WITHOUT OVERLAPS") {
        return None;
    }
    let index = format!("CREATE UNIQUE INDEX {name} ON {table} USING btree ({columns});");
    Some((index, format!("ALTER TABLE ONLY {table} ADD CONSTRAINT {name} {kind} USING INDEX {name};")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::manifest::Name;
    use crate::backup::rows::Format;

    fn table(name: &str) -> Table {
        let name = Name { schema: "public".into(), name: name.into() };
        Table {
            name,
            copy_format: Format::Binary,
            columns: vec![],
            rows: 0,
            bytes: 0,
            content: 0,
            chunks: vec![],
            tracking: None,
        }
    }

    fn entry(kind: &str, sql: &str) -> String {
        format!("--\n-- Name: x; Type: {kind}; Schema: public; Owner: -\n--\n\n{sql}\n\n")
    }

    #[test]
    fn indexes_and_keys_are_made_first_and_the_rest_keeps_its_order() {
        let dump = [
            "SET x = 1;\n".to_owned(),
            entry("CONSTRAINT", "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT t_pkey PRIMARY KEY (a, \"B c\");"),
            entry("INDEX", "CREATE INDEX i ON public.t USING btree (lower('a;b'));"),
            entry("TRIGGER", "CREATE TRIGGER g BEFORE INSERT ON public.t EXECUTE FUNCTION f();"),
        ]
        .concat();
        let split = split(&dump, &[table("t")]);
        assert_eq!(split.preamble, "SET x = 1;\n");
        assert_eq!(
            split.indexes,
            [
                "CREATE UNIQUE INDEX t_pkey ON public.t USING btree (a, \"B c\");",
                "CREATE INDEX i ON public.t USING btree (lower('a;b'));"
            ]
        );
        let constraint = "ALTER TABLE ONLY public.t ADD CONSTRAINT t_pkey PRIMARY KEY USING INDEX t_pkey;";
        let (before, after) = split.rest.split_once(constraint).unwrap();
        assert_eq!(before, "SET x = 1;\n");
        assert!(after.contains("CREATE TRIGGER g"));
        assert!(!split.rest_has_statistics);
    }

    #[test]
    fn an_index_that_may_need_a_function_of_this_section_waits() {
        let dump = [
            entry("CONSTRAINT", "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT t_pkey PRIMARY KEY (a);"),
            entry("FUNCTION", "CREATE FUNCTION public.f(a integer) RETURNS integer LANGUAGE sql IMMUTABLE RETURN a;"),
            entry("INDEX", "CREATE INDEX i ON public.t USING btree (public.f(a));"),
        ]
        .concat();
        let expected =
            Split { preamble: String::new(), indexes: vec![], rest: dump.clone(), rest_has_statistics: true };
        assert_eq!(split(&dump, &[table("t")]), expected);
    }

    #[test]
    fn what_is_more_than_an_index_stays() {
        let check = |kind: &str, sql: &str| {
            let dump = entry(kind, sql);
            let split = split(&dump, &[table("t")]);
            assert_eq!((split.indexes, split.rest.contains(sql)), (vec![], true), "{sql}");
        };
        check("INDEX", "CREATE INDEX i ON public.t USING btree (a);\n\nALTER TABLE public.t CLUSTER ON i;");
        check("INDEX", "CREATE INDEX i ON ONLY public.t USING btree (a);");
        check("INDEX", "CREATE UNIQUE INDEX i ON public.materialized USING btree (a);");
        check("CONSTRAINT", "ALTER TABLE ONLY public.parts\n    ADD CONSTRAINT p PRIMARY KEY (a);");
        check("CONSTRAINT", "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT u UNIQUE (a) DEFERRABLE;");
        check("CONSTRAINT", "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT w PRIMARY KEY (a, b WITHOUT OVERLAPS);");
        check("CONSTRAINT", "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT u UNIQUE NULLS NOT DISTINCT (a);");
        check("CONSTRAINT", "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT u UNIQUE (a) INCLUDE (b);");
        check("CONSTRAINT", "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT x EXCLUDE USING gist (a WITH &&);");
        check("CHECK CONSTRAINT", "ALTER TABLE public.t\n    ADD CONSTRAINT c CHECK ((a > 0)) NOT VALID;");
        check(
            "FK CONSTRAINT",
            "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES public.u(a);",
        );
    }
}
