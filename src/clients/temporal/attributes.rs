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

impl AttributeType {
    /// Whether the name is the type's own with two digits.
    fn registers(self, name: &str) -> bool {
        let digits = name.strip_prefix(&format!("{self:?}"));
        digits.is_some_and(|digits| digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit()))
    }
}

impl Temporal {
    /// The custom search attributes that somebody added to the cluster, by name. Left out are those of a type this
    /// version does not know, and those that Temporal registers by itself for visibility in SQL (`Keyword01`; see
    /// `GetDBIndexSearchAttributes` in the server's source): no search index has them.
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
            (!kind.registers(&name)).then_some((name, kind))
        });
        Ok(known.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_temporal_registers_by_itself_is_told_apart() {
        let check = |kind: AttributeType, name: &str, own: bool| assert_eq!(kind.registers(name), own, "{name}");
        check(AttributeType::Keyword, "Keyword01", true);
        check(AttributeType::KeywordList, "KeywordList03", true);
        check(AttributeType::Keyword, "KeywordList03", false);
        check(AttributeType::Keyword, "CustomerTier", false);
        check(AttributeType::Int, "Int1", false);
        check(AttributeType::Int, "Int001", false);
    }
}
