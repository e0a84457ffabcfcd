//! A few fields of a JSON object, read without keeping the others: documents are many, and most of each is not asked for.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

/// The values of these fields, in their order; `None` where there is none, or `null`.
///
/// # Errors
/// When the text is no JSON object.
pub(super) fn pick(json: &str, fields: &[&str]) -> Result<Vec<Option<Value>>, serde_json::Error> {
    serde_json::Deserializer::from_str(json).deserialize_map(Fields(fields))
}

struct Fields<'f>(&'f [&'f str]);

#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = Vec<Option<Value>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut values: Vec<Option<Value>> = vec![None; self.0.len()];
        while let Some(Name(name)) = map.next_key()? {
            let asked = self.0.iter().position(|field| *field == name).and_then(|place| values.get_mut(place));
            match asked {
                Some(value) => *value = Some(map.next_value()?),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        for value in &mut values {
            value.take_if(|value| value.is_null());
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_asked_for_is_read_and_nothing_else() {
        let object = r#"{"a": 1, "b": {"a": 2}, "c": null, "d\u0065": ["x"], "a": 3}"#;
        let picked = pick(object, &["de", "a", "c", "z"]).unwrap();
        assert_eq!(picked, [Some(json!(["x"])), Some(json!(3)), None, None]);
        assert!(pick("[]", &["a"]).is_err());
        assert!(pick("{", &["a"]).is_err());
    }
}
