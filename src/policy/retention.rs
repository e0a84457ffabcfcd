//! `policies/retention.yaml`: how long each namespace keeps the history of closed runs.

mod names;

pub use names::{DataKey, NamePattern, NamespaceName, Text, glob_matches};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::units::{Size, Span};

/// Temporal's own namespace. It keeps 7 days and is never touched.
pub const SYSTEM_NAMESPACE: &str = "temporal-system";

/// The least retention of a local namespace, and of a global one (server default of
/// `system.namespaceMinRetentionLocal` and `system.namespaceMinRetentionGlobal`).
pub const MIN_LOCAL: Span = Span::hours(1);
/// See [`MIN_LOCAL`].
pub const MIN_GLOBAL: Span = Span::days(1);
/// The server silently caps a longer retention to this (100 years of 365 days), so that it would never be reached.
const MAX: Span = Span::days(36_500);
/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionPolicy {
    /// The retention of every registered namespace in scope that `namespaces` does not give one of its own.
    pub default: Retention,
    /// Which namespaces `default` is for. A namespace named in `namespaces` is in scope whatever stands here.
    pub applies_to: Vec<NamePattern>,
    /// Which namespaces to leave alone, although `applies_to` matches them.
    pub ignore: Vec<NamePattern>,
    /// Whether a retention may become shorter without somebody saying yes to it.
    pub allow_shortening: bool,
    /// The namespaces with settings of their own.
    pub namespaces: BTreeMap<NamespaceName, NamespacePolicy>,
    /// What is done about closed runs that are still there after their retention.
    pub overdue: OverduePolicy,
    /// What is done about histories that nothing refers to.
    pub orphans: OrphanPolicy,
    /// What the audit finds worth a word.
    pub audit: AuditPolicy,
    /// How gently Temporal's tables are read as a whole.
    pub scan: ScanPolicy,
}

/// Closed runs that are still there after their retention.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct OverduePolicy {
    /// What is done about them.
    pub action: OverdueAction,
    /// They are overdue only so long after their retention has ended.
    pub slack: Span,
    /// At most so many in one run of the job.
    pub most: u32,
    /// At most so many a second.
    pub per_second: u32,
}

/// What is done about an overdue run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OverdueAction {
    /// It is not looked for.
    Ignore,
    /// It is counted.
    Report,
    /// Temporal derives its deletion timer anew, from its end and the retention of now, and deletes it itself.
    #[default]
    Refresh,
    /// Temporal is told to delete it.
    Delete,
}

/// Histories that nothing refers to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct OrphanPolicy {
    /// What is done about them.
    pub action: OrphanAction,
    /// Younger ones are left alone: a history is written before its run.
    pub min_age: OrphanAge,
    /// At most so many trees in one run of the job.
    pub most: u32,
}

/// What is done about a history that nothing refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OrphanAction {
    /// It is counted, by the audit.
    #[default]
    Report,
    /// It is removed from Temporal's tables.
    Delete,
}

/// The age of an orphan that may be removed: at least 7 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "Span")]
pub struct OrphanAge(Span);

impl OrphanAge {
    const LEAST: Span = Span::days(7);

    /// As a span.
    #[must_use]
    pub const fn span(self) -> Span {
        self.0
    }
}

impl TryFrom<Span> for OrphanAge {
    type Error = String;

    fn try_from(span: Span) -> Result<Self, String> {
        if span < Self::LEAST {
            return Err(format!(
                "an orphan of {span} is too young to tell; its run may be about to come. Write {} or more",
                Self::LEAST
            ));
        }
        Ok(Self(span))
    }
}

/// What the audit finds worth a word.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditPolicy {
    /// An open run older than this: it has no end in sight, and so no retention.
    pub open_longer_than: Span,
    /// How large the disk of Temporal's database is, for the day on which it will be full.
    pub disk: Option<Size>,
}

impl Default for OverduePolicy {
    fn default() -> Self {
        Self { action: OverdueAction::default(), slack: Span::hours(2), most: 10_000, per_second: 50 }
    }
}

impl Default for OrphanPolicy {
    fn default() -> Self {
        Self { action: OrphanAction::default(), min_age: OrphanAge(OrphanAge::LEAST), most: 10_000 }
    }
}

