//! The words a recipe is made of: names, databases, statements, texts with parameters in them, digests.

use std::fmt;

use serde::{Deserialize, Serialize};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Token, Tokenizer};

use super::parameters::{self, ParameterError, Values};

/// A name of a recipe, stage, step or parameter: lower-case letters, digits, `-` and `_`, from a letter on, up to 63.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let starts = text.starts_with(|c: char| c.is_ascii_lowercase());
        let rest = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
        if starts && rest && text.len() <= 63 {
            return Ok(Self(text));
        }
        Err(format!("`{text}` is not a name; use lower-case letters, digits, `-` and `_`, a letter first, 63 at most"))
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A database by the role it has for Temporal, or by its own name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Database {
    /// Temporal's default store.
    Main,
    /// Temporal's SQL visibility store.
    Visibility,
    /// Any other database of the same server.
    Named(String),
}

impl TryFrom<String> for Database {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "main" => Ok(Self::Main),
            "visibility" => Ok(Self::Visibility),
            other if (1..=63).contains(&other.len()) && !other.contains('\0') => Ok(Self::Named(text)),
            _ => {
                Err("this is not a database; write `main`, `visibility`, or the name of one (1 to 63 bytes)".to_owned())
            }
        }
    }
}

impl From<Database> for String {
    fn from(database: Database) -> Self {
        database.to_string()
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Main => "main",
            Self::Visibility => "visibility",
            Self::Named(name) => name,
        })
    }
}

/// One SQL statement as written, without the white space around it; may hold `${parameter}` and
/// `${parameter:literal}`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sql(String);

impl Sql {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn render(&self, values: &Values) -> Result<Self, ParameterError> {
        parameters::render(&self.0, values).map(Self)
    }
}

impl TryFrom<String> for Sql {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let trimmed = text.trim().trim_end_matches(';').trim_end();
        if trimmed.is_empty() {
            return Err("a statement must not be empty; write SQL, or leave it out".to_owned());
        }
        if without_comments(trimmed).is_empty() {
            return Err("a statement must be more than a comment; write SQL, or leave it out".to_owned());
        }
        if trimmed.contains('\0') {
            return Err("a statement must not hold a NUL; take it out".to_owned());
        }
        if is_client_copy(trimmed) {
            let what = "COPY to or from whoever is connected has nobody here who sends or takes rows";
            return Err(format!("{what}; write INSERT or CREATE TABLE … AS"));
        }
        if let Some(word) = controls_transaction(trimmed) {
            let what = format!("`{word}` would begin or end a transaction in the middle of the step");
            return Err(format!("{what}; a step is one transaction, unless it says `transaction: false`"));
        }
        Ok(Self(trimmed.to_owned()))
    }
}

/// The first word of a statement that begins or ends a transaction.
fn controls_transaction(sql: &str) -> Option<String> {
    let (first, rest) = next_word(sql);
    let (second, rest) = next_word(rest);
    let is_meant = match first.as_str() {
        "BEGIN" | "COMMIT" | "END" | "ABORT" => true,
        "START" | "PREPARE" => second == "TRANSACTION",
        // To a savepoint it stays in the transaction.
        "ROLLBACK" if second == "WORK" || second == "TRANSACTION" => next_word(rest).0 != "TO",
        "ROLLBACK" => second != "TO",
        _ => false,
    };
    is_meant.then_some(first)
}

/// The word that a text begins with behind comments, in capitals, and what follows it.
fn next_word(sql: &str) -> (String, &str) {
    let sql = without_comments(sql);
    let end = sql.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(sql.len());
    let (word, rest) = sql.split_at(end);
    (word.to_ascii_uppercase(), rest)
}

/// Whether a COPY speaks to the client instead of a file or a program of the server.
fn is_client_copy(sql: &str) -> bool {
    if next_word(sql).0 != "COPY" {
        return false;
    }
    let Ok(tokens) = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize() else { return false };
    let mut depth = 0_i32;
    let mut outside = tokens.iter().filter(|token| {
        match token {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            _ => {}
        }
        depth == 0 && !matches!(token, Token::Whitespace(_))
    });
    let is_word = |token: &Token, names: [&str; 2]| match token {
        Token::Word(word) => {
            word.quote_style.is_none() && names.iter().any(|name| word.value.eq_ignore_ascii_case(name))
        }
        _ => false,
    };
    outside.any(|token| is_word(token, ["FROM", "TO"]))
        && outside.next().is_some_and(|token| is_word(token, ["STDIN", "STDOUT"]))
}

/// A statement from its first word on; nothing, of a text that is comments, or statements of nothing, all through.
fn without_comments(mut sql: &str) -> &str {
    loop {
        // Empty statements before the first one are none to PostgreSQL, which ends a line at a carriage return as well.
        sql = sql.trim_start_matches(|c: char| c.is_whitespace() || c == ';');
        sql = if let Some(rest) = sql.strip_prefix("--") {
            rest.split_once(['\n', '\r']).map_or("", |(_, rest)| rest)
        } else if let Some(rest) = sql.strip_prefix("/*") {
            after_comment(rest)
        } else {
            return sql;
        };
    }
}

