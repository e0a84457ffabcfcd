//! What is likely to go wrong with a recipe, found without running it: statements that lock, scan or lose more than one
//! would think, steps behind which there is no way back, and steps nobody can tell about after a kill.

mod places;
mod sql;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Serialize, Serializer};

use self::places::List;
pub(super) use self::places::Places;
use super::parameters::{ParameterKind, Values};
use super::recipe::{Recipe, Step};
use super::set::{RecipeError, parse};
use super::steps::{Operation, Reversal};
use crate::document::Document;
use crate::units::Span;

/// A lock that is waited for longer than this makes everybody else queue behind it for as long.
const LONG_LOCK_TIMEOUT: Span = Span::seconds(10);
/// In a comment on the line, or on the one above, it takes the named rules off.
const ALLOW: &str = "lint: allow ";

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A statement that only runs outside of a transaction, in one.
    Transaction,
    /// Several statements where one stands.
    Several,
    /// A table written anew.
    Rewrite,
    /// A table read whole under a lock.
    Scan,
    /// A lock that keeps writers waiting for as long as the statement takes.
    Lock,
    /// A lock that is waited for too long, or without an end.
    LockTimeout,
    /// Rows or what depends on them, gone.
    DataLoss,
    /// A name that running servers know.
    Rename,
    /// A step that cannot be undone, before one that can fail.
    NoWayBack,
    /// A step of which nothing tells after a kill whether it happened.
    Blind,
    /// A parameter that nothing uses.
    Unused,
    /// A statement that was not examined.
    NotParsed,
}

impl Rule {
    /// Its name in comments and in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transaction => "transaction",
            Self::Several => "several",
            Self::Rewrite => "rewrite",
            Self::Scan => "scan",
            Self::Lock => "lock",
            Self::LockTimeout => "lock-timeout",
            Self::DataLoss => "data-loss",
            Self::Rename => "rename",
            Self::NoWayBack => "no-way-back",
            Self::Blind => "blind",
            Self::Unused => "unused",
            Self::NotParsed => "not-parsed",
        }
    }

    /// Whether what it finds fails for certain, rather than under load or on a bad day.
    #[must_use]
    pub const fn is_error(self) -> bool {
        matches!(self, Self::Transaction | Self::Several)
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file.
    pub file: String,
    /// The line, from 1 on.
    pub line: u64,
    /// The rule.
    pub rule: Rule,
    /// True when it fails for certain.
    pub error: bool,
    /// The step; `None` when it is about the whole recipe.
    pub step: Option<String>,
    /// What, and what to do.
    pub message: String,
}

/// Examines a recipe.
///
/// # Errors
/// When it is not one.
pub fn lint(path: &Path, text: &str) -> Result<Vec<Finding>, RecipeError> {
    let recipe = parse(path, text)?;
    let document = Document::new(path, text);
    let mut linting = Linting { path, lines: text.lines().collect(), places: Places::of(&document), found: Vec::new() };
    linting.parameters(&recipe);
    for (position, step) in steps(&recipe).enumerate() {
        linting.step(&recipe, step);
        if step.operation.reversal() == Reversal::Never
            && let Some(next) = steps(&recipe).skip(position + 1).find(|next| can_fail(&next.operation))
        {
            let what = format!(
                "it cannot be undone, and `{}` behind it can fail: there would only be forward; give it an `undo`, or put it last",
                next.name
            );
            linting.about(step, Rule::NoWayBack, what);
        }
    }
    let mut found = linting.found;
    found.sort_by_key(|one| (one.line, one.rule));
    Ok(found)
}

fn steps(recipe: &Recipe) -> impl Iterator<Item = &Step> {
    recipe.stages.iter().flat_map(|stage| &stage.steps)
}

/// What only waits, or asks, fails for no reason that going back would mend.
const fn can_fail(operation: &Operation) -> bool {
    !matches!(operation, Operation::Wait(_) | Operation::Approve(_) | Operation::Health(_) | Operation::WayBack(_))
}

struct Linting<'a> {
    path: &'a Path,
    lines: Vec<&'a str>,
    places: Places,
    found: Vec<Finding>,
}

