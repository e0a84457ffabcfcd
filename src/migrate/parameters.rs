//! Parameters of a recipe: typed values that reach SQL only quoted or checked, never as raw text.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clients::postgres::quote_literal;

/// A value that may be set from outside.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// What it may be.
    #[serde(rename = "type")]
    pub kind: ParameterKind,
    /// Taken when it is not set; without one it must be set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

impl Parameter {
    pub(crate) fn validate(&self) -> Result<(), ParameterError> {
        self.default.as_deref().map_or(Ok(()), |value| self.kind.check(value))
    }
}

/// The types a parameter can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ParameterKind {
    /// A whole number that fits 64 bits.
    Integer,
    /// A decimal number: digits, at most one point, perhaps a minus sign.
    Number,
    /// A plain SQL identifier, up to 63 letters, digits and `_`; put into SQL in double quotes.
    Identifier,
    /// A version such as `1.31`: numbers and points.
    Version,
    /// One line of text. In SQL only as `${name:literal}`.
    Text,
    /// A program and its arguments, divided by spaces; no shell reads it. Only as the whole of a command.
    Command,
}

impl ParameterKind {
    /// Checks a value.
    ///
    /// # Errors
    /// When it is not of this type.
    pub fn check(self, value: &str) -> Result<(), ParameterError> {
        let fits = match self {
            Self::Integer => value.parse::<i64>().is_ok() && !value.starts_with('+'),
            Self::Number => is_number(value),
            Self::Identifier => is_identifier(value),
            Self::Version => is_version(value),
            Self::Text => is_line(value),
            Self::Command => is_line(value) && value.split_whitespace().next().is_some(),
        };
        if fits { Ok(()) } else { Err(ParameterError::Type { value: value.to_owned(), expected: self.expected() }) }
    }

    fn expected(self) -> &'static str {
        match self {
            Self::Integer => "an integer",
            Self::Number => "a decimal number",
            Self::Identifier => "an identifier (letters, digits and `_`, no digit first, 63 at most)",
            Self::Version => "a version (numbers with points between them, such as `1.31`)",
            Self::Text => "one line of text (no control characters, 1000 bytes at most)",
            Self::Command => "a command (a program and its arguments, divided by spaces, on one line)",
        }
    }
}

/// Why a parameter or its use is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    /// The value of a parameter does not fit.
    #[error("parameter `{name}`: {cause}")]
    Value {
        /// The parameter.
        name: String,
        /// How it does not.
        #[source]
        cause: Box<ParameterError>,
    },
    /// The value does not fit the declared type.
    #[error("`{value}` is not {expected}")]
    Type {
        /// As given.
        value: String,
        /// What was declared.
        expected: &'static str,
    },
    /// A value for a parameter that the recipe does not have.
    #[error("the recipe has no parameter `{0}`")]
    Unknown(String),
    /// No value and no default; all of them.
    #[error("{} no default and {} not set: `{}`", if .0.len() == 1 { "a parameter has" } else { "parameters have" },
        if .0.len() == 1 { "was" } else { "were" }, .0.join("`, `"))]
    Missing(Vec<String>),
    /// `${` that does not end or holds something else than a name.
    #[error("`{0}` is not `${{name}}` or `${{name:literal}}`")]
    Template(String),
}

/// The final values, checked against their types.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Values(BTreeMap<String, (ParameterKind, String)>);

impl Values {
    /// Takes each declared parameter from `given`, or its default.
    ///
    /// # Errors
    /// A given parameter that is not declared, one that is missing, or a value that does not fit.
    pub fn new<'a>(
        declared: impl IntoIterator<Item = (&'a str, &'a Parameter)>,
        given: &BTreeMap<String, String>,
    ) -> Result<Self, ParameterError> {
        let (mut values, mut missing) = (BTreeMap::new(), Vec::new());
        for (name, parameter) in declared {
            let Some(value) = given.get(name).or(parameter.default.as_ref()) else {
                missing.push(name.to_owned());
                continue;
            };
            let fits = parameter.kind.check(value);
            fits.map_err(|cause| ParameterError::Value { name: name.to_owned(), cause: Box::new(cause) })?;
            values.insert(name.to_owned(), (parameter.kind, value.clone()));
        }
        if !missing.is_empty() {
            return Err(ParameterError::Missing(missing));
        }
        match given.keys().find(|name| !values.contains_key(*name)) {
            Some(unknown) => Err(ParameterError::Unknown(unknown.clone())),
            None => Ok(Self(values)),
        }
    }

    /// The same values with one identifier more.
    ///
    /// # Errors
    /// When the value is not an identifier.
    pub fn with_identifier(&self, name: &str, value: &str) -> Result<Self, ParameterError> {
        ParameterKind::Identifier.check(value)?;
        let mut values = self.0.clone();
        values.insert(name.to_owned(), (ParameterKind::Identifier, value.to_owned()));
        Ok(Self(values))
    }

    pub(crate) fn get(&self, name: &str) -> Result<&str, ParameterError> {
        let value = self.0.get(name).ok_or_else(|| ParameterError::Unknown(name.to_owned()))?;
        Ok(&value.1)
    }

    /// The words that a word of a command becomes: several for a parameter that is a command, else one.
    pub(crate) fn words(&self, word: &str) -> Result<Vec<String>, ParameterError> {
        let named = word.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
        match named.and_then(|name| self.0.get(name)) {
            Some((ParameterKind::Command, command)) => Ok(command.split_whitespace().map(str::to_owned).collect()),
            _ => Ok(vec![render_plain(word, self)?]),
        }
    }

    /// Name and value of each.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, (_, value))| (name.as_str(), value.as_str()))
    }
}

