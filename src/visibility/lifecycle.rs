//! The steps that set the engine's lifecycle management, each after another look at what it replaces.

use serde_json::json;

use super::DriverKind;
use super::apply::still_writes;
use super::error::VisibilityError;
use super::rollover::ism::ROLLOVER_ALIAS;
use super::step::{Found, Step, key};
use crate::clients::search::{Resolved, Search, SearchError};

/// Executes one of those steps and says what was set; `None` when there was nothing left to set.
pub(super) async fn execute(step: &Step, search: &Search) -> Result<Option<String>, VisibilityError> {
    match step {
        Step::PutLifecyclePolicy { driver, name, policy, found, to, .. } => {
            let changed = || stale(format!("the policy {name} was changed by somebody else meanwhile"));
            match driver {
                DriverKind::Ism => {
                    match search.put_state_policy(name, policy, found.and_then(|found| found.guard)).await {
                        Err(SearchError::Unexpected { status: 409, .. }) => return Err(changed()),
                        other => other?,
                    }
                }
                _ => {
                    // ILM takes no condition along, so that a change in this very instant would be lost.
                    let version = search.lifecycle_policy(name).await?.map(|stored| stored.version);
                    if version != found.map(|Found { version, .. }| version) {
                        return Err(changed());
                    }
                    search.put_lifecycle_policy(name, policy).await?;
                }
            }
            Ok(Some(format!("{} policy {name}: {to}", key(*driver))))
        }
        Step::AttachPolicy { driver: DriverKind::Ism, index, policy, alias, .. } => {
            still_member(search, alias, index).await?;
            search.set_settings(index, json!({ ROLLOVER_ALIAS: alias })).await?;
            // A new index may have come under the policy by the policy's own template since the plan was made.
            match managed_by(search, index).await? {
                None => search.add_state_policy(index, policy).await?,
                Some(other) if other == *policy => {}
                Some(other) => return Err(stale(format!("{index} has come under the policy {other}"))),
            }
            Ok(Some(format!("index {index}: ism policy {policy}")))
        }
        Step::AttachPolicy { index, policy, alias, from, rolled, .. } => {
            if *rolled {
                still_member(search, alias, index).await?;
            } else {
                still_writes(search, alias, index).await?;
            }
            let facts = search.index_facts(index).await?;
            if let Some(other) = facts.first().and_then(|facts| facts.lifecycle.clone())
                && Some(&other) != from.as_ref()
                && other != *policy
            {
                return Err(stale(format!("{index} has come under the policy {other}")));
            }
            let mut settings = json!({ "index.lifecycle.name": policy, "index.lifecycle.rollover_alias": alias });
            if *rolled {
                // ILM does not try to roll it then, and counts its age from now on.
                settings["index.lifecycle.indexing_complete"] = json!(true);
            }
            search.set_settings(index, settings).await?;
            Ok(Some(format!("index {index}: ilm policy {policy}")))
        }
        Step::ChangePolicy { index, policy, alias, restart, .. } => {
            still_member(search, alias, index).await?;
            match managed_by(search, index).await? {
                Some(managing) if managing == *policy => {}
                Some(other) => return Err(stale(format!("{index} has come under the policy {other}"))),
                None => return Err(stale(format!("{index} is no longer managed by ISM"))),
            }
            if *restart {
                search.remove_state_policy(index).await?;
                search.add_state_policy(index, policy).await?;
            } else {
                search.change_state_policy(index, policy).await?;
            }
            Ok(Some(format!("index {index}: ism policy {policy} as it is now")))
        }
        _ => Ok(None),
    }
}

fn stale(why: String) -> VisibilityError {
    VisibilityError::Stale(why)
}

async fn still_member(search: &Search, alias: &str, index: &str) -> Result<(), VisibilityError> {
    match search.resolve(alias).await? {
        Resolved::Alias(found) if found.members.contains_key(index) => Ok(()),
        _ => Err(stale(format!("{index} is no longer behind {alias}"))),
    }
}

async fn managed_by(search: &Search, index: &str) -> Result<Option<String>, SearchError> {
    let managed = search.state_management(index).await?.unwrap_or_default();
    Ok(managed.get(index).map(|managed| managed.policy.clone()))
}