impl Linting<'_> {
    fn parameters(&mut self, recipe: &Recipe) {
        let steps = steps(recipe).flat_map(|step| step.operation.templates());
        let requires = recipe.requires.iter().map(|one| super::parameters::Placed::Sql(one.query.as_str()));
        let used: BTreeSet<String> =
            steps.chain(requires).flat_map(|text| text.uses().unwrap_or_default()).map(|(name, _)| name).collect();
        for name in recipe.parameters.keys().filter(|name| !used.contains(name.as_str())) {
            let line = self.places.parameter(name.as_str()).map_or(1, |at| at.line());
            self.add(line, Rule::Unused, None, format!("the parameter `{name}` is used nowhere; take it out"));
        }
    }

    fn step(&mut self, recipe: &Recipe, step: &Step) {
        let lock_timeout = match &step.operation {
            // What runs outside of a transaction is CONCURRENTLY, which waits without anybody behind it.
            Operation::Sql(sql) => Some(sql.lock_timeout).filter(|_| sql.transaction),
            Operation::TemporalSchema(schema) => Some(schema.lock_timeout),
            _ => None,
        };
        if let Some(long) = lock_timeout.filter(|span| *span > LONG_LOCK_TIMEOUT) {
            let what = format!(
                "for {long} everybody else would queue behind the lock that it waits for; write {LONG_LOCK_TIMEOUT} at most, and more `attempts`"
            );
            self.about(step, Rule::LockTimeout, what);
        }
        let Operation::Sql(sql) = &step.operation else { return };
        if !sql.transaction && sql.check.is_none() && sql.verify.is_none() {
            let what = "after a kill nothing tells whether it happened; write a `check` or a `verify`";
            self.about(step, Rule::Blind, what.to_owned());
        }
        let Some(values) = values(recipe, step) else { return };
        let Ok(rendered) = sql.render(&values) else { return };
        let queries = [("check", &rendered.check), ("undo_query", &rendered.undo_query), ("verify", &rendered.verify)];
        for (key, query) in queries.into_iter().filter_map(|(key, query)| Some((key, query.as_ref()?))) {
            for (rule, what) in sql::examine(query.as_str(), true) {
                if matches!(rule, Rule::NotParsed | Rule::Several) {
                    self.about(step, rule, format!("`{key}`: {what}"));
                }
            }
        }
        for (list, statements) in [(List::Run, &rendered.run), (List::Undo, &rendered.undo)] {
            for (position, statement) in statements.iter().enumerate() {
                let at = self.places.statement(step.name.as_str(), list, position);
                for (rule, what) in sql::examine(statement.as_str(), sql.transaction) {
                    // What undoes something drops what that has made.
                    if list == List::Undo && rule == Rule::DataLoss {
                        continue;
                    }
                    self.add(at.map_or(1, |at| at.line()), rule, Some(step), what);
                }
            }
        }
    }

    fn about(&mut self, step: &Step, rule: Rule, message: String) {
        let line = self.places.step(step.name.as_str()).map_or(1, |at| at.line());
        self.add(line, rule, Some(step), message);
    }

    fn add(&mut self, line: u64, rule: Rule, step: Option<&Step>, message: String) {
        if self.is_allowed(line, rule) {
            return;
        }
        let (file, step) = (self.path.display().to_string(), step.map(|step| step.name.to_string()));
        self.found.push(Finding { file, line, rule, error: rule.is_error(), step, message });
    }

    fn is_allowed(&self, line: u64, rule: Rule) -> bool {
        let at = usize::try_from(line).unwrap_or(usize::MAX);
        let allows = |line: &str| {
            let comment = line.split_once('#').map_or("", |(_, comment)| comment);
            let named = comment.trim().strip_prefix(ALLOW).unwrap_or_default();
            named.split([',', ' ']).any(|one| one == rule.name())
        };
        // A text that is a block of its own begins below the line that announces it.
        let belongs = |line: &&str| {
            let text = line.split('#').next().unwrap_or_default().trim();
            text.is_empty() || text.ends_with('|') || text.ends_with('>')
        };
        let line = |at: usize| self.lines.get(at).copied();
        let above = at.checked_sub(2).and_then(line).filter(belongs);
        above.into_iter().chain(line(at.saturating_sub(1))).any(allows)
    }
}

/// A value for every parameter: what is looked at is the statement, not the value.
fn values(recipe: &Recipe, step: &Step) -> Option<Values> {
    let some = |kind: ParameterKind| match kind {
        ParameterKind::Integer | ParameterKind::Number => "1",
        ParameterKind::Identifier | ParameterKind::Text => "x",
        ParameterKind::Version => "1.0",
        ParameterKind::Command => "true",
    };
    let given: BTreeMap<String, String> = (recipe.parameters.iter())
        .filter(|(_, parameter)| parameter.default.is_none())
        .map(|(name, parameter)| (name.to_string(), some(parameter.kind).to_owned()))
        .collect();
    let values = Values::new(recipe.parameters.iter().map(|(name, p)| (name.as_str(), p)), &given).ok()?;
    match &step.each {
        Some(each) => values.with_identifier(each.parameter.as_str(), each.of.first()?).ok(),
        None => Some(values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECIPE: &str = "\
name: mine
description: d
database: main
parameters:
  rows: {type: integer, default: 5}
  idle: {type: integer, default: 5}
stages:
  - name: s
    steps:
      - name: first
        do:
          sql:
            lock_timeout: 1m
            run:
              - SELECT ${rows}
              - |
                CREATE INDEX i ON t (n)
      - name: second
        do: {sql: {transaction: false, run: [SELECT 1], undo: [DROP TABLE made]}}
";

    fn found(text: &str) -> Vec<(u64, Rule)> {
        lint(Path::new("r.yaml"), text).unwrap().into_iter().map(|one| (one.line, one.rule)).collect()
    }

    #[test]
    fn what_is_found_has_its_line() {
        use Rule::{Blind, Lock, LockTimeout, NoWayBack, Unused};
        assert_eq!(found(RECIPE), [(6, Unused), (10, LockTimeout), (10, NoWayBack), (17, Lock), (18, Blind)]);
    }

    #[test]
    fn queries_are_read_as_well() {
        let text =
            RECIPE.replace("lock_timeout: 1m", "check: SELCT true\n            verify: SELECT true; SELECT false");
        let of_step = |rule| found(&text).contains(&(10, rule));
        assert!(of_step(Rule::NotParsed) && of_step(Rule::Several), "{:?}", found(&text));
    }

    #[test]
    fn a_comment_takes_a_rule_off() {
        let text = RECIPE
            .replace("- name: first", "- name: first # lint: allow lock-timeout, no-way-back")
            .replace("      - name: second", "      # lint: allow blind\n      - name: second");
        assert_eq!(found(&text), [(6, Rule::Unused), (17, Rule::Lock)]);
        assert_eq!(found(&text.replace("- |", "- | # lint: allow lock")), [(6, Rule::Unused)]);
    }
}
