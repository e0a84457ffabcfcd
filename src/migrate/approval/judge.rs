//! The one rule about an approval of a beginning: the newest one counts, whatever became of it.

use uuid::Uuid;

use super::Approval;
use crate::migrate::fingerprint::Fingerprint;
use crate::migrate::names::Digest;

/// How much the source may have grown since it was approved, in percent: the window that was agreed to grows with it.
const GROWTH: i64 = 30;

/// An approval and the source it was given for.
pub(crate) struct Kept {
    pub(crate) approval: Approval,
    /// `None` when another version has written it in another form.
    pub(super) source: Option<Fingerprint>,
    /// The size of the source, in bytes.
    pub(super) bytes: i64,
}

impl Kept {
    /// How what is there now differs from what was approved, each seen by the same look.
    pub(super) fn differences(&self, now: &Fingerprint, look: impl Fn(&Fingerprint) -> Fingerprint) -> Option<String> {
        let found = match &self.source {
            Some(before) => look(now).differences(&look(before)),
            None => vec!["the fingerprint of the approval cannot be read".to_owned()],
        };
        (!found.is_empty()).then(|| found.join("; "))
    }
}

/// How it is with the approval of a beginning, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Judged {
    /// This one is open, and for what there is now.
    Good(Uuid),
    /// There is none, or it was used.
    Awaited(String),
    /// There is one that has ended, or is for something else.
    Stale(String),
}

/// Judges the approvals of a migration, the newest first, by what it is now.
pub(crate) fn judge(approvals: &[Kept], plan: &Digest, source: &Fingerprint) -> Judged {
    let Some(kept) = approvals.iter().find(|kept| kept.approval.step.is_none()) else {
        return Judged::Awaited("nobody has approved it".to_owned());
    };
    let Approval { id, by, expires, plan: approved, state, .. } = &kept.approval;
    match state.as_str() {
        "open" => {}
        "expired" => return Judged::Stale(format!("the approval of {by} expired at {expires}")),
        "revoked" => return Judged::Stale(format!("the approval of {by} was revoked")),
        _ => return Judged::Awaited(format!("the approval of {by} was used already")),
    }
    if approved != plan {
        return Judged::Stale(format!(
            "{by} approved another plan (digest {approved}); the recipe or its parameters give {plan} now"
        ));
    }
    if let Some(differences) = kept.differences(source, Fingerprint::clone) {
        return Judged::Stale(format!("{by} approved it for another source: {differences}"));
    }
    if source.bytes() > kept.bytes.saturating_add(kept.bytes / 100 * GROWTH) {
        let (was, is) = (kept.bytes, source.bytes());
        return Judged::Stale(format!("the source has grown from {was} to {is} bytes since {by} approved it"));
    }
    Judged::Good(*id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::migrate::fingerprint::DatabasePrint;

    fn source(oid: i64, bytes: i64) -> Fingerprint {
        let (name, schema_version, shape) = ("temporal".to_owned(), String::new(), String::new());
        let databases = vec![DatabasePrint { name, oid, schema_version, shape, bytes }];
        Fingerprint { server: "7".into(), version: 150_018, settings: BTreeMap::new(), databases, target: None }
    }

    fn kept(n: u128, state: &str, plan: &Digest) -> Kept {
        let (at, expires) = ("2026-01-31T02:00:00Z".parse().unwrap(), "2026-02-01T02:00:00Z".parse().unwrap());
        let (source, bytes) = (source(1, 1_000), 1_000);
        let (by, state) = ("Ada".to_owned(), state.to_owned());
        let of = source.digest().to_string();
        let id = Uuid::from_u128(n);
        let approval = Approval { id, step: None, plan: plan.clone(), source: of, by, at, expires, state };
        Kept { approval, source: Some(source), bytes }
    }

    #[test]
    fn the_newest_one_counts_whatever_became_of_it() {
        let (plan, other) = (Digest::of(&1), Digest::of(&2));
        let check = |approvals: &[Kept], source: &Fingerprint, expect: &str| {
            let said = match judge(approvals, &plan, source) {
                Judged::Good(id) => format!("good {}", id.as_u128()),
                Judged::Awaited(why) => format!("awaited: {why}"),
                Judged::Stale(why) => format!("stale: {why}"),
            };
            assert!(said.contains(expect), "{said} is not {expect}");
        };
        let now = source(1, 1_300);
        check(&[], &now, "awaited: nobody has approved it");
        check(&[kept(1, "open", &plan)], &now, "good 1");
        // An open one that is older does not count any more.
        let older = || kept(1, "open", &plan);
        check(&[kept(2, "used", &plan), older()], &now, "awaited: the approval of Ada was used already");
        check(
            &[kept(2, "expired", &plan), older()],
            &now,
            "stale: the approval of Ada expired at 2026-02-01T02:00:00Z",
        );
        check(&[kept(2, "revoked", &plan), older()], &now, "stale: the approval of Ada was revoked");
        check(&[kept(2, "open", &other), older()], &now, "stale: Ada approved another plan");
        let mut step = kept(2, "used", &plan);
        step.approval.step = Some("sure".to_owned());
        check(&[step, older()], &now, "good 1");
        check(&[older()], &source(2, 1_000), "stale: Ada approved it for another source: the OID");
        check(&[older()], &source(1, 1_301), "stale: the source has grown from 1000 to 1301 bytes");
        check(&[Kept { source: None, ..older() }], &now, "the fingerprint of the approval cannot be read");
    }
}
