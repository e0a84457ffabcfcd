//! Where the documents go: the index there is, or one made as Temporal's own tool would make it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::RebuildPlan;
use crate::clients::search::{Resolved, Search, SearchError};
use crate::clients::temporal::AttributeType;
use crate::context::Context;
use crate::visibility::reconcile::survey::survey_any;
use crate::visibility::rollover::missing_fields;
use crate::visibility::{Refusal, VisibilityError, refile};

/// What there is at the start.
#[derive(Debug, Clone)]
pub(super) enum Start {
    /// Nothing: an index is made, with the alias.
    Create {
        /// Its name.
        name: String,
        /// What the templates give it.
        mapping: Value,
    },
    /// An alias or a plain index.
    There {
        /// The mapping of the index that Temporal writes to.
        mapping: Value,
        /// True for a plain index.
        plain: bool,
    },
}

impl Start {
    pub(super) fn mapping(&self) -> Value {
        match self {
            Self::Create { mapping, .. } | Self::There { mapping, .. } => mapping.clone(),
        }
    }
}

/// Looks at the name.
pub(super) async fn start(search: &Search, name: &str) -> Result<Start, VisibilityError> {
    match search.resolve(name).await? {
        Resolved::Missing => {
            let index = format!("{name}-000001");
            if !matches!(search.resolve(&index).await?, Resolved::Missing) {
                return Err(Refusal::Occupied { alias: name.to_owned(), index }.into());
            }
            let mapping = from_templates(search, &index).await?;
            // Without Temporal's template every field would be guessed from the first document.
            if !is_temporals(&mapping) {
                return Err(Refusal::NoTemplate(index).into());
            }
            Ok(Start::Create { name: index, mapping })
        }
        resolved => {
            let survey = survey_any(search, name).await?;
            let write = survey.members.last();
            let mapping = write.map(|write| write.mapping.clone()).unwrap_or_default();
            if !is_temporals(&mapping) {
                return Err(Refusal::NoTemplate(write.map(|write| write.name.clone()).unwrap_or_default()).into());
            }
            Ok(Start::There { mapping, plain: matches!(resolved, Resolved::Concrete) })
        }
    }
}

/// Whether the fields that every list asks for are there.
fn is_temporals(mapping: &Value) -> bool {
    mapping["properties"]["NamespaceId"]["type"] == "keyword"
}

/// What the legacy templates give an index of this name, those of a higher order on top.
async fn from_templates(search: &Search, index: &str) -> Result<Value, SearchError> {
    let mut templates: Vec<_> =
        search.templates().await?.into_iter().filter(|(_, template)| template.applies_to(index)).collect();
    templates.sort_by_key(|(_, template)| template.order);
    let mut properties = Map::new();
    for (_, template) in templates {
        properties.extend(template.mappings["properties"].as_object().cloned().unwrap_or_default());
    }
    Ok(json!({ "properties": properties }))
}

/// The cluster's custom search attributes that the mapping lacks, as Temporal maps them (`buildMappingBody` in the
/// server's source).
pub(super) fn lacking(attributes: &BTreeMap<String, AttributeType>, mapping: &Value) -> Map<String, Value> {
    let field = |kind: AttributeType| match kind {
        AttributeType::Text => json!({"type": "text"}),
        AttributeType::Keyword | AttributeType::KeywordList => json!({"type": "keyword"}),
        AttributeType::Int => json!({"type": "long"}),
        AttributeType::Double => json!({"type": "scaled_float", "scaling_factor": 10_000}),
        AttributeType::Bool => json!({"type": "boolean"}),
        AttributeType::Datetime => json!({"type": "date_nanos"}),
    };
    let wanted: Map<String, Value> = attributes.iter().map(|(name, kind)| (name.clone(), field(*kind))).collect();
    missing_fields(&json!({ "properties": wanted }), mapping)
}

/// Makes the index with the alias, if the plan says so. An engine that makes indices by itself may have put a plain one
/// there meanwhile, when Temporal wrote: then that is the one.
pub(super) async fn create(search: &Search, plan: &RebuildPlan) -> Result<Option<String>, VisibilityError> {
    let Some(index) = &plan.create else { return Ok(None) };
    let body = json!({"aliases": {&plan.index: {"is_write_index": true}}});
    match search.create_index(index, body).await {
        Ok(()) => Ok(Some(index.clone())),
        Err(error) => match search.resolve(&plan.index).await? {
            Resolved::Missing => Err(error.into()),
            Resolved::Alias(_) | Resolved::Concrete => Ok(None),
        },
    }
}

/// Adds the fields, also to documents that Temporal wrote into the index before they were there; their names.
pub(super) async fn add(
    search: &Search,
    name: &str,
    fields: &Map<String, Value>,
    ctx: &Context,
) -> Result<Vec<String>, VisibilityError> {
    if fields.is_empty() {
        return Ok(Vec::new());
    }
    let survey = survey_any(search, name).await?;
    let Some(write) = survey.members.last() else { return Ok(Vec::new()) };
    let lacking = missing_fields(&json!({ "properties": fields }), &write.mapping);
    if !lacking.is_empty() {
        refile::add_fields(search, &write.name, &lacking, ctx).await?;
    }
    Ok(lacking.into_iter().map(|(name, _)| name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_mapping_lacks_is_added() {
        let attributes =
            [("Tier", AttributeType::Keyword), ("Ratio", AttributeType::Double), ("Notes", AttributeType::Text)];
        let attributes = attributes.into_iter().map(|(name, kind)| (name.to_owned(), kind)).collect();
        let mapping = json!({"properties": {"Tier": {"type": "keyword"}}});
        let fields = Value::Object(lacking(&attributes, &mapping));
        assert_eq!(
            fields,
            json!({"Ratio": {"type": "scaled_float", "scaling_factor": 10_000}, "Notes": {"type": "text"}})
        );
    }
}
