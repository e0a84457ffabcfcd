//! sexton rolls by itself with `_rollover`, on any engine: age from the engine's clock, judged by the engine.

use async_trait::async_trait;

use super::{Driver, DriverState, conditions, own_name, own_template, template_step};
use crate::clients::search::{Search, SearchError};
use crate::policy::visibility::VisibilityPolicy;
use crate::visibility::observe::{AliasState, IndexState};
use crate::visibility::step::Step;
use crate::visibility::{DriverKind, Refusal};

/// The driver for engines without lifecycle management.
#[derive(Debug, Clone, Copy)]
pub struct Daemon;

#[async_trait]
impl Driver for Daemon {
    fn kind(&self) -> DriverKind {
        DriverKind::Daemon
    }

    async fn observe(
        &self,
        search: &Search,
        policy: &VisibilityPolicy,
        alias: &AliasState,
    ) -> Result<DriverState, SearchError> {
        // The engine cannot name the next index unless this one ends in a number; the decision refuses that.
        let named =
            alias.write_index().is_some_and(|write| super::super::sound::rolls_by_name(&alias.name, &write.name));
        let dry_run = if named { Some(search.rollover_dry_run(&alias.name, &conditions(policy)).await?) } else { None };
        let template = search.template(&own_name(&alias.name)).await?;
        Ok(DriverState { template, dry_run, ..DriverState::default() })
    }

    fn decide(
        &self,
        alias: &AliasState,
        write: &IndexState,
        policy: &VisibilityPolicy,
    ) -> Result<(Vec<Step>, Vec<String>), Refusal> {
        let own = own_name(&alias.name);
        // An old index too: its policy may still delete it.
        if let Some(index) = alias.indices.iter().find(|index| index.policy.as_ref() == Some(&own)) {
            let manager = if alias.has_lifecycle { DriverKind::Ilm } else { DriverKind::Ism };
            return Err(Refusal::TwoDrivers { index: index.name.clone(), policy: own, manager });
        }
        let (mut steps, mut notes) = (Vec::new(), Vec::new());
        let Some(state) = &alias.driver else { return Ok((steps, notes)) };
        let wanted = own_template(&alias.name, &write.name, &[], &write.mapping);
        steps.extend(template_step(&alias.name, state.template.as_ref(), wanted));
        let Some(dry_run) = state.dry_run.as_ref().filter(|dry_run| !dry_run.met.is_empty()) else {
            return Ok((steps, notes));
        };
        if write.documents.is_none_or(|documents| documents.count == 0) {
            notes.push(format!("index {} is due for a rollover but empty, so it stays", write.name));
            return Ok((steps, notes));
        }
        steps.push(Step::Rollover {
            alias: alias.name.clone(),
            from: dry_run.from.clone(),
            to: dry_run.to.clone(),
            conditions: conditions(policy),
            met: dry_run.met.clone(),
            template: own,
        });
        Ok((steps, notes))
    }
}
