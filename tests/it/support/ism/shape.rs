//! The shapes of the requests, from the tables and examples of OpenSearch's documentation.

use serde_json::{Map, Value, json};

use super::http::Request;

/// Checks a request to the plugin and gives its body.
pub(super) fn check(request: &Request, path: &[&str]) -> Result<Value, String> {
    let known: &[&str] = match path.first() {
        Some(&"policies") if request.method == "PUT" => &["if_seq_no", "if_primary_term"],
        Some(&"explain") => &["show_policy", "validate_action"],
        _ => &[],
    };
    if let Some(name) = request.query_names().find(|name| !known.contains(name)) {
        return Err(format!("request contains unrecognized parameter: [{name}]"));
    }
    let guards = ["if_seq_no", "if_primary_term"].map(|name| request.query(name));
    if guards.iter().flatten().any(|value| value.parse::<u64>().is_err()) || guards[0].is_some() != guards[1].is_some()
    {
        return Err("if_seq_no and if_primary_term are two numbers".into());
    }
    let body = request.json();
    if request.body.is_some() && !body.is_object() {
        return Err("the body is not a JSON object".into());
    }
    match (request.method.as_str(), path) {
        ("GET" | "DELETE", ["policies" | "explain", name]) | ("POST", ["remove", name]) => {
            named(name)?;
            if request.body.is_some() { Err("no body is documented here".into()) } else { Ok(body) }
        }
        ("PUT", ["policies", name]) => {
            named(name)?;
            fields(&body, &["policy"], &[])?;
            policy(&body["policy"])?;
            Ok(body)
        }
        ("POST", ["add", name]) => {
            named(name)?;
            fields(&body, &["policy_id"], &[])?;
            text(&body, "policy_id")?;
            Ok(body)
        }
        ("POST", ["change_policy", name]) => {
            named(name)?;
            fields(&body, &["policy_id"], &["state", "include"])?;
            text(&body, "policy_id")?;
            Ok(body)
        }
        _ => Err(format!("no handler found for {} {}", request.method, request.path)),
    }
}

fn named(name: &str) -> Result<(), String> {
    if name.is_empty() || name == "*" { Err("name the policy or the index".into()) } else { Ok(()) }
}

fn policy(policy: &Value) -> Result<(), String> {
    let optional = ["ism_template", "error_notification"];
    fields(policy, &["description", "default_state", "states"], &optional)?;
    text(policy, "description")?;
    let default = text(policy, "default_state")?;
    let states = list(&policy["states"])?;
    let names: Vec<&str> = states.iter().map(|state| text(state, "name")).collect::<Result<_, _>>()?;
    if !names.contains(&default) {
        return Err("Policy must have a valid default state".into());
    }
    for state in states {
        fields(state, &["name", "actions", "transitions"], &[])?;
        list(&state["actions"])?.iter().try_for_each(action)?;
        for transition in list(&state["transitions"])? {
            fields(transition, &["state_name"], &["conditions"])?;
            let to = text(transition, "state_name")?;
            if !names.contains(&to) {
                return Err(format!("transition to the nonexistent state {to}"));
            }
            if let Some(conditions) = transition.get("conditions") {
                known_conditions(conditions)?;
            }
        }
    }
    let template = &policy["ism_template"];
    let one = [template.clone()];
    let templates = if template.is_null() { &[] } else { template.as_array().map_or(&one[..], Vec::as_slice) };
    for template in templates {
        fields(template, &["index_patterns"], &["priority"])?;
        if list(&template["index_patterns"])?.iter().any(|pattern| !pattern.is_string()) {
            return Err("index_patterns are texts".into());
        }
        if !template["priority"].is_u64() {
            return Err("priority is an integer".into());
        }
    }
    Ok(())
}

