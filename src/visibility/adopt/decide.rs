//! The decision: what was observed in, a plan or a refusal out.

use super::Method;
use super::cleanup::Cleanup;
use super::error::AdoptRefusal;
use super::marks::{LONGEST_NAME, Mark, numbered};
use super::observe::{AUTO_CREATE, DISK_THRESHOLD, LOW_WATERMARK, Live, Part, World};
use super::plan::{AdoptPlan, Adoption, Leftovers, Way};
use crate::clients::search::{Health, NodeDisk, Template, WriteBlock};
use crate::policy::retention::glob_matches;
use crate::policy::visibility::VisibilityPolicy;
use crate::units::{Size, Span};
use crate::visibility::rollover::{own_template, template_step};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// How the documents are to get over.
    pub method: Method,
    /// How long writes may be blocked.
    pub deadline: Span,
}

impl Wanted {
    /// Below that hardly any adoption would succeed.
    pub const SHORTEST: Span = Span::seconds(5);
    /// Temporal gives a write up after about an hour.
    pub const LONGEST: Span = Span::minutes(30);
}

/// What the rest of the site says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// The longest retention of any namespace; `None` while it is not known.
    pub longest_retention: Option<Span>,
    /// Whether Temporal reads single documents.
    pub cleanup: Cleanup,
}

/// What to do about what was observed.
///
/// # Errors
/// The [`AdoptRefusal`] when adopting would be wrong.
pub fn decide(
    world: &World,
    policy: &VisibilityPolicy,
    wanted: Wanted,
    around: &Surroundings,
) -> Result<AdoptPlan, AdoptRefusal> {
    let index = policy.index.as_str().to_owned();
    let live = match world {
        World::Missing => return Err(AdoptRefusal::Missing(index)),
        World::Alias { members } => {
            let notes = vec![format!("{index} is an alias already, of {}", members.join(", "))];
            return Ok(AdoptPlan { index, adoption: None, notes });
        }
        World::Concrete(live) => live,
    };
    if !(Wanted::SHORTEST..=Wanted::LONGEST).contains(&wanted.deadline) {
        return Err(AdoptRefusal::Deadline(wanted.deadline));
    }
    let way = way(live, wanted.method)?;
    let leftovers = leftovers(live, way)?;
    permitted(live, way)?;
    sound(live, &leftovers)?;
    fits(policy, around)?;
    room(live, way)?;
    let read = numbered(&index, 1);
    let adoption = Adoption {
        uuid: live.uuid.clone(),
        way,
        docs: live.docs,
        bytes: live.bytes,
        deadline: wanted.deadline,
        resumes: way == Way::Copy && live.first(Part::Copy) == Some(&read),
        leftovers,
        template: template_step(&index, live.template.as_ref(), template(live)),
        read,
        write: numbered(&index, 2),
    };
    Ok(AdoptPlan { notes: notes(live, around), adoption: Some(adoption), index })
}

fn way(live: &Live, method: Method) -> Result<Way, AdoptRefusal> {
    match (method, live.engine.can_clone()) {
        (Method::Copy, _) | (Method::Auto, false) => Ok(Way::Copy),
        (Method::Auto | Method::Clone, true) => Ok(Way::Clone),
        (Method::Clone, false) => Err(AdoptRefusal::NoClone(live.engine.to_string())),
    }
}

/// What has to be undone first. An index of the family that no adoption of this live index made is never touched, and
/// stands in the way of the alias's next rollovers.
fn leftovers(live: &Live, way: Way) -> Result<Leftovers, AdoptRefusal> {
    let mut left =
        Leftovers { marks: live.adoptions().into_iter().map(|(alias, _)| alias).collect(), ..Leftovers::default() };
    left.blocked = live.write != WriteBlock::Off && !left.marks.is_empty();
    for (name, found) in &live.numbered {
        match found.part {
            Part::Foreign => {
                return Err(AdoptRefusal::Taken { index: live.name.clone(), found: name.clone() });
            }
            Part::Next if found.writes.is_none() => return Err(AdoptRefusal::Silent { found: name.clone() }),
            Part::Next if found.writes > Some(0) => {
                return Err(AdoptRefusal::NotEmpty { found: name.clone(), writes: found.writes.unwrap_or_default() });
            }
            // What was copied stays good: versions say what is still to be copied.
            Part::Copy if way == Way::Copy => {}
            Part::Next | Part::Clone | Part::Copy | Part::Key => left.indices.push(name.clone()),
        }
    }
    Ok(left)
}

/// Only a copy writes documents.
fn permitted(live: &Live, way: Way) -> Result<(), AdoptRefusal> {
    let needed = |missing: &&String| way == Way::Copy || !missing.starts_with("`write`");
    let missing: Vec<String> = live.missing_privileges.iter().flatten().filter(needed).cloned().collect();
    if missing.is_empty() { Ok(()) } else { Err(AdoptRefusal::Privileges { missing }) }
}