impl Default for AuditPolicy {
    fn default() -> Self {
        Self { open_longer_than: Span::days(30), disk: None }
    }
}

/// How gently Temporal's tables are read as a whole, by the audit and by what looks for overdue runs and orphans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScanPolicy {
    /// At most so many bytes of tables and indexes a second; `None` reads as fast as it goes.
    pub rate: Option<Size>,
    /// No statement, and so no snapshot, lasts longer: an old snapshot keeps vacuum from its work.
    pub max_snapshot: Span,
}

impl Default for ScanPolicy {
    fn default() -> Self {
        Self { rate: None, max_snapshot: Span::minutes(10) }
    }
}

/// What is wanted of one namespace. What is not given is left as it is; the retention then is the default one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct NamespacePolicy {
    /// Instead of the default.
    pub retention: Option<Retention>,
    /// Instead of the policy's own `allow_shortening`.
    pub allow_shortening: Option<bool>,
    /// The owner's e-mail address.
    pub owner: Option<Text>,
    /// Free text.
    pub description: Option<Text>,
    /// Keys and values of the user's own. Keys that are not named stay as they are.
    pub data: BTreeMap<DataKey, String>,
    /// Register the namespace when it does not exist.
    pub ensure: bool,
}

impl Default for RetentionPolicy {
    fn default() -> Self {
        Self {
            default: Retention(Span::days(30)),
            applies_to: vec![NamePattern("*".into())],
            ignore: Vec::new(),
            allow_shortening: false,
            namespaces: BTreeMap::new(),
            overdue: OverduePolicy::default(),
            orphans: OrphanPolicy::default(),
            audit: AuditPolicy::default(),
            scan: ScanPolicy::default(),
        }
    }
}

impl RetentionPolicy {
    /// Checks what one field alone cannot know.
    ///
    /// # Errors
    /// One sentence, with what to do, when a namespace is both named and ignored by its exact name.
    pub fn validate(&self) -> Result<(), String> {
        if self.scan.max_snapshot < Span::seconds(1) {
            return Err("`scan.max_snapshot` is so short that no statement would end in time; write 1s or more".into());
        }
        if self.scan.rate.is_some_and(|rate| rate.as_bytes() < 1_024) {
            return Err("`scan.rate` is so low that no scan would come to its end; write 1kb or more".into());
        }
        for (key, value) in [
            ("overdue.most", self.overdue.most),
            ("overdue.per_second", self.overdue.per_second),
            ("orphans.most", self.orphans.most),
        ] {
            if value == 0 {
                return Err(format!("`{key}` is 0, so that nothing would ever be done; write 1 or more"));
            }
        }
        for pattern in &self.ignore {
            if self.namespaces.keys().any(|name| name.as_str() == pattern.as_str()) {
                return Err(format!(
                    "`{pattern}` stands under both `ignore` and `namespaces`; remove it from one of them"
                ));
            }
        }
        Ok(())
    }

    /// Whether the policy is for a namespace, by name or by the default.
    #[must_use]
    pub fn is_for(&self, name: &str) -> bool {
        self.names(name) || self.covers(name)
    }

    /// Whether `namespaces` has this one: what is out of use is only seen to when it is.
    #[must_use]
    pub fn names(&self, name: &str) -> bool {
        self.namespaces.keys().any(|named| named.as_str() == name)
    }

    /// Whether the default is meant for a namespace that `namespaces` does not name.
    #[must_use]
    pub fn covers(&self, name: &str) -> bool {
        let any = |patterns: &[NamePattern]| patterns.iter().any(|pattern| pattern.matches(name));
        name != SYSTEM_NAMESPACE && any(&self.applies_to) && !any(&self.ignore)
    }
}

/// How long a closed run is kept: from one hour to 36500 days, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "Span")]
pub struct Retention(Span);

impl Retention {
    /// As a span.
    #[must_use]
    pub const fn span(self) -> Span {
        self.0
    }
}

impl TryFrom<Span> for Retention {
    type Error = String;