/// Puts the values into a statement: `${x}` as a numeral or a quoted identifier, `${x:literal}` as a string literal.
/// The types keep quotes and backslashes out of every value but that of a text, which is only ever a literal
/// ([`Placed::fits`]), so that no place in a statement can be escaped from.
pub(crate) fn render(template: &str, values: &Values) -> Result<String, ParameterError> {
    let mut out = String::with_capacity(template.len());
    for piece in pieces(template) {
        match piece? {
            Piece::Text(text) => out.push_str(text),
            Piece::Use { name, literal } => {
                let (kind, value) = values.0.get(name).ok_or_else(|| ParameterError::Unknown(name.to_owned()))?;
                match (literal, kind) {
                    (true, ParameterKind::Text) => out.push_str(&quote_literal(value)),
                    (true, _) => out.extend(["'", value, "'"]),
                    (false, ParameterKind::Identifier) => out.extend(["\"", value, "\""]),
                    // A minus sign in front of a numeral could make a comment of one that stands before it.
                    (false, _) if value.starts_with('-') => out.extend(["(", value, ")"]),
                    (false, _) => out.push_str(value),
                }
            }
        }
    }
    Ok(out)
}

/// Puts the values into a text as they are.
pub(crate) fn render_plain(template: &str, values: &Values) -> Result<String, ParameterError> {
    let mut out = String::with_capacity(template.len());
    for piece in pieces(template) {
        match piece? {
            Piece::Text(text) => out.push_str(text),
            Piece::Use { name, .. } => out.push_str(values.get(name)?),
        }
    }
    Ok(out)
}

/// Where a text of a recipe stands, which says what parameters it may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Placed<'t> {
    /// A statement.
    Sql(&'t str),
    /// A text for something else.
    Plain(&'t str),
    /// A word of a command.
    Word(&'t str),
}

impl Placed<'_> {
    /// The parameters it names, and whether as `${name:literal}`.
    pub(crate) fn uses(self) -> Result<Vec<(String, bool)>, ParameterError> {
        let (Self::Sql(text) | Self::Plain(text) | Self::Word(text)) = self;
        let mut uses = Vec::new();
        for piece in pieces(text) {
            if let Piece::Use { name, literal } = piece? {
                uses.push((name.to_owned(), literal));
            }
        }
        Ok(uses)
    }

    /// Whether a parameter of this kind may stand there.
    pub(crate) fn fits(self, name: &str, literal: bool, kind: ParameterKind) -> Result<(), String> {
        use ParameterKind::{Command, Text};
        match (self, kind) {
            (Self::Sql(_), Text) if !literal => {
                Err(format!("`${{{name}}}` is a text, which SQL takes only as a literal; write `${{{name}:literal}}`"))
            }
            (Self::Word(word), Command) if word == format!("${{{name}}}") => Ok(()),
            (_, Command) => Err(format!("`${{{name}}}` is a command; write it alone, as `run: [\"${{{name}}}\"]`")),
            (Self::Plain(_) | Self::Word(_), _) if literal => {
                Err(format!("`${{{name}:literal}}` is for SQL; write `${{{name}}}`"))
            }
            _ => Ok(()),
        }
    }
}

enum Piece<'a> {
    Text(&'a str),
    Use { name: &'a str, literal: bool },
}

fn pieces(template: &str) -> impl Iterator<Item = Result<Piece<'_>, ParameterError>> {
    let mut rest = template;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some(body) = rest.strip_prefix("${") else {
            let (text, tail) = rest.split_at(rest.find("${").unwrap_or(rest.len()));
            rest = tail;
            return Some(Ok(Piece::Text(text)));
        };
        let Some((inside, tail)) = body.split_once('}') else {
            let bad = rest.chars().take(40).collect();
            rest = "";
            return Some(Err(ParameterError::Template(bad)));
        };
        rest = tail;
        let (name, literal) = inside.strip_suffix(":literal").map_or((inside, false), |name| (name, true));
        let known = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        Some(if known {
            Ok(Piece::Use { name, literal })
        } else {
            Err(ParameterError::Template(format!("${{{inside}}}")))
        })
    })
}

