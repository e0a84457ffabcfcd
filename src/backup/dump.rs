//! The schema that `pg_dump` wrote, taken apart into its entries. Each begins with a comment that names it:
//! `-- Name: t; Type: TABLE; Schema: public; Owner: -`.

/// One entry of a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry<'d> {
    /// `TABLE`, `CONSTRAINT`, `FK CONSTRAINT`, `INDEX` and so on.
    pub(super) kind: &'d str,
    /// Its name; for what belongs to a table often `table name`.
    pub(super) name: &'d str,
    /// The statements.
    pub(super) sql: &'d str,
    /// The same with the comment before them.
    pub(super) whole: &'d str,
}

const HEADER: &str = "--\n-- Name: ";

/// What stands before the first entry, and the entries in their order. A text, a quoted name or a function's body that
/// looks like an entry's beginning is none.
pub(super) fn entries(dump: &str) -> (&str, Vec<Entry<'_>>) {
    let begins = beginnings(dump);
    let preamble = dump.get(..begins.first().copied().unwrap_or(dump.len())).unwrap_or_default();
    let ends = begins.iter().skip(1).copied().chain([dump.len()]);
    let parts = begins.iter().zip(ends).filter_map(|(from, to)| entry(dump.get(*from..to)?));
    (preamble, parts.collect())
}

fn entry(part: &str) -> Option<Entry<'_>> {
    let (header, sql) = part.strip_prefix(HEADER)?.split_once('\n')?;
    // From the end: a name may hold anything, the rest does not.
    let (name, rest) = header.rsplit_once("; Type: ")?;
    let (kind, _) = rest.split_once("; Schema: ")?;
    Some(Entry { kind, name, sql: sql.strip_prefix("--\n").unwrap_or(sql).trim(), whole: part })
}

/// How many statements a text has, by their ends; those inside a text, a quoted name or a body are none.
pub(super) fn statements(sql: &str) -> usize {
    let (mut found, mut at) = (0, 0);
    while let Some(rest) = sql.get(at..).filter(|rest| !rest.is_empty()) {
        found += usize::from(rest.starts_with(';'));
        at += token(rest);
    }
    found
}

/// Where entries begin: at headers that stand between statements.
fn beginnings(dump: &str) -> Vec<usize> {
    let (mut found, mut at, bytes) = (Vec::new(), 0, dump.as_bytes());
    while let Some(rest) = dump.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with(HEADER) && (at == 0 || bytes.get(at - 1) == Some(&b'\n')) {
            found.push(at);
        }
        at += token(rest);
    }
    found
}

/// The length of what must not be looked into: a comment, a quoted text or name; else of one character.
fn token(rest: &str) -> usize {
    let to_end = |ending: &str, from: usize| {
        rest.get(from..).and_then(|rest| rest.find(ending)).map_or(rest.len(), |at| from + at + ending.len())
    };
    let first = rest.chars().next().map_or(1, char::len_utf8);
    match rest.as_bytes() {
        [b'-', b'-', ..] => to_end("\n", 2),
        [b'E' | b'e', b'\'', ..] => escaped(rest),
        // A doubled quote ends one text and begins the next, which comes to the same.
        [b'\'', ..] => to_end("'", 1),
        [b'"', ..] => to_end("\"", 1),
        [b'$', ..] => dollar_tag(rest).map_or(first, |tag| to_end(tag, tag.len())),
        [b, ..] if b.is_ascii_alphanumeric() || *b == b'_' => word(rest),
        _ => first,
    }
}

/// A word as a whole: its last letter does not begin a text with backslashes, nor does a dollar sign in it a body.
fn word(rest: &str) -> usize {
    let is_inside = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    rest.find(|c| !is_inside(c)).unwrap_or(rest.len())
}

fn escaped(rest: &str) -> usize {
    let mut is_escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(2) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'\'' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn dollar_tag(rest: &str) -> Option<&str> {
    let end = rest.get(1..)?.find('$')? + 2;
    let tag = rest.get(..end)?;
    tag.trim_matches('$').chars().all(|c| c.is_alphanumeric() || c == '_').then_some(tag)
}

/// The qualified name at the beginning of a text, as the dump writes it.
pub(super) fn qualified(text: &str) -> Option<&str> {
    let mut at = 0;
    loop {
        let rest = text.get(at..)?;
        at += match rest.as_bytes().first()? {
            b'"' => {
                let mut end = 1;
                loop {
                    end += rest.get(end..)?.find('"')? + 1;
                    if rest.as_bytes().get(end) != Some(&b'"') {
                        break end;
                    }
                    end += 1;
                }
            }
            _ => rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(rest.len()),
        };
        match text.as_bytes().get(at) {
            Some(b'.') => at += 1,
            _ => return text.get(..at).filter(|name| !name.is_empty()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_statements_begins_an_entry() {
        let dump = "SET x = 0;\n\n--\n-- Name: f(); Type: FUNCTION; Schema: public; Owner: -\n--\n\n\
            CREATE FUNCTION f() AS $_$\n--\n-- Name: fake; Type: TABLE; Schema: public; Owner: -\n--\n$_$;\n\n\
            --\n-- Name: a; Type: TABLE; b; Type: TABLE; Schema: public; Owner: -\n--\n\nCREATE TABLE a (b text DEFAULT E'\\'\n--\n\
            -- Name: fake; Type: TABLE; Schema: public; Owner: -\n');\n\n";
        let (preamble, entries) = entries(dump);
        assert_eq!(preamble, "SET x = 0;\n\n");
        let seen: Vec<(&str, &str)> = entries.iter().map(|entry| (entry.kind, entry.name)).collect();
        assert_eq!(seen, [("FUNCTION", "f()"), ("TABLE", "a; Type: TABLE; b")]);
        assert!(entries[0].sql.starts_with("CREATE FUNCTION") && entries[0].sql.ends_with("$_$;"));
        assert!(entries[1].sql.ends_with("');"));
    }

    #[test]
    fn a_name_ends_where_the_dump_s_quotes_do() {
        assert_eq!(qualified("public.t (a int)"), Some("public.t"));
        assert_eq!(qualified("\"Odd \"\"s\".\"t (x\" ("), Some("\"Odd \"\"s\".\"t (x\""));
        assert_eq!(qualified("\"open"), None);
        assert_eq!(qualified(""), None);
    }
}