    fn try_from(span: Span) -> Result<Self, String> {
        if span < MIN_LOCAL {
            return Err(format!(
                "a retention of {span} is too short; Temporal keeps closed runs for {MIN_LOCAL} at least"
            ));
        }
        if span > MAX {
            return Err(format!("a retention of {span} is too long; Temporal caps it at {MAX}"));
        }
        if !span.as_millis().is_multiple_of(1000) {
            return Err(format!("a retention of {span} is not in whole seconds; write whole seconds"));
        }
        Ok(Self(span))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<RetentionPolicy, String> {
        let policy: RetentionPolicy = serde_saphyr::from_str(yaml).map_err(|error| error.to_string())?;
        policy.validate()?;
        Ok(policy)
    }

    #[test]
    fn the_shipped_policy_is_the_default() {
        assert_eq!(read(include_str!("../../policies/retention.yaml")), Ok(RetentionPolicy::default()));
    }

    #[test]
    fn a_full_policy_is_read() {
        let policy = read(
            "default: 14d\napplies_to: ['prod-*']\nignore: ['prod-tmp-*']\nnamespaces:\n  orders:\n    retention: 90d\n    owner: a@b.c\n    description: Orders\n    data: {tier: gold, 'cost center': ''}\n    allow_shortening: true\n    ensure: true\n  billing: {}\n",
        )
        .unwrap();
        let orders = &policy.namespaces[&NamespaceName("orders".into())];
        assert_eq!(orders.retention.map(Retention::span), Some(Span::days(90)));
        assert_eq!(orders.owner.as_ref().map(Text::as_str), Some("a@b.c"));
        assert!(orders.ensure);
        let data: Vec<_> = orders.data.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(data, [("cost center", ""), ("tier", "gold")]);
        assert_eq!((policy.allow_shortening, orders.allow_shortening), (false, Some(true)));
        assert_eq!(policy.namespaces[&NamespaceName("billing".into())], NamespacePolicy::default());
        assert!(policy.covers("prod-x") && !policy.covers("prod-tmp-x") && !policy.covers("other"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let check = |yaml: &str, expect: &str| match read(yaml) {
            Ok(policy) => panic!("{yaml}: accepted as {policy:?}"),
            Err(error) => assert!(error.contains(expect), "{yaml}: {error}"),
        };
        check("default: 30", "is not a duration");
        check("default: 59m", "too short");
        check("default: 0s", "too short");
        check("default: 40000d", "too long");
        check("default: 3600001ms", "whole seconds");
        check("retention: 30d", "unknown field");
        check("namespaces: {orders: {retentoin: 3d}}", "unknown field");
        check("namespaces: {temporal-system: {retention: 3d}}", "never touched");
        check("namespaces: {'team-*': {retention: 3d}}", "is a pattern");
        check("namespaces: {'': {}}", "is empty");
        check("namespaces: {'a b': {}}", "has a space");
        check("namespaces: {a: {owner: ''}}", "back to empty");
        check("namespaces: {a: {description: ' '}}", "back to empty");
        check("namespaces: {a: {data: {'': x}}}", "is empty");
        check("namespaces: {a: {data: {k: [x]}}}", "string");
        check("namespaces: {a: {data: {k: x, k: y}}}", "duplicate");
        check("namespaces: {a: {allow_shortening: perhaps}}", "bool");
        check("namespaces: {a: {}, a: {}}", "duplicate");
        check("namespaces: {a: {}}\nignore: [a]", "both `ignore` and `namespaces`");
        check("ignore: ['']", "is empty");
        check(&format!("ignore: ['{}']", "x".repeat(1001)), "longer than 1000 bytes");
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        let check = |pattern: &str, name: &str, expect: bool| {
            let pattern = NamePattern::try_from(pattern.to_owned()).unwrap();
            assert_eq!(pattern.matches(name), expect, "{pattern} {name}");
        };
        check("*", "anything", true);
        check("orders", "orders", true);
        check("orders", "orders2", false);
        check("orders", "my-orders", false);
        check("team-*", "team-a", true);
        check("team-*", "team-", true);
        check("team-*", "my-team-a", false);
        check("*-staging", "a-staging", true);
        check("*-staging", "a-staging-b", false);
        check("a*b*c", "a-b-b-c", true);
        check("a*b*c", "a-c", false);
        check("ab*ba", "aba", false);
        check("**", "x", true);
    }

    #[test]
    fn the_systems_namespace_is_never_covered() {
        assert!(!RetentionPolicy::default().covers(SYSTEM_NAMESPACE));
    }
}
