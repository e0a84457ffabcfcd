//! What differs between a policy or template as it is and as it should be, field by field.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::units::{Size, Span};
use crate::visibility::step::FieldChange;

/// The fields of a policy by dotted name, each value in one way of writing.
pub(super) type Fields = BTreeMap<String, String>;

/// Says that something is there, when it has no value of its own: a delete action, a transition without conditions.
pub(super) const SET: &str = "set";

/// Adds everything below a value, a field per leaf. Nulls are no fields.
pub(super) fn leaves(name: &str, value: &Value, fields: &mut Fields) {
    let mut put = |text: String| drop(fields.insert(name.to_owned(), text));
    match value {
        Value::Null => {}
        Value::Object(object) if object.is_empty() => put(SET.to_owned()),
        Value::Object(object) => {
            for (key, value) in object {
                leaves(&format!("{name}.{key}"), value, fields);
            }
        }
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            for (position, item) in items.iter().enumerate() {
                leaves(&format!("{name}[{position}]"), item, fields);
            }
        }
        Value::Array(items) => put(items.iter().map(canonical).collect::<Vec<_>>().join(", ")),
        scalar => put(canonical(scalar)),
    }
}

/// The differences, by field name. `deletion` names the fields that bring the deletion: setting or shortening one is
/// destructive.
pub(super) fn differences(found: &Fields, wanted: &Fields, deletion: &[&str]) -> Vec<FieldChange> {
    let changed = |name: &&String| found.get(*name) != wanted.get(*name);
    let mut names: Vec<&String> = found.keys().chain(wanted.keys()).filter(changed).collect();
    names.sort();
    names.dedup();
    // That an action is there says no more than its settings do.
    let told =
        |name: &str| names.iter().any(|other| other.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')));
    let lines = names.iter().filter(|name| !told(name)).map(|name| {
        let (from, to) = (found.get(*name).cloned(), wanted.get(*name).cloned());
        let destructive = deletion.contains(&name.as_str()) && sooner(from.as_deref(), to.as_deref());
        FieldChange { field: (*name).clone(), from, to, destructive }
    });
    lines.collect()
}

/// True when the second value deletes something that the first did not, or not so early.
fn sooner(from: Option<&str>, to: Option<&str>) -> bool {
    let span = |text: Option<&str>| text.and_then(|text| text.parse::<Span>().ok());
    match (span(from), span(to)) {
        (Some(from), Some(to)) => to < from,
        _ => to.is_some(),
    }
}

/// Engines write the same span or size in several ways.
fn canonical(value: &Value) -> String {
    let Some(text) = value.as_str() else { return value.to_string() };
    let span = text.parse::<Span>().map(|span| span.to_string());
    let size = || text.parse::<Size>().map(|size| size.to_string());
    span.or_else(|_| size()).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(value: &Value) -> Fields {
        let mut fields = Fields::new();
        for (key, value) in value.as_object().unwrap() {
            leaves(key, value, &mut fields);
        }
        fields
    }

    fn shown(found: &Value, wanted: &Value) -> Vec<String> {
        let lines = differences(&fields(found), &fields(wanted), &["gone.age", "gone.act"]);
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".into());
        let line = |line: &FieldChange| {
            let mark = if line.destructive { "!" } else { "" };
            format!("{} {} -> {}{mark}", line.field, text(&line.from), text(&line.to))
        };
        lines.iter().map(line).collect()
    }

    #[test]
    fn other_words_for_the_same_are_no_difference() {
        let found = json!({"age": "720h", "size": "1024mb", "n": 7, "list": ["a", "b"], "null": null});
        assert_eq!(
            shown(&found, &json!({"age": "30d", "size": "1gb", "n": 7, "list": ["a", "b"]})),
            Vec::<String>::new()
        );
    }

    #[test]
    fn every_field_that_differs_is_named() {
        let found = json!({"age": "40d", "warm": {"shrink": {"shards": 1}}, "same": 1});
        let wanted = json!({"age": "30d", "same": 1, "docs": 5});
        assert_eq!(shown(&found, &wanted), ["age 40d -> 30d", "docs none -> 5", "warm.shrink.shards 1 -> none"]);
    }

    #[test]
    fn a_deletion_that_comes_or_comes_earlier_is_destructive() {
        let check = |from: Value, to: Value, expect: &str| assert_eq!(shown(&from, &to), [expect]);
        check(json!({"gone": {"age": "90d"}}), json!({"gone": {"age": "60d"}}), "gone.age 90d -> 60d!");
        check(json!({"gone": {"age": "60d"}}), json!({"gone": {"age": "90d"}}), "gone.age 60d -> 90d");
        check(json!({"gone": {"age": "later"}}), json!({"gone": {"age": "90d"}}), "gone.age later -> 90d!");
        check(json!({"x": 1}), json!({"x": 1, "gone": {"age": "90d"}}), "gone.age none -> 90d!");
        check(json!({"x": 1}), json!({"x": 1, "gone": {"act": {}}}), "gone.act none -> set!");
        check(json!({"x": 1, "gone": {"act": {}}}), json!({"x": 1}), "gone.act set -> none");
    }
}