fn action(action: &Value) -> Result<(), String> {
    let object = action.as_object().ok_or("an action is an object")?;
    let own: Vec<_> = object.iter().filter(|(key, _)| !["retry", "timeout"].contains(&key.as_str())).collect();
    let [(name, settings)] = own[..] else { return Err(format!("one action at a time: {action}")) };
    match name.as_str() {
        "rollover" => {
            let optional = ["min_size", "min_primary_shard_size", "min_doc_count", "min_index_age", "copy_alias"];
            fields(settings, &[], &optional)?;
            settings.get("min_index_age").map_or(Ok(()), age)?;
            settings.get("min_doc_count").map_or(Ok(()), count)
        }
        "delete" | "read_only" | "read_write" | "open" | "close" => fields(settings, &[], &[]),
        other => Err(format!("the stand-in does not know the action {other}")),
    }
}

fn known_conditions(conditions: &Value) -> Result<(), String> {
    let ages = ["min_index_age", "min_rollover_age", "min_state_age"];
    let others = ["min_doc_count", "min_size", "no_alias", "cron"];
    fields(conditions, &[], &[&ages[..], &others[..]].concat())?;
    // From the plugin's source.
    if conditions.as_object().is_some_and(|conditions| conditions.len() > 1) {
        return Err("Cannot provide more than one Transition condition".into());
    }
    ages.iter().filter_map(|name| conditions.get(name)).try_for_each(age)
}

/// A number and one of the documented units.
fn age(value: &Value) -> Result<(), String> {
    millis(value).map(drop).ok_or_else(|| format!("not an age: {value}"))
}

fn count(value: &Value) -> Result<(), String> {
    value.as_u64().filter(|count| *count > 0).map(drop).ok_or_else(|| format!("not a count: {value}"))
}

/// Milliseconds of an age.
pub(super) fn millis(value: &Value) -> Option<u64> {
    let text = value.as_str()?;
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let unit = match &text[digits..] {
        "d" => 86_400_000,
        "h" => 3_600_000,
        "m" => 60_000,
        "s" => 1_000,
        "ms" => 1,
        _ => return None,
    };
    Some(text[..digits].parse::<u64>().ok()? * unit)
}

fn fields(value: &Value, required: &[&str], optional: &[&str]) -> Result<(), String> {
    let object: &Map<String, Value> = value.as_object().ok_or_else(|| format!("not an object: {value}"))?;
    if let Some(missing) = required.iter().find(|name| !object.contains_key(**name)) {
        return Err(format!("[{missing}] is missing"));
    }
    let known = |name: &String| required.contains(&name.as_str()) || optional.contains(&name.as_str());
    object.keys().find(|name| !known(name)).map_or(Ok(()), |name| Err(format!("Invalid field: [{name}]")))
}

fn text<'a>(value: &'a Value, name: &str) -> Result<&'a str, String> {
    value[name].as_str().ok_or_else(|| format!("[{name}] is not a text"))
}

fn list(value: &Value) -> Result<&Vec<Value>, String> {
    value.as_array().ok_or_else(|| format!("not a list: {value}"))
}

/// A policy as the plugin keeps and shows it: with its notes and the defaults of each action (from its source; the
/// documentation's examples leave the defaults out).
pub(super) fn stored(name: &str, body: &Value) -> Value {
    let mut stored = body.clone();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let now = json!(u64::try_from(now).unwrap());
    stored["policy_id"] = json!(name);
    stored["last_updated_time"] = now.clone();
    stored["schema_version"] = json!(18);
    if stored.get("error_notification").is_none() {
        stored["error_notification"] = Value::Null;
    }
    for state in stored["states"].as_array_mut().into_iter().flatten() {
        for action in state["actions"].as_array_mut().into_iter().flatten() {
            action["retry"] = json!({"count": 3, "backoff": "exponential", "delay": "1m"});
            if let Some(rollover) = action.get_mut("rollover") {
                rollover["copy_alias"] = json!(false);
            }
        }
    }
    if stored["ism_template"].is_object() {
        stored["ism_template"] = json!([stored["ism_template"].take()]);
    }
    for template in stored["ism_template"].as_array_mut().into_iter().flatten() {
        template["last_updated_time"] = now.clone();
    }
    stored
}
