//! Custom search attributes, which the server keeps in its own database: they outlive the index.

use std::collections::BTreeMap;

use temporalio_protos::temporal::api::enums::v1::IndexedValueType;
use temporalio_protos::temporal::api::operatorservice::v1::ListSearchAttributesRequest;
use temporalio_protos::temporal::api::operatorservice::v1::operator_service_client::OperatorServiceClient;

use super::{Temporal, TemporalError};

/// The type of a search attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttributeType {
    /// Words.
    Text,
    /// One text, compared as a whole.
    Keyword,
    /// Several such texts.
    KeywordList,
    /// A whole number.
    Int,
    /// A number.
    Double,
    /// Yes or no.
    Bool,
    /// An instant.
    Datetime,
}

impl Temporal {
    /// The custom search attributes of the cluster by name. One of a type this version does not know is left out.
    ///
    /// # Errors
    /// See [`TemporalError`].
    pub async fn search_attributes(&self) -> Result<BTreeMap<String, AttributeType>, TemporalError> {
        let answer = self
            .read("ListSearchAttributes", None, |_| {
                let mut operator = OperatorServiceClient::new(self.wire.clone());
                let request = self.request(ListSearchAttributesRequest::default());
                async move { operator.list_search_attributes(request).await }
            })
            .await?;
        let known = answer.custom_attributes.into_iter().filter_map(|(name, kind)| {
            let kind = match IndexedValueType::try_from(kind).ok()? {
                IndexedValueType::Text => AttributeType::Text,
                IndexedValueType::Keyword => AttributeType::Keyword,
                IndexedValueType::KeywordList => AttributeType::KeywordList,
                IndexedValueType::Int => AttributeType::Int,
                IndexedValueType::Double => AttributeType::Double,
                IndexedValueType::Bool => AttributeType::Bool,
                IndexedValueType::Datetime => AttributeType::Datetime,
                IndexedValueType::Unspecified => return None,
            };
            Some((name, kind))
        });
        Ok(known.collect())
    }
}