/// A live index that can be worked with.
fn sound(live: &Live, leftovers: &Leftovers) -> Result<(), AdoptRefusal> {
    let name = || live.name.clone();
    if live.name.len() > LONGEST_NAME {
        return Err(AdoptRefusal::TooLong(name()));
    }
    if live.closed {
        return Err(AdoptRefusal::Closed(name()));
    }
    if live.health != Some(Health::Green) {
        return Err(AdoptRefusal::NotGreen { index: name(), health: live.health });
    }
    if live.index.blocks("read_only_allow_delete") {
        return Err(AdoptRefusal::FloodStage(name()));
    }
    if live.write != WriteBlock::Off && !leftovers.blocked {
        return Err(AdoptRefusal::WriteBlocked { index: name(), begun: live.write == WriteBlock::Begun });
    }
    if let Some(block) = ["read_only", "metadata", "read"].into_iter().find(|block| live.index.blocks(block)) {
        return Err(AdoptRefusal::Blocked { index: name(), block: block.to_owned() });
    }
    let aliases: Vec<String> =
        live.index.aliases.iter().filter(|alias| Mark::read(&live.name, alias).is_none()).cloned().collect();
    if !aliases.is_empty() {
        return Err(AdoptRefusal::Aliased { index: name(), aliases });
    }
    if let Some(policy) = &live.policy {
        return Err(AdoptRefusal::Managed { index: name(), policy: policy.clone() });
    }
    Ok(())
}

/// What would go wrong after the adoption.
fn fits(policy: &VisibilityPolicy, around: &Surroundings) -> Result<(), AdoptRefusal> {
    let life = policy.shortest_life();
    if let Some(retention) = around.longest_retention.filter(|retention| *retention > life) {
        return Err(AdoptRefusal::Retention { retention, life });
    }
    match &around.cleanup {
        Cleanup::Seen { workflow } => Err(AdoptRefusal::CloseCleanup { workflow: workflow.clone() }),
        Cleanup::NotSeen { .. } | Cleanup::Unknown { .. } => Ok(()),
    }
}

/// A clone's primaries are hard links; its replicas are copies, and so is everything of a copy. The live index goes
/// only after them.
fn room(live: &Live, way: Way) -> Result<(), AdoptRefusal> {
    let needed = match way {
        Way::Clone => live.all_bytes.saturating_sub(live.bytes),
        Way::Copy => live.all_bytes,
    };
    let kept = |disk: &NodeDisk| match live.cluster.get(LOW_WATERMARK) {
        Some(watermark) if live.cluster.get(DISK_THRESHOLD).is_none_or(|on| on != "false") => {
            reserve(watermark, disk.total)
        }
        _ => 0,
    };
    let room = live.disks.iter().map(|disk| disk.available.saturating_sub(kept(disk))).fold(0_u64, u64::saturating_add);
    // Nodes that do not tell are no reason to refuse.
    if live.disks.is_empty() || needed <= room { Ok(()) } else { Err(AdoptRefusal::Disk { needed, room }) }
}

/// The bytes of a disk that a watermark keeps free. It is written as what may be used (`85%`, `0.85`) or as what has to
/// stay free (`50gb`).
pub(super) fn reserve(watermark: &str, total: u64) -> u64 {
    let ratio = match watermark.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().ok().map(|percent| percent / 100.0),
        None => watermark.parse::<f64>().ok(),
    };
    match ratio.filter(|ratio| (0.0..=1.0).contains(ratio)) {
        // Thousandths are exact enough, and stay in whole numbers.
        Some(used) => (total / 1_000).saturating_mul(1_000 - (used * 1_000.0).round() as u64),
        None => watermark.parse::<Size>().map_or(0, Size::as_bytes),
    }
}

/// Whether a write to a name that does not exist would create an index. The setting is true, false, or patterns, of
/// which the first that matches decides; where none matches nothing is created.
pub(super) fn creates(setting: Option<&str>, name: &str) -> bool {
    match setting {
        None | Some("true") => true,
        Some("false") => false,
        Some(patterns) => {
            let patterns = patterns.trim_matches(['[', ']']).split(',').map(|pattern| pattern.trim().trim_matches('"'));
            let mut matching = patterns.filter_map(|pattern| {
                let (creates, glob) = match pattern.strip_prefix('-') {
                    Some(glob) => (false, glob),
                    None => (true, pattern.strip_prefix('+').unwrap_or(pattern)),
                };
                glob_matches(glob, name).then_some(creates)
            });
            matching.next().unwrap_or(false)
        }
    }
}

/// sexton's template with the live index's mapping; its settings are the rollover driver's business.
fn template(live: &Live) -> Template {
    match &live.template {
        Some(existing) => Template { mappings: live.index.mapping.clone(), ..existing.clone() },
        None => own_template(&live.name, &numbered(&live.name, 2), &[], &live.index.mapping),
    }
}

fn notes(live: &Live, around: &Surroundings) -> Vec<String> {
    let name = &live.name;
    let mut notes = Vec::new();
    if creates(live.cluster.get(AUTO_CREATE).map(String::as_str), name) {
        notes.push(format!(
            "`{AUTO_CREATE}` allows {name} to be created by a write: if the alias ever vanished, an index would take its place; exclude the name"
        ));
    }
    if around.longest_retention.is_none() {
        notes.push("the namespaces' retentions are not known, so they were not compared with the deletion age".into());
    }
    if let Cleanup::Unknown { reason } = &around.cleanup {
        notes.push(format!("whether close-workflow cleanup is on is not known: {reason}"));
    }
    notes.push("with Temporal's Helm chart set `manageSchema: false` for the visibility store: its `create-index` fails on an alias".into());
    notes
}

#[cfg(test)]
mod tests;
