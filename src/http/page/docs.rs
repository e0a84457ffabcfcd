//! The description of the API for people.

use axum::response::Response;
use serde_json::Value;

use super::format::Prose;
use super::frame::Frame;
use super::{Visitor, render};
use crate::http::api;

#[derive(askama::Template)]
#[template(path = "docs.html")]
struct DocsPage {
    frame: Frame,
    about: Prose,
    operations: Vec<Operation>,
}

struct Operation {
    method: String,
    path: String,
    summary: Prose,
    parameters: Vec<(String, Prose)>,
    body: Option<String>,
    answers: Vec<(String, Prose)>,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The fields of a body, by their names.
fn body(description: &Value, operation: &Value) -> Option<String> {
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
    let reference =
        schema["$ref"].as_str().or_else(|| schema["oneOf"].as_array()?.iter().find_map(|one| one["$ref"].as_str()))?;
    let schema = description.pointer(reference.strip_prefix('#')?)?;
    let names: Vec<&str> = schema["properties"].as_object()?.keys().map(String::as_str).collect();
    Some(names.join(", "))
}

pub(super) async fn page(Visitor(visitor): Visitor) -> Response {
    let description: Value = serde_json::from_str(api::description_text()).unwrap_or_default();
    let mut operations = Vec::new();
    for (path, methods) in description["paths"].as_object().into_iter().flatten() {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let answers = operation["responses"].as_object().into_iter().flatten();
            operations.push(Operation {
                method: method.to_uppercase(),
                path: path.clone(),
                summary: [text(&operation["summary"]), text(&operation["description"])].join(" ").into(),
                parameters: parameters.map(|one| (text(&one["name"]), text(&one["description"]).into())).collect(),
                body: body(&description, operation),
                answers: answers
                    .filter(|(_, answer)| answer["description"].as_str().is_some_and(|text| !text.is_empty()))
                    .map(|(status, answer)| (status.clone(), text(&answer["description"]).into()))
                    .collect(),
            });
        }
    }
    let about = text(&description["info"]["description"]).into();
    render(&DocsPage { frame: Frame::of(&visitor, "API", "").still(), about, operations })
}
