//! A retention that becomes shorter: what it makes deletable, and whether this run may do it. Pure.

use crate::units::{counted, human_bytes};

/// Who has agreed to retentions that become shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consent {
    /// Nobody but the policy, where it says `allow_shortening: true`.
    #[default]
    Policy,
    /// A person, for this one run.
    Given,
}

/// A retention that becomes shorter. It is held back until it has been weighed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortening {
    /// Whether the policy allows it.
    pub allowed: bool,
    /// What it makes deletable.
    pub deletable: Deletable,
    /// Why it is not applied; `None` when it is.
    pub held_back: Option<Hold>,
}

/// What a shorter retention makes deletable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deletable {
    /// Counted.
    Known(Expired),
    /// It could not be counted, for this reason.
    Unknown(String),
}

/// Closed runs whose end lies further back than a retention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Expired {
    /// How many.
    pub runs: u64,
    /// Bytes of their histories, as Temporal counts them.
    pub history_bytes: u64,
}

/// Why a shortening is not applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Neither the policy allows it nor did a person.
    NoConsent,
    /// The policy allows it, but what it makes deletable is not known.
    NotCounted,
}

impl Shortening {
    pub(super) fn new(allowed: bool) -> Self {
        let deletable = Deletable::Unknown("they were not counted".into());
        Self { allowed, deletable, held_back: Some(Hold::NoConsent) }
    }

    /// A person's yes is for whatever the plan shows, a number or none; the policy's was written when nobody knew one.
    pub(super) fn weigh(&mut self, deletable: Deletable, consent: Consent) {
        self.held_back = match (consent, self.allowed, &deletable) {
            (Consent::Given, ..) | (Consent::Policy, true, Deletable::Known(_)) => None,
            (Consent::Policy, true, Deletable::Unknown(_)) => Some(Hold::NotCounted),
            (Consent::Policy, false, _) => Some(Hold::NoConsent),
        };
        self.deletable = deletable;
    }

    /// What a reader of the plan has to know before saying yes.
    pub(super) fn explain(&self) -> String {
        match self.held_back {
            Some(hold) => format!("{}; held back: {hold}", self.deletable),
            None => self.deletable.to_string(),
        }
    }
}

impl std::fmt::Display for Deletable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Known(Expired { runs: 0, .. }) => f.write_str("makes no closed run deletable"),
            Self::Known(expired) => {
                let runs = counted(expired.runs, "closed run", "closed runs");
                write!(f, "makes {runs} with {} of history deletable", human_bytes(expired.history_bytes))
            }
            Self::Unknown(why) => write!(f, "how many closed runs it makes deletable is not known: {why}"),
        }
    }
}

impl std::fmt::Display for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoConsent => "needs `--yes` or `allow_shortening: true`",
            Self::NotCounted => "without that number it needs `--yes`",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_agrees_to_a_known_number_and_a_person_to_any() {
        let known = || Deletable::Known(Expired { runs: 2, history_bytes: 2048 });
        let unknown = || Deletable::Unknown("PostgreSQL is away".into());
        let check = |allowed, deletable: Deletable, consent, expect: Option<Hold>| {
            let mut shortening = Shortening::new(allowed);
            assert_eq!(shortening.held_back, Some(Hold::NoConsent), "not weighed yet");
            shortening.weigh(deletable, consent);
            assert_eq!(shortening.held_back, expect, "{shortening:?} {consent:?}");
        };
        check(false, known(), Consent::Policy, Some(Hold::NoConsent));
        check(false, unknown(), Consent::Policy, Some(Hold::NoConsent));
        check(true, known(), Consent::Policy, None);
        check(true, unknown(), Consent::Policy, Some(Hold::NotCounted));
        for allowed in [false, true] {
            check(allowed, known(), Consent::Given, None);
            check(allowed, unknown(), Consent::Given, None);
        }
    }
}