/// What follows a comment that may hold others, as PostgreSQL's may.
fn after_comment(mut rest: &str) -> &str {
    let mut depth = 1_u32;
    while depth > 0 {
        let Some(at) = rest.find(['*', '/']) else { return "" };
        rest = rest.get(at..).unwrap_or_default();
        let (step, change) = match rest.get(..2) {
            Some("*/") => (2, -1),
            Some("/*") => (2, 1),
            _ => (1, 0),
        };
        depth = depth.saturating_add_signed(change);
        rest = rest.get(step..).unwrap_or_default();
    }
    rest
}

impl From<Sql> for String {
    fn from(sql: Sql) -> Self {
        sql.0
    }
}

/// A text of a recipe that is not SQL; may hold `${parameter}`, which becomes the value as it is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Text(String);

impl Text {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn render(&self, values: &Values) -> Result<Self, ParameterError> {
        parameters::render_plain(&self.0, values).map(Self)
    }
}

impl TryFrom<String> for Text {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match (text.trim().is_empty(), text.contains('\0')) {
            (true, _) => Err("this text must not be empty; write something, or leave it out".to_owned()),
            (_, true) => Err("this text must not hold a NUL; take it out".to_owned()),
            _ => Ok(Self(text)),
        }
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
    }
}

/// BLAKE3 of a canonical form, in hex.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Digest(String);

impl Digest {
    /// Of anything that has one canonical JSON.
    pub(crate) fn of(canonical: &impl Serialize) -> Self {
        let json = serde_json::to_vec(canonical).unwrap_or_default();
        Self(blake3::hash(&json).to_hex().to_string())
    }

    pub(crate) fn stored(text: String) -> Self {
        Self(text)
    }

    /// As hex.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_leaves_the_transaction_alone() {
        let check = |sql: &str, expect: Option<&str>| {
            assert_eq!(controls_transaction(sql).as_deref(), expect, "{sql}");
            assert_eq!(Sql::try_from(sql.to_owned()).is_err(), expect.is_some(), "{sql}");
        };
        check("COMMIT", Some("COMMIT"));
        check("commit;", Some("COMMIT"));
        check("-- so\n/* and /* nested */ */ Abort", Some("ABORT"));
        check("-- c\rCOMMIT /*\nSELECT 1 */", Some("COMMIT"));
        check("; /* a */ ; COMMIT", Some("COMMIT"));
        check("START TRANSACTION", Some("START"));
        check("PREPARE /* c */ TRANSACTION 'x'", Some("PREPARE"));
        check("START /* c */ TRANSACTION", Some("START"));
        check("ROLLBACK WORK", Some("ROLLBACK"));
        check("ROLLBACK WORK TO SAVEPOINT a", None);
        check("PREPARE TRANSACTION 'x'", Some("PREPARE"));
        check("ROLLBACK", Some("ROLLBACK"));
        check("ROLLBACK\nTO SAVEPOINT a", None);
        check("PREPARE q AS SELECT 1", None);
        check("committed()", None);
        check("SELECT 'COMMIT'", None);
        check("/* BEGIN */ SELECT 1 -- COMMIT", None);
        assert!(Sql::try_from("SELECT 'a\0'".to_owned()).is_err());
        assert!(Sql::try_from("SELECT 1 /* open".to_owned()).is_ok(), "the server says what is wrong with it");
    }

    #[test]
    fn a_comment_is_no_statement() {
        for comment in
            ["-- nothing", "-- one\n-- two\n;", "/* all of /* it */ */", "/* open", "--", "/* a */ ; -- c", "; ; -- c"]
        {
            let why = Sql::try_from(comment.to_owned()).unwrap_err();
            assert!(why.contains("more than a comment"), "{comment}: {why}");
        }
        assert!(Sql::try_from("-- first\nSELECT 1".to_owned()).is_ok());
        assert!(Sql::try_from("-- first\rSELECT 1".to_owned()).is_ok());
        for copy in ["COPY t FROM STDIN", "copy (SELECT 1)\nto stdout;", "/* c */ COPY t TO STDOUT WITH (FORMAT csv)"] {
            assert!(Sql::try_from(copy.to_owned()).is_err(), "{copy}");
        }
        for copy in ["COPY(SELECT 1) TO STDOUT(FORMAT csv)", "COPY t FROM/**/STDIN--x"] {
            assert!(Sql::try_from(copy.to_owned()).is_err(), "{copy}");
        }
        for copy in
            ["COPY t FROM '/stdin'", "COPY j (id, stdout) FROM '/x'", "COPY (SELECT a FROM stdin) TO PROGRAM 'cat'"]
        {
            assert!(Sql::try_from(copy.to_owned()).is_ok(), "{copy}");
        }
    }
}
