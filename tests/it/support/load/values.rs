//! What workflows carry: names, search attributes, memos, and how they look on the wire.

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use temporalio_protos::temporal::api::common::v1::{Memo, Payload, Payloads, SearchAttributes};

use super::dice::Dice;

pub const TIERS: [&str; 4] = ["gold", "silver", "bronze", "iron"];
pub const TAGS: [&str; 5] = ["fragile", "express", "gift", "überseekiste", "two words"];
pub const WORDS: [&str; 5] = ["parcel", "ladder", "late", "paid", "returned"];
pub const TYPES: [&str; 3] = ["Checkout", "Shipment", "Subscription"];

/// A workflow id of the customer's own; some hold what separates or is escaped in the search engine's document ids.
pub(super) fn workflow_id(dice: &mut Dice, customer: u32, number: usize) -> String {
    let odd = ["~", " ", "/", "\"", "ü", "%2F", "|", "'"];
    let middle = if dice.percent(15) { *dice.pick(&odd) } else { "-" };
    format!("order{middle}{customer}{middle}{number}")
}

/// A value for each custom search attribute, or for some of them. `change` may also unset one.
pub(super) fn attributes(dice: &mut Dice, change: bool) -> Map<String, Value> {
    let mut all = Map::new();
    all.insert("CustomerTier".into(), json!(dice.pick(&TIERS)));
    let tags = dice.below(TAGS.len() - 2);
    // Day and hour vary; the engine keeps nanoseconds.
    let due =
        format!("2026-{:02}-{:02}T{:02}:30:00.123456789Z", 1 + dice.below(12), 1 + dice.below(28), dice.below(24));
    for (name, value) in [
        ("Amount", json!(dice.below(12))),
        ("Shipped", json!(dice.percent(50))),
        ("Notes", json!(format!("{} {}", dice.pick(&WORDS), dice.pick(&WORDS)))),
        ("Due", json!(due)),
        ("Ratio", json!(dice.below(1000) as f64 / 1000.0)),
        ("Tags", json!(TAGS[tags..=tags + dice.below(2)])),
    ] {
        if dice.percent(60) {
            // Null takes an attribute away.
            let gone = change && dice.percent(10);
            all.insert(name.into(), if gone { Value::Null } else { value });
        }
    }
    all
}

pub(super) fn memo(dice: &mut Dice) -> Memo {
    Memo { fields: HashMap::from([("reason".to_owned(), payload(&json!(dice.pick(&WORDS))))]) }
}

pub(super) fn search_attributes(values: &Map<String, Value>) -> SearchAttributes {
    SearchAttributes { indexed_fields: values.iter().map(|(name, value)| (name.clone(), payload(value))).collect() }
}

pub(super) fn payloads(value: &Value) -> Payloads {
    Payloads { payloads: vec![payload(value)] }
}

/// The object in a signal; empty when it is something else.
pub(super) fn object(payloads: Option<&Payloads>) -> Map<String, Value> {
    let first = payloads.and_then(|payloads| payloads.payloads.first());
    first.and_then(|payload| serde_json::from_slice(&payload.data).ok()).unwrap_or_default()
}

pub(super) fn payload(value: &Value) -> Payload {
    let metadata = HashMap::from([("encoding".to_owned(), b"json/plain".to_vec())]);
    Payload { metadata, data: value.to_string().into_bytes(), ..Default::default() }
}