fn is_number(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.len() <= 18 && part.bytes().all(|b| b.is_ascii_digit());
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    match unsigned.split_once('.') {
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => digits(unsigned),
    }
}

fn is_version(text: &str) -> bool {
    let part = |part: &str| (1..=6).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    text.split('.').count() <= 4 && text.split('.').all(part)
}

fn is_line(text: &str) -> bool {
    (1..=1_000).contains(&text.len()) && !text.contains(|c: char| c.is_control()) && !text.trim().is_empty()
}

fn is_identifier(text: &str) -> bool {
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    starts && text.len() <= 63 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values(kind: ParameterKind, value: &str) -> Result<Values, ParameterError> {
        let parameter = Parameter { kind, default: None, description: None };
        Values::new([("p", &parameter)], &BTreeMap::from([("p".to_owned(), value.to_owned())]))
    }

    #[test]
    fn values_are_put_in_by_type() {
        let check = |kind, value: &str, template: &str, expect: &str| {
            assert_eq!(render(template, &values(kind, value).unwrap()).unwrap(), expect);
        };
        check(ParameterKind::Integer, "7", "SET x = ${p}", "SET x = 7");
        check(ParameterKind::Number, "-0.5", "SELECT 1 -${p}", "SELECT 1 -(-0.5)");
        check(
            ParameterKind::Identifier,
            "Order",
            "ALTER TABLE ${p} -- ${p:literal}",
            "ALTER TABLE \"Order\" -- 'Order'",
        );
        check(ParameterKind::Integer, "7", "SELECT $1, $$a$$, '{}'", "SELECT $1, $$a$$, '{}'");
        check(ParameterKind::Text, r"it's \ here", "SELECT ${p:literal}", r"SELECT E'it''s \\ here'");
    }

    #[test]
    fn a_text_or_a_command_stands_only_where_it_can() {
        use ParameterKind::{Command, Integer, Text};
        let fits = |text: Placed<'_>, kind| {
            let uses = text.uses().unwrap();
            text.fits(&uses[0].0, uses[0].1, kind).is_ok()
        };
        assert!(!fits(Placed::Sql("SELECT ${p}"), Text));
        assert!(fits(Placed::Sql("SELECT ${p:literal}"), Text));
        assert!(!fits(Placed::Sql("SELECT ${p:literal}"), Command));
        assert!(fits(Placed::Word("${p}"), Command) && !fits(Placed::Word("-x${p}"), Command));
        assert!(fits(Placed::Word("-x${p}"), Integer) && !fits(Placed::Plain("${p:literal}"), Text));
        assert_eq!(values(Command, "a  b c").unwrap().words("${p}").unwrap(), ["a", "b", "c"]);
        assert_eq!(values(Text, "a  b").unwrap().words("x=${p}").unwrap(), ["x=a  b"]);
    }

    #[test]
    fn what_does_not_fit_its_type_is_refused() {
        use ParameterKind::{Identifier, Integer, Number};
        for (kind, value) in [
            (Integer, "1; DROP TABLE x"),
            (Integer, "+1"),
            (Integer, "9223372036854775808"),
            (Number, "1e5"),
            (Number, "NaN"),
            (Number, ".5"),
            (Identifier, "a\"b"),
            (Identifier, "a b"),
            (Identifier, ""),
            (Identifier, "1a"),
        ] {
            assert!(matches!(values(kind, value), Err(ParameterError::Value { .. })), "{kind:?} {value}");
        }
    }

    #[test]
    fn missing_unknown_and_malformed_are_told_apart() {
        let parameter = Parameter { kind: ParameterKind::Integer, default: None, description: None };
        let missing = Values::new([("p", &parameter)], &BTreeMap::new());
        assert_eq!(missing, Err(ParameterError::Missing(vec!["p".into()])));
        let unknown = Values::new([], &BTreeMap::from([("q".to_owned(), "1".to_owned())]));
        assert_eq!(unknown, Err(ParameterError::Unknown("q".into())));
        assert!(matches!(Placed::Sql("SELECT ${p").uses(), Err(ParameterError::Template(_))));
        assert!(matches!(Placed::Sql("SELECT ${p q}").uses(), Err(ParameterError::Template(_))));
    }

    proptest! {
        #[test]
        fn no_accepted_value_holds_a_quote(value in ".*") {
            use ParameterKind::{Identifier, Integer, Number, Version};
            for kind in [Integer, Number, Identifier, Version] {
                if kind.check(&value).is_ok() {
                    prop_assert!(!value.contains(['\'', '"', '\\', ';', ' ', '$']));
                }
            }
        }

        #[test]
        fn text_without_parameters_stays_as_it_is(text in "[^$]*") {
            prop_assert_eq!(render(&text, &Values::default()).unwrap(), text);
        }
    }
}
