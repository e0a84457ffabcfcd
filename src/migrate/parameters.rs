//! Parameters of a recipe: typed values that reach SQL only quoted or checked, never as raw text.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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
        };
        if fits { Ok(()) } else { Err(ParameterError::Type { value: value.to_owned(), expected: self.expected() }) }
    }

    fn expected(self) -> &'static str {
        match self {
            Self::Integer => "an integer",
            Self::Number => "a decimal number",
            Self::Identifier => "an identifier (letters, digits and `_`, no digit first, 63 at most)",
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
    /// No value and no default.
    #[error("the parameter `{0}` has no default and was not set")]
    Missing(String),
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
        let mut values = BTreeMap::new();
        for (name, parameter) in declared {
            let value = given.get(name).or(parameter.default.as_ref());
            let value = value.ok_or_else(|| ParameterError::Missing(name.to_owned()))?;
            let fits = parameter.kind.check(value);
            fits.map_err(|cause| ParameterError::Value { name: name.to_owned(), cause: Box::new(cause) })?;
            values.insert(name.to_owned(), (parameter.kind, value.clone()));
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

    /// Name and value of each.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, (_, value))| (name.as_str(), value.as_str()))
    }
}

/// Puts the values into a statement: `${x}` as a numeral or a quoted identifier, `${x:literal}` as a string literal.
/// The types keep quotes and backslashes out of every value, so that no place in a statement can be escaped from.
pub(crate) fn render(template: &str, values: &Values) -> Result<String, ParameterError> {
    let mut out = String::with_capacity(template.len());
    for piece in pieces(template) {
        match piece? {
            Piece::Text(text) => out.push_str(text),
            Piece::Use { name, literal } => {
                let (kind, value) = values.0.get(name).ok_or_else(|| ParameterError::Unknown(name.to_owned()))?;
                match (literal, kind) {
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

/// The names a statement uses.
pub(crate) fn names(template: &str) -> Result<Vec<String>, ParameterError> {
    let mut names = Vec::new();
    for piece in pieces(template) {
        if let Piece::Use { name, .. } = piece? {
            names.push(name.to_owned());
        }
    }
    Ok(names)
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
        assert_eq!(missing, Err(ParameterError::Missing("p".into())));
        let unknown = Values::new([], &BTreeMap::from([("q".to_owned(), "1".to_owned())]));
        assert_eq!(unknown, Err(ParameterError::Unknown("q".into())));
        assert!(matches!(names("SELECT ${p"), Err(ParameterError::Template(_))));
        assert!(matches!(names("SELECT ${p q}"), Err(ParameterError::Template(_))));
    }

    proptest! {
        #[test]
        fn no_accepted_value_holds_a_quote(value in ".*") {
            for kind in [ParameterKind::Integer, ParameterKind::Number, ParameterKind::Identifier] {
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
