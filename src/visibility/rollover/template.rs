//! sexton's own legacy template, which carries the mapping to the next index.

use serde_json::{Map, Value, json};

use super::drift::{Fields, differences, leaves};
use super::own_name;
use crate::clients::search::Template;
use crate::visibility::step::{FieldChange, Step};

/// The names an engine gives to the indices it rolls to: `<alias>-` and six digits with leading zeros. Where the write
/// index is named otherwise (a date in it), every index that begins like the alias.
///
/// The narrower one leaves `<alias>-copy` and its like alone: what matches gets the lifecycle policy too.
pub(super) fn pattern(alias: &str, write: &str) -> String {
    let number = write.strip_prefix(alias).and_then(|rest| rest.strip_prefix('-')).unwrap_or_default();
    let plain = !number.is_empty() && number.len() <= 6 && number.bytes().all(|byte| byte.is_ascii_digit());
    // From 099999 on, the next number begins with another digit.
    let small = number.parse::<u32>().is_ok_and(|number| number < 99_999);
    if plain && small { format!("{alias}-0*") } else { format!("{alias}-*") }
}

/// The template carries the write index's mapping, custom search attributes included, to the next index. Temporal's
/// template has order 0, so that this one wins where both speak; it is a legacy one like Temporal's, since a
/// composable template would hide Temporal's settings and index sort altogether.
pub(in crate::visibility) fn own_template(
    alias: &str,
    write: &str,
    settings: &[(&str, String)],
    mapping: &Value,
) -> Template {
    Template {
        order: 10,
        index_patterns: vec![pattern(alias, write)],
        settings: settings.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
        mappings: mapping.clone(),
    }
}

/// The step that brings the template there, when it is not there as wanted.
pub(in crate::visibility) fn template_step(alias: &str, existing: Option<&Template>, wanted: Template) -> Option<Step> {
    if existing == Some(&wanted) {
        return None;
    }
    let carried = existing.map_or(&Value::Null, |template| &template.mappings);
    let new_fields = missing_fields(&wanted.mappings, carried).into_iter().map(|(name, _)| name).collect();
    // A first template carries everything; naming a hundred fields as new would say nothing.
    let new_fields = if existing.is_some() { new_fields } else { vec![] };
    let differs = existing.map(|existing| drift(existing, &wanted)).unwrap_or_default();
    Some(Step::PutTemplate { name: own_name(alias), template: wanted, exists: existing.is_some(), differs, new_fields })
}

/// The top-level fields of one mapping that another lacks. Temporal's search attributes are all top-level.
pub(in crate::visibility) fn missing_fields(of: &Value, from: &Value) -> Map<String, Value> {
    let Some(fields) = of["properties"].as_object() else { return Map::new() };
    let present = |name: &str| from["properties"].get(name).is_some();
    fields.iter().filter(|(name, _)| !present(name)).map(|(name, field)| (name.clone(), field.clone())).collect()
}

fn drift(found: &Template, wanted: &Template) -> Vec<FieldChange> {
    let fields = |template: &Template| {
        let mut fields = Fields::new();
        leaves("order", &json!(template.order), &mut fields);
        leaves("index_patterns", &json!(template.index_patterns), &mut fields);
        template.settings.iter().for_each(|(key, value)| drop(fields.insert(key.clone(), value.clone())));
        fields
    };
    let mut lines = differences(&fields(found), &fields(wanted), &[]);
    if found.mappings != wanted.mappings {
        let (from, to) = mapping_words(&found.mappings, &wanted.mappings);
        lines.push(FieldChange { field: "mapping".into(), from: Some(from), to: Some(to), destructive: false });
    }
    lines
}

/// How many fields two mappings have, and which ones differ.
fn mapping_words(found: &Value, wanted: &Value) -> (String, String) {
    let count = |mapping: &Value| mapping["properties"].as_object().map_or(0, Map::len);
    let names = |fields: Map<String, Value>| fields.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let both = wanted["properties"].as_object().into_iter().flatten();
    let other = both.filter(|(name, field)| found["properties"].get(*name).is_some_and(|there| there != *field));
    let mut to = format!("{} fields", count(wanted));
    let lists = [
        ("new", names(missing_fields(wanted, found))),
        ("gone", names(missing_fields(found, wanted))),
        ("changed", other.map(|(name, _)| name.clone()).collect()),
    ];
    for (word, names) in lists.iter().filter(|(_, names)| !names.is_empty()) {
        to.push_str(&format!(", {word}: {}", names.join(", ")));
    }
    (format!("{} fields", count(found)), to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_is_as_narrow_as_the_names_allow() {
        let check = |write: &str, expect: &str| assert_eq!(pattern("v1", write), expect, "{write}");
        check("v1-000001", "v1-0*");
        check("v1-1", "v1-0*");
        check("v1-099999", "v1-*");
        check("v1-2026.11.24-000004", "v1-*");
        check("other", "v1-*");
    }

    #[test]
    fn a_template_that_differs_says_where() {
        let mapping = |fields: Value| json!({"dynamic": "false", "properties": fields});
        let found = mapping(json!({"A": {"type": "keyword"}, "B": {"type": "keyword"}, "C": {"type": "long"}}));
        let wanted = mapping(json!({"A": {"type": "keyword"}, "C": {"type": "keyword"}, "D": {"type": "keyword"}}));
        let existing = Template { order: 3, ..own_template("v1", "v1-000001", &[("index.x", "1".into())], &found) };
        let wanted = own_template("v1", "v1-000001", &[], &wanted);
        let Some(Step::PutTemplate { differs, new_fields, .. }) = template_step("v1", Some(&existing), wanted) else {
            panic!("the template differs");
        };
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".into());
        let lines: Vec<_> =
            differs.iter().map(|d| format!("{} {} -> {}", d.field, text(&d.from), text(&d.to))).collect();
        let mapping = "mapping 3 fields -> 3 fields, new: D, gone: B, changed: C";
        assert_eq!(lines, ["index.x 1 -> none", "order 3 -> 10", mapping]);
        assert_eq!(new_fields, ["D"]);
    }
}
